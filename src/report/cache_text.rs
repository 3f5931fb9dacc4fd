//! What `detgate cache` prints.

use std::path::Path;
use std::time::SystemTime;

use super::terminal::{align_numbers, plain};
use crate::inference::cache::{Group, Removed};
use crate::shown;

/// A row for each model and settings, the last used first.
pub fn list(folder: &Path, groups: &[Group]) -> String {
    let mut text = format!("{}\n", folder.display());
    if groups.is_empty() {
        return text + "no predictions are kept\n";
    }
    let mut table = plain(["model", "images", "size", "last used", "settings"]);
    for group in groups {
        let fact = |name: &str| group.facts.get(name).map_or("", String::as_str);
        // Older files have no settings for people.
        let settings = [fact("settings"), fact("model")].into_iter().find(|text| !text.is_empty());
        let engine = format!("{} {}", fact("engine"), fact("kernels"));
        let digest = fact("model_blake3");
        let named = format!("{} {}", fact("file"), digest.get(..8).unwrap_or(digest));
        table.add_row([
            shown::name(&named),
            group.images.to_string(),
            size(group.bytes),
            used(group.used),
            shown::line(&format!("{}; {}", settings.unwrap_or_default(), engine.trim_end())),
        ]);
    }
    align_numbers(&mut table);
    for column in [3, 4] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(comfy_table::CellAlignment::Left);
        }
    }
    text += &format!("{}\n", table.trim_fmt());
    text + &format!("{} in all\n", size(groups.iter().map(|group| group.bytes).sum()))
}

/// What was removed.
pub fn removed(removed: &Removed) -> String {
    let files = shown::count(removed.files, "file");
    format!("removed {files}, {}; {} left\n", size(removed.bytes), size(removed.left))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

fn used(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|_| "-".to_owned(), |time| time.strftime("%Y-%m-%d %H:%M UTC").to_string())
}
