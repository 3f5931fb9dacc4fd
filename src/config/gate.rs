//! `[gate]`: what is judged, on which images, and how.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, GateFlags};

/// `[gate]` as it is written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gate {
    /// The baseline: a snapshot beside the project, or a version of the registered model
    /// (models:/NAME@ALIAS, models:/NAME/VERSION).
    pub(super) baseline: String,
    /// Whether the change on these images decides, or what can be said beyond chance.
    pub(super) judge: Judge,
    /// Of the printed intervals; one-sided tests are at the level 1 - confidence.
    pub(super) confidence: f64,
    /// Of the p-values of regressions, for the number of tests.
    pub(super) correction: Correction,
    /// Changes up to this are none: what another CPU or version of libtorch may do.
    pub(super) numeric_noise: f64,
    /// How intervals are read off the bootstrap.
    pub(super) interval: IntervalKind,
    /// Replicates of the bootstrap; 0 for no intervals.
    pub(super) replicates: usize,
    /// Of the bootstrap's random numbers.
    pub(super) seed: u64,
    /// Rules by metric: AP, AP50/person, AP50/* (every class), AP@night (a slice), AP@* (every slice).
    pub(super) metrics: BTreeMap<String, Rule>,
    /// Named sets of images.
    pub(super) slices: BTreeMap<String, SliceConfig>,
    /// Images that belong together, such as a video's; the bootstrap draws them together.
    pub(super) groups: Option<GroupsConfig>,
}

impl Default for Gate {
    fn default() -> Self {
        let max_drop = |drop| Rule { max_drop: Some(drop), ..Rule::default() };
        let metrics = [("AP", 0.01), ("AP50", 0.01), ("AP50/*", 0.03), ("f1", 0.02)];
        Self {
            baseline: "detgate/baseline.snap".to_owned(),
            judge: Judge::Point,
            confidence: 0.95,
            correction: Correction::Holm,
            numeric_noise: 1e-4,
            interval: IntervalKind::Bca,
            replicates: 1000,
            seed: 0,
            metrics: metrics.map(|(name, drop)| (name.to_owned(), max_drop(drop))).into(),
            slices: BTreeMap::new(),
            groups: None,
        }
    }
}

/// What one metric has to satisfy. Values are 0..1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The largest absolute drop below the baseline that still passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub max_drop: Option<f64>,
    /// The largest drop that still passes, as a share of the baseline's value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub max_relative_drop: Option<f64>,
    /// The least value that passes, whatever the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub min: Option<f64>,
    /// The least rise above the baseline that passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub must_improve_by: Option<f64>,
    /// Whether a broken rule stops the candidate or is only said.
    #[serde(default)]
    pub tier: Tier,
}

impl Rule {
    /// No run can break it.
    pub fn demands_nothing(&self) -> bool {
        self.limits().iter().all(|(_, limit)| limit.is_none())
    }

    fn limits(&self) -> [(&'static str, Option<f64>); 4] {
        [
            ("max_drop", self.max_drop),
            ("max_relative_drop", self.max_relative_drop),
            ("min", self.min),
            ("must_improve_by", self.must_improve_by),
        ]
    }
}

/// What a broken rule does.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// It stops the candidate.
    #[default]
    Block,
    /// It is said.
    Warn,
}

/// What decides.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Judge {
    /// The change on these images.
    Point,
    /// A one-sided test: what can be said beyond chance.
    Confident,
}

/// How p-values of many tests are corrected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// Keeps the chance of any false alarm.
    Holm,
    /// Keeps the share of false alarms among the alarms.
    BenjaminiHochberg,
    /// Not at all.
    None,
}

/// How an interval is read off the bootstrap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IntervalKind {
    /// Quantiles of the replicates.
    Percentile,
    /// Corrected for bias and skewness.
    Bca,
}

/// A named set of images: those for which all that is written here holds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SliceConfig {
    /// A pattern for the image's file name as the ground truth gives it: `night/*`, `**/cam3_*.jpg`.
    pub file_name: Option<String>,
    /// A CSV file with a header, of which one column is `file_name` or `image_id`.
    pub csv: Option<PathBuf>,
    /// The column of the CSV file that is looked at.
    pub column: Option<String>,
    /// What stands in that column.
    pub equals: Option<String>,
    /// Least width times height.
    pub min_pixels: Option<u64>,
    /// Greatest width times height.
    pub max_pixels: Option<u64>,
    /// Least number of annotated objects, crowds included.
    pub min_objects: Option<usize>,
    /// Greatest number of annotated objects, crowds included.
    pub max_objects: Option<usize>,
}

/// Which images belong together: a column of a CSV file, or the folder that an image is in.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupsConfig {
    /// A CSV file with a header, of which one column is `file_name` or `image_id`.
    pub csv: Option<PathBuf>,
    /// The column of the CSV file whose equal values make a group.
    pub column: Option<String>,
    /// Images of the same folder are a group.
    #[serde(default)]
    pub folder: bool,
}

