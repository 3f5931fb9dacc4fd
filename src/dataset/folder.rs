//! What ground truth made of many files shares: walking folders, reading text, image ids, the digest,
//! and the errors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::DatasetError;
use super::image::ImageError;

/// The extensions of image files, in lower case. Not all of them can be read; one that cannot is
/// refused by name, rather than missed.
pub(super) const IMAGE_EXTENSIONS: [&str; 13] = [
    "jpg", "jpeg", "png", "bmp", "webp", "tif", "tiff", "gif", "mpo", "heic", "avif", "dng", "pfm",
];

/// Folders of images: Ultralytics' name, and VOC's, which Darknet keeps.
pub(super) const IMAGE_FOLDERS: [&str; 2] = ["images", "JPEGImages"];

/// A file below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// Relative to the folder, parts joined by `/` on every system.
    pub(super) relative: String,
}

impl Found {
    /// Whether the file's name ends in one of `extensions`, in whichever case.
    pub(super) fn has_extension(&self, extensions: &[&str]) -> bool {
        let (_, extension) = split_extension(&self.relative);
        extensions.iter().any(|wanted| extension.eq_ignore_ascii_case(wanted))
    }

    /// Whether it lies in a folder of one of these names, at any depth.
    pub(super) fn lies_in(&self, names: &[&str]) -> bool {
        let mut parts = self.relative.split('/').rev();
        parts.next();
        parts.any(|part| names.contains(&part))
    }
}

/// `a/b.txt` to `a/b` and `txt`. A dot at the start of a name starts no extension.
pub(super) fn split_extension(relative: &str) -> (&str, &str) {
    let name = relative.rfind('/').map_or(0, |slash| slash + 1);
    match relative[name..].rfind('.') {
        Some(dot) if dot > 0 => (&relative[..name + dot], &relative[name + dot + 1..]),
        _ => (relative, ""),
    }
}

/// The file's name without folders and extension.
pub(super) fn stem(relative: &str) -> &str {
    let (whole, _) = split_extension(relative);
    whole.rsplit('/').next().unwrap_or(whole)
}

/// Every file below `root`, sorted by name; links are followed. Hidden files and what macOS leaves in
/// archives are passed over.
pub(super) fn walk(root: &Path) -> Result<Vec<Found>, DatasetError> {
    let mut found = Vec::new();
    descend(root, "", &mut Vec::new(), &mut found)?;
    found.sort_by(|a, b| a.relative.cmp(&b.relative));
    Ok(found)
}

fn descend(
    folder: &Path,
    prefix: &str,
    above: &mut Vec<PathBuf>,
    found: &mut Vec<Found>,
) -> Result<(), DatasetError> {
    let read = |error| DatasetError::Read { path: folder.to_owned(), error };
    let real = folder.canonicalize().map_err(read)?;
    if above.contains(&real) {
        return Err(invalid(folder, "is a link to a folder above it; remove the link"));
    }
    above.push(real);
    for entry in std::fs::read_dir(folder).map_err(read)? {
        let entry = entry.map_err(read)?;
        let path = entry.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(invalid(&path, "the file's name is not UTF-8; rename it"));
        };
        if name.starts_with('.') || name == "__MACOSX" {
            continue;
        }
        let relative = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(read)?;
        if kind.is_dir() || kind.is_symlink() && path.is_dir() {
            descend(&path, &format!("{relative}/"), above, found)?;
        } else {
            found.push(Found { path, relative });
        }
    }
    above.pop();
    Ok(())
}

/// A whole text file, without a byte order mark.
pub(super) fn read_text(path: &Path) -> Result<String, DatasetError> {
    let bytes =
        std::fs::read(path).map_err(|error| DatasetError::Read { path: path.to_owned(), error })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
        at_line(path, line, "is not UTF-8; save the file as UTF-8 text")
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

/// The image ids of `file_names`, in the same order: the number that a stem spells, if no other stem
/// spells the same; all others get numbers above these, in their order.
///
/// Ultralytics writes results with `int(stem) if stem.isnumeric() else stem` as `image_id`
/// (`DetectionValidator.pred_to_json`): numeric stems are found by id, others by their stem.
pub(super) fn image_ids<'a>(file_names: impl Iterator<Item = &'a str>) -> Vec<i64> {
    let numbers: Vec<Option<i64>> = file_names.map(number).collect();
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for &number in numbers.iter().flatten() {
        *counts.entry(number).or_default() += 1;
    }
    let mut others = counts.keys().last().map_or(1, |last| last + 1)..;
    let unique = |number: Option<i64>| number.filter(|number| counts[number] == 1);
    numbers.into_iter().filter_map(|number| unique(number).or_else(|| others.next())).collect()
}

/// The number that a file's stem spells.
fn number(file_name: &str) -> Option<i64> {
    let stem = stem(file_name);
    // `parse` would take a sign, too; and there must be room for the others above it.
    let number =
        stem.bytes().all(|byte| byte.is_ascii_digit()).then(|| stem.parse().ok()).flatten();
    number.filter(|number| *number < i64::MAX / 2)
}

/// BLAKE3 over a sequence of fields, each with its length, so that no two sequences are alike.
#[derive(Default)]
pub(super) struct Digest(blake3::Hasher);

impl Digest {
    pub(super) fn field(&mut self, field: &str) {
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field.as_bytes());
    }

    pub(super) fn size(&mut self, width: u32, height: u32) {
        self.0.update(&width.to_le_bytes());
        self.0.update(&height.to_le_bytes());
    }

    pub(super) fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}

pub(super) fn invalid(path: &Path, what: impl Into<String>) -> DatasetError {
    DatasetError::Invalid { path: path.to_owned(), what: what.into() }
}

/// `what` continues the sentence that `line 3` starts.
pub(super) fn at_line(path: &Path, line: usize, what: impl std::fmt::Display) -> DatasetError {
    invalid(path, format!("line {line} {what}"))
}

pub(super) fn from_image(error: ImageError) -> DatasetError {
    let what = match &error {
        ImageError::Read { error, .. } => format!("the image cannot be read: {error}"),
        ImageError::Decode { error, .. } => {
            format!("the image's size cannot be read from its header: {error}")
        }
    };
    invalid(error.path(), what)
}
