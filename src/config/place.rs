//! Where in `detgate.toml` a rule or slice stands, for mistakes that only the data show.
//!
//! Deliberately absent: the mistakes that the file alone shows (`mistakes.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A place in a file, shown as `FILE:LINE:COLUMN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// What a sentence about something begins with: `FILE:LINE:COLUMN: `, or nothing for a default.
pub(crate) fn prefix(place: Option<&Place>) -> String {
    place.map_or_else(String::new, |place| format!("{place}: "))
}

/// Where the rules and slices of a file stand.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// The file; empty where the settings are of none.
    path: PathBuf,
    /// Line and column by the name of a table and the key in it.
    positions: BTreeMap<(&'static str, String), (usize, usize)>,
}

impl Places {
    pub(super) fn record(&mut self, table: &'static str, key: &str, position: (usize, usize)) {
        self.positions.insert((table, key.to_owned()), position);
    }

    pub(super) fn set_file(&mut self, path: &Path) {
        self.path = path.to_owned();
    }

    pub(super) fn get(&self, table: &'static str, key: &str) -> Option<Place> {
        let (line, column) = *self.positions.get(&(table, key.to_owned()))?;
        Some(Place { path: self.path.clone(), line, column })
    }
}
