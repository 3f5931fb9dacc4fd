//! `[cache]` of `detgate.toml`, where the cache is, and sizes as people write them.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Predictions that are kept, so that a model does not run twice on an image.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Cache {
    /// Use predictions of earlier runs, and keep those of this one.
    pub(super) enabled: bool,
    /// What the cache of this user may take on disk, gigabytes; the least recently used goes first.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub(super) max_gb: f64,
}

impl Default for Cache {
    fn default() -> Self {
        Self { enabled: true, max_gb: 2.0 }
    }
}

impl Cache {
    pub(super) fn resolve(&self, flags: &super::EvalFlags) -> CacheConfig {
        CacheConfig {
            enabled: self.enabled && !flags.no_cache,
            verify: flags.verify_cache,
            limit: (self.max_gb * 1e9) as u64,
        }
    }
}

/// How predictions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheConfig {
    /// They are, and those of earlier runs are used.
    pub enabled: bool,
    /// Every file is read, whether or not it seems to be unchanged.
    pub verify: bool,
    /// Bytes that the cache may take.
    pub limit: u64,
}

/// A number of bytes: `2GB`, `1.5 GiB`, `500000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSize(pub u64);

impl Default for ByteSize {
    /// That of `[cache]`.
    fn default() -> Self {
        Self((Cache::default().max_gb * 1e9) as u64)
    }
}

const UNITS: [(&str, f64); 9] = [
    ("", 1.0),
    ("B", 1.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KIB", 1024.0),
    ("MIB", 1_048_576.0),
    ("GIB", 1_073_741_824.0),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || "it must be a size such as 2GB or 500MB".to_owned();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[digits.len()..].to_ascii_uppercase();
        let number: f64 = digits.trim_end().parse().map_err(|_| wanted())?;
        let factor = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wanted)?.1;
        let bytes = number * factor;
        if bytes.is_finite() && bytes >= 0.0 { Ok(Self(bytes as u64)) } else { Err(wanted()) }
    }
}

/// The user's cache folder: `DETGATE_CACHE_DIR`, or the platform's place for such things. The same as
/// xtask's.
pub(super) fn folder(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    if let Some(folder) = variable("DETGATE_CACHE_DIR") {
        // An error only where there is no working directory.
        return std::path::absolute(folder).ok();
    }
    let home = |folder: &str| Some(Path::new(&variable("HOME")?).join(folder));
    let base = if cfg!(windows) {
        PathBuf::from(variable("LOCALAPPDATA")?)
    } else if cfg!(target_os = "macos") {
        home("Library/Caches")?
    } else {
        // The XDG specification says that a relative path here is to be ignored.
        let xdg = variable("XDG_CACHE_HOME").map(PathBuf::from);
        xdg.filter(|folder| folder.is_absolute()).or_else(|| home(".cache"))?
    };
    Some(base.join("detgate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in
            [("0", 0), ("2GB", 2_000_000_000), ("1.5 kib", 1536), ("7b", 7), ("500mb", 500_000_000)]
        {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "GB", "-1GB", "2 parsecs", "1e999", "NaN", "inf", "é"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_folder_is_the_user_s_choice_or_that_of_xdg() {
        let of = |variables: &[(&str, &str)]| {
            let found = |name: &str| variables.iter().find(|(n, _)| *n == name);
            folder(|name| found(name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(of(&[("DETGATE_CACHE_DIR", "/a"), ("HOME", "/h")]), Some("/a".into()));
        assert_eq!(of(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), Some("/x/detgate".into()));
        assert_eq!(
            of(&[("XDG_CACHE_HOME", "x"), ("HOME", "/h")]),
            Some("/h/.cache/detgate".into())
        );
        assert_eq!(of(&[]), None);
    }
}