/// How to judge, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct GateConfig {
    /// By the point or confidently.
    pub judge: Judge,
    /// Of intervals; tests are at the level 1 - confidence. 0.5..1.
    pub confidence: f64,
    /// Of the p-values of regressions.
    pub correction: Correction,
    /// Changes up to this are none.
    pub numeric_noise: f64,
    /// How intervals are read off.
    pub interval: IntervalKind,
    /// Replicates of the bootstrap; 0 for no intervals.
    pub replicates: usize,
    /// Of the bootstrap.
    pub seed: u64,
    /// By metric pattern.
    pub rules: BTreeMap<String, Rule>,
    /// By name; paths are absolute.
    pub slices: BTreeMap<String, SliceConfig>,
    /// Images that belong together.
    pub groups: Option<GroupsConfig>,
}

/// The fewest replicates of which an interval can be read off.
const FEWEST_REPLICATES: usize = 200;
/// More make an interval no better than its assumptions.
const MOST_REPLICATES: usize = 100_000;

impl Gate {
    /// Flags over settings; relative paths are relative to `root`.
    pub(super) fn resolve(self, flags: &GateFlags, root: &Path) -> Result<GateConfig, ConfigError> {
        let absolute = |path: &mut Option<PathBuf>| {
            if let Some(path) = path {
                *path = root.join(&*path);
            }
        };
        let (mut slices, mut groups) = (self.slices, self.groups);
        slices.values_mut().for_each(|slice| absolute(&mut slice.csv));
        if let Some(groups) = &mut groups {
            absolute(&mut groups.csv);
        }
        let config = GateConfig {
            judge: flags.judge.unwrap_or(self.judge),
            confidence: flags.confidence.unwrap_or(self.confidence),
            correction: self.correction,
            numeric_noise: self.numeric_noise,
            interval: self.interval,
            replicates: flags.replicates.unwrap_or(self.replicates),
            seed: flags.seed.unwrap_or(self.seed),
            rules: self.metrics,
            slices,
            groups,
        };
        config.validate()?;
        Ok(config)
    }
}

impl Default for GateConfig {
    fn default() -> Self {
        let resolved = Gate::default().resolve(&GateFlags::default(), Path::new(""));
        resolved.expect("the defaults are valid")
    }
}

impl GateConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        range("confidence", self.confidence, 0.5..1.0, "at least 0.5 and less than 1")?;
        range("numeric_noise", self.numeric_noise, 0.0..0.1, "at least 0 and less than 0.1")?;
        let enough = FEWEST_REPLICATES..=MOST_REPLICATES;
        if self.replicates != 0 && !enough.contains(&self.replicates) {
            return Err(ConfigError::Range {
                name: "[gate] replicates".to_owned(),
                value: self.replicates.to_string(),
                range: "0, or 200 to 100000",
            });
        }
        if self.replicates == 0 && self.judge == Judge::Confident {
            return Err(ConfigError::Gate(
                "judge = \"confident\" needs replicates; 1000 are the default".to_owned(),
            ));
        }
        self.rules.iter().try_for_each(|(pattern, rule)| validate_rule(pattern, rule))?;
        self.slices.iter().try_for_each(|(name, slice)| slice.validate(name))?;
        self.groups.as_ref().map_or(Ok(()), GroupsConfig::validate)
    }
}

fn validate_rule(pattern: &str, rule: &Rule) -> Result<(), ConfigError> {
    for (key, value) in rule.limits() {
        let name = format!("[gate.metrics] {pattern:?} {key}");
        super::unit(&name, value.unwrap_or(0.0))?;
    }
    let drops = rule.max_drop.is_some() || rule.max_relative_drop.is_some();
    if drops && rule.must_improve_by.is_some() {
        return Err(ConfigError::Gate(format!(
            "the rule {pattern:?} allows a drop and asks for a rise; keep one of the two"
        )));
    }
    Ok(())
}

impl SliceConfig {
    fn validate(&self, name: &str) -> Result<(), ConfigError> {
        let refuse = |what: String| Err(ConfigError::Gate(format!("[gate.slices.{name}] {what}")));
        let plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
        if name.is_empty() || !name.chars().all(plain) {
            return refuse(
                "has a name that is not of letters, digits, `_`, `-` and `.`".to_owned(),
            );
        }
        if *self == Self::default() {
            return refuse("says nothing about images; give it file_name, csv, min_pixels, max_pixels, min_objects or max_objects".to_owned());
        }
        let of_table = [self.csv.is_some(), self.column.is_some(), self.equals.is_some()];
        if of_table.contains(&true) && of_table.contains(&false) {
            return refuse("needs all of csv, column and equals, or none".to_owned());
        }
        match self.file_name.as_deref().map(glob::Pattern::new) {
            Some(Err(error)) => refuse(format!("has a file_name that is no pattern: {error}")),
            _ => Ok(()),
        }
    }
}

impl GroupsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let by_table = self.csv.is_some() && self.column.is_some();
        let half = self.csv.is_some() != self.column.is_some();
        if half || by_table == self.folder {
            return Err(ConfigError::Gate(
                "[gate.groups] needs either csv and column, or folder = true".to_owned(),
            ));
        }
        Ok(())
    }
}

fn range(
    name: &str,
    value: f64,
    allowed: std::ops::Range<f64>,
    words: &'static str,
) -> Result<(), ConfigError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (name, value) = (format!("[gate] {name}"), value.to_string());
    Err(ConfigError::Range { name, value, range: words })
}
