//! Corrections of pycocotools' traps, each off unless asked for.
//!
//! `docs/quirks.md` is the ledger: what one would expect, what pycocotools does, and an example.
//! Deliberately absent: quirks that mislead nobody (a precision of `1 - 2^-52`), which stay.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One correction. It changes nothing where its trap does not occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fix {
    /// The annotation with id 0 is found like any other.
    AnnotationIdZero,
    /// An annotation's `ignore` key is honoured. It is the reader of the ground truth that does
    /// this (by filling [`crate::dataset::GroundTruth::ignore`]); matching honours what it says.
    IgnoreKey,
    /// The area of a ground truth is that of its box, as for detections, not its `area` field.
    BoxArea,
    /// The result depends on contents alone, not on the order of files or the ids of images: in an
    /// image, equal scores and equal overlaps are ordered by the boxes' contents, and a curve takes
    /// all detections of one score in one step.
    Ties,
    /// All numbers that are not about the first or second limit use one limit: 100 where it is
    /// among them, else the largest. (pycocotools: AP needs 100 exactly, the others the third.)
    MaxDets,
    /// A class without any ground truth to find has precision 0 where it has a false positive,
    /// instead of vanishing from the means. Its recall stays undefined. A class that has ground
    /// truth, but none in an area range, stays absent from that range.
    AbsentClasses,
}

impl Fix {
    /// All of them, in the order of the ledger.
    pub const ALL: [Self; 6] = [
        Self::AnnotationIdZero,
        Self::IgnoreKey,
        Self::BoxArea,
        Self::Ties,
        Self::MaxDets,
        Self::AbsentClasses,
    ];

    /// As it is written on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnnotationIdZero => "annotation-id-zero",
            Self::IgnoreKey => "ignore-key",
            Self::BoxArea => "box-area",
            Self::Ties => "ties",
            Self::MaxDets => "max-dets",
            Self::AbsentClasses => "absent-classes",
        }
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no [`Fix`]'s.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no fix `{0}`; use `all` or some of {names}", names = Fix::ALL.map(Fix::name).join(", "))]
pub struct UnknownFix(String);

impl FromStr for Fix {
    type Err = UnknownFix;

    fn from_str(text: &str) -> Result<Self, UnknownFix> {
        let named = Self::ALL.into_iter().find(|fix| fix.name() == text);
        named.ok_or_else(|| UnknownFix(text.to_owned()))
    }
}

/// A set of [`Fix`]es; empty by default. Serialised as the list of their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Fix>", into = "Vec<Fix>")]
pub struct Fixes(u8);

impl Fixes {
    /// Every fix.
    pub fn all() -> Self {
        Fix::ALL.into_iter().collect()
    }

    /// Whether `fix` is among them.
    pub fn contains(self, fix: Fix) -> bool {
        self.0 >> fix as u8 & 1 == 1
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of the set, in the order of the ledger.
    pub fn iter(self) -> impl Iterator<Item = Fix> {
        Fix::ALL.into_iter().filter(move |&fix| self.contains(fix))
    }
}

impl FromIterator<Fix> for Fixes {
    fn from_iter<I: IntoIterator<Item = Fix>>(fixes: I) -> Self {
        Self(fixes.into_iter().fold(0, |set, fix| set | 1 << fix as u8))
    }
}

impl From<Vec<Fix>> for Fixes {
    fn from(fixes: Vec<Fix>) -> Self {
        fixes.into_iter().collect()
    }
}

impl From<Fixes> for Vec<Fix> {
    fn from(fixes: Fixes) -> Self {
        fixes.iter().collect()
    }
}

/// `all`, or names with commas between them.
impl FromStr for Fixes {
    type Err = UnknownFix;

    fn from_str(text: &str) -> Result<Self, UnknownFix> {
        let named = |name: &str| match name.trim() {
            "all" => Ok(Self::all()),
            name => name.parse().map(|fix: Fix| Self::from_iter([fix])),
        };
        text.split(',').try_fold(Self::default(), |set, name| Ok(Self(set.0 | named(name)?.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixes_are_named_as_on_the_command_line_and_in_files() {
        let fixes: Fixes = "ties, box-area".parse().unwrap();
        assert_eq!(fixes.iter().collect::<Vec<_>>(), [Fix::BoxArea, Fix::Ties]);
        assert_eq!(serde_json::to_string(&fixes).unwrap(), r#"["box-area","ties"]"#);
        assert_eq!(serde_json::from_str::<Fixes>(r#"["ties","box-area"]"#).unwrap(), fixes);
        assert_eq!("all".parse(), Ok(Fixes::all()));
        for fix in Fix::ALL {
            assert_eq!(fix.to_string().parse(), Ok(fix));
            assert_eq!(serde_json::to_value(fix).unwrap(), fix.name());
            assert!(Fixes::all().contains(fix) && !Fixes::default().contains(fix));
        }
        assert!(Fixes::default().is_empty() && !fixes.is_empty());
        assert_eq!(
            "ties,tie".parse::<Fixes>().unwrap_err().to_string(),
            "there is no fix `tie`; use `all` or some of annotation-id-zero, ignore-key, box-area, \
             ties, max-dets, absent-classes"
        );
    }
}
