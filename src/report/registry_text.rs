//! What is registered, as a person reads it in a terminal, and as JSON.

use comfy_table::Table;
use serde::Serialize;

use super::side_by_side::{self, FIT, MetricChange, is_of_class};
use super::terminal::{align_numbers, plain};
use super::words::value;
use crate::registry::VersionRecord;
use crate::shown;

/// The version of the JSON of `detgate registry`; raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// Metrics of a list of versions.
const LISTED: [&str; 4] = ["AP", "AP50", "AR100", "f1"];
/// Hexadecimal digits that tell digests apart.
const DIGEST: usize = 12;

/// Two versions of a model, and the metrics of both.
#[derive(Debug, Serialize)]
pub struct Difference<'a> {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The registered model's name.
    pub model: &'a str,
    /// The first version's number.
    pub before: &'a str,
    /// The second's.
    pub after: &'a str,
    /// Whether both were measured alike; `None` where a version does not tell.
    pub comparable: Option<bool>,
    /// Every metric that either has, in name order.
    pub metrics: Vec<MetricChange>,
}

impl<'a> Difference<'a> {
    /// Puts two versions beside each other.
    pub fn of(model: &'a str, before: &'a VersionRecord, after: &'a VersionRecord) -> Self {
        let fingerprint = |record: &'a VersionRecord| record.tags.get("fingerprint_blake3");
        let both = fingerprint(before).zip(fingerprint(after));
        Self {
            schema: SCHEMA,
            model,
            before: &before.version,
            after: &after.version,
            comparable: both.map(|(before, after)| before == after),
            metrics: side_by_side::changes(&before.metrics, &after.metrics),
        }
    }

    /// The difference as JSON, ending in a line break.
    ///
    /// # Errors
    /// None that what a server said can cause.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// The versions as JSON, ending in a line break.
///
/// # Errors
/// None that what a server said can cause.
pub fn json(model: &str, versions: &[VersionRecord]) -> serde_json::Result<String> {
    let document = serde_json::json!({ "schema": SCHEMA, "model": model, "versions": versions });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// The versions in a table, ending in a line break.
pub fn list(model: &str, versions: &[VersionRecord]) -> String {
    if versions.is_empty() {
        return format!("{} has no versions yet\n", shown::name(model));
    }
    let mut table = plain([
        "version",
        "alias",
        "verdict",
        "AP",
        "AP50",
        "AR100",
        "F1",
        "checkpoint",
        "registered (UTC)",
    ]);
    for version in versions {
        let [ap, ap50, ar100, f1] = LISTED.map(|name| value(version.metrics.get(name).copied()));
        let checkpoint = version
            .params
            .get("checkpoint")
            .map_or_else(|| "-".to_owned(), |name| shown::name(name));
        let verdict = tag(version, "verdict");
        let when = day_and_hour(&version.created);
        table.add_row([
            number(version),
            aliases(version),
            verdict,
            ap,
            ap50,
            ar100,
            f1,
            checkpoint,
            when,
        ]);
    }
    align(&mut table, &[0, 3, 4, 5, 6]);
    format!("{}\n\n{}\n", shown::name(model), table.trim_fmt())
}

/// One version, ending in a line break.
pub fn one(model: &str, version: &VersionRecord) -> String {
    let mut text = format!("{} version {}", shown::name(model), number(version));
    if !version.aliases.is_empty() {
        text += &format!(" ({})", aliases(version));
    }
    text += "\n\n";
    let digest = |name: &str| tag(version, name).chars().take(DIGEST).collect::<String>();
    let param = |name: &str| {
        version.params.get(name).map_or_else(|| "-".to_owned(), |value| shown::name(value))
    };
    let dataset = version.datasets.first();
    let dataset = dataset.map_or_else(
        || tag(version, "ground_truth"),
        |(name, digest)| {
            format!(
                "{} ({})",
                shown::name(name),
                shown::name(&digest.chars().take(DIGEST).collect::<String>())
            )
        },
    );
    let facts = [
        ("verdict", tag(version, "verdict")),
        ("registered", version.created.clone()),
        ("checkpoint", format!("{} ({})", param("checkpoint"), digest("checkpoint_blake3"))),
        ("dataset", dataset),
        ("images", param("num_images")),
        ("fingerprint", digest("fingerprint_blake3")),
        ("git commit", digest("git_commit")),
        ("engine", tag(version, "engine")),
        ("run", shown::name(&version.run_id)),
    ];
    for (name, fact) in facts {
        text += &format!("{name:<12} {fact}\n");
    }
    let mut table = plain(["metric", "value"]);
    let metrics = version.metrics.iter();
    let of_all = metrics.clone().filter(|(name, _)| !name.contains('/') && !is_count(name));
    let of_classes = metrics.filter(|(name, _)| is_of_class(name));
    for (name, metric) in of_all.chain(of_classes.take(FIT)) {
        table.add_row([shown::name(name), value(Some(*metric))]);
    }
    align_numbers(&mut table);
    if version.metrics.is_empty() {
        return text + "\nits run holds no metrics\n";
    }
    text + &format!("\n{}\n", table.trim_fmt())
}

/// Two versions beside each other, ending in a line break.
pub fn difference(difference: &Difference) -> String {
    let [before, after] = [difference.before, difference.after]
        .map(|number| format!("version {}", shown::name(number)));
    let table = side_by_side::table([&before, &after], &difference.metrics);
    let mut text = format!("{}\n\n{table}", shown::name(difference.model));
    match difference.comparable {
        Some(true) => {}
        Some(false) => {
            text += "note: they were measured on other data or with other settings; the changes say little\n"
        }
        None => {
            text += "note: whether they were measured alike is not known: a version was not registered by this detgate\n"
        }
    }
    text
}

/// Numbers of boxes, not qualities.
fn is_count(metric: &str) -> bool {
    matches!(metric, "tp" | "fp" | "fn")
}

fn number(version: &VersionRecord) -> String {
    shown::name(&version.version)
}

fn aliases(version: &VersionRecord) -> String {
    version.aliases.iter().map(|alias| shown::name(alias)).collect::<Vec<_>>().join(", ")
}

fn tag(version: &VersionRecord, name: &str) -> String {
    version.tags.get(name).map_or_else(|| "-".to_owned(), |value| shown::name(value))
}

/// To the minute; the JSON has the second.
fn day_and_hour(time: &str) -> String {
    time.get(..16).map_or_else(|| time.to_owned(), |time| time.replace('T', " "))
}

fn align(table: &mut Table, numbers: &[usize]) {
    for &number in numbers {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
}
