//! `[gate]` of `detgate.toml`: what it may hold, and what it means once validated.
//!
//! Deliberately absent: which metrics a rule judges (`gate/policy.rs`), which images are in a slice
//! or a group (`dataset/slices.rs`), and how a model of the registry becomes a baseline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flags::{GateFlags, ProjectFlags};
use super::mistakes::Mistake;
use super::model_reference::ModelReference;
use super::partition::{GroupsConfig, GroupsTable, SliceConfig, SliceTable};
use super::place::Places;
use super::{ConfigError, Rule, RuleSet};

/// Fewer replicates than this cannot say where 95 % of them lie (`gate::statistics` asks for as many).
const LEAST_REPLICATES: usize = 200;
/// More than this costs memory and tells no more.
const MOST_REPLICATES: usize = 20_000;
/// Larger changes than this are no numerical noise.
#[cfg(test)]
const MOST_NOISE: f64 = 0.01;
const CONFIDENCES: std::ops::Range<f64> = 0.5..1.0;

/// When a run passes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Gate {
    /// The baseline snapshot: a file, or a model of the registry as models:/NAME@ALIAS or
    /// models:/NAME/VERSION.
    pub(super) baseline: String,
    /// What decides whether a demand is met.
    pub(super) judge: Judge,
    /// The confidence of intervals; tests are at the level 1 - confidence.
    #[schemars(range(min = 0.5), extend("exclusiveMaximum" = 1))]
    pub(super) confidence: f64,
    /// How the claims "regressed" are corrected for their number.
    pub(super) correction: Correction,
    /// Changes up to this are none: other engines and processors cause them.
    #[schemars(range(min = 0, max = 0.01))]
    pub(super) numeric_noise: f64,
    /// How intervals are made from the bootstrap's replicates.
    pub(super) interval: Interval,
    /// Replicates of the bootstrap, 200 to 20000; 0 for none, and no intervals.
    #[schemars(extend("anyOf" = [{"const": 0}, {"minimum": 200, "maximum": 20000}]))]
    pub(super) replicates: usize,
    /// The seed of the bootstrap: with the same seed the same intervals.
    pub(super) seed: u64,
    /// Rules by metric: AP, AP50/person, AP50/* for every class, AP@night on a slice, AP@* on every
    /// slice. The most specific rule judges a metric, alone. Replaces the defaults as a whole.
    #[schemars(extend("minProperties" = 1))]
    pub(super) metrics: BTreeMap<String, Rule>,
    /// Named sets of images, on which every metric is measured too.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9_.-]+$"}))]
    pub(super) slices: BTreeMap<String, SliceTable>,
    /// Images that belong together, such as frames of one video: the bootstrap draws them together.
    pub(super) groups: Option<GroupsTable>,
    /// Where the rules and slices stand.
    #[serde(skip)]
    pub(super) places: Places,
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
            interval: Interval::Percentile,
            replicates: 1000,
            seed: 0,
            metrics: metrics.map(|(name, drop)| (name.to_owned(), max_drop(drop))).into(),
            slices: BTreeMap::new(),
            groups: None,
            places: Places::default(),
        }
    }
}

/// What decides whether a demand is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Judge {
    /// The change on these very images.
    Point,
    /// A one-sided test: what the images cannot settle is inconclusive.
    Confident,
}

/// How claims are corrected for their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// Holm: the chance of any false claim stays below 1 - confidence.
    Holm,
    /// Benjamini and Hochberg: the part of false claims among all stays below 1 - confidence.
    BenjaminiHochberg,
    /// Each claim by itself.
    None,
}

/// How intervals are made from the bootstrap's replicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "IntervalKind")]
pub enum Interval {
    /// The replicates' percentiles, expanded for few images.
    Percentile,
    /// Bias-corrected and accelerated; for smooth metrics, see docs/statistics.md.
    Bca,
}

/// Where the baseline is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaselineSource {
    /// A snapshot.
    File(PathBuf),
    /// A model of the registry.
    Model(ModelReference),
}

impl BaselineSource {
    /// The snapshot's file, where it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Model(_) => None,
        }
    }

    /// A path relative to `base`, or a model of the registry.
    fn parse(text: &str, base: &Path) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty; name the snapshot's file".to_owned());
        }
        if !text.starts_with("models:") {
            return Ok(Self::File(base.join(text)));
        }
        ModelReference::parse(text).map(Self::Model).ok_or_else(|| {
            format!("is {text:?}; a model is models:/NAME@ALIAS or models:/NAME/VERSION")
        })
    }
}

/// `[gate]`, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct GateConfig {
    /// Where the baseline is.
    pub baseline: BaselineSource,
    /// What decides whether a demand is met.
    pub judge: Judge,
    /// The confidence of intervals, 0.5..1; one-sided tests are at the level `1 - confidence`.
    pub confidence: f64,
    /// How the claims "regressed" are corrected for their number.
    pub correction: Correction,
    /// Changes up to this, in either direction, are none.
    pub numeric_noise: f64,
    /// How intervals are made.
    pub interval: Interval,
    /// Replicates of the bootstrap; `None` for no bootstrap, then `judge` is [`Judge::Point`].
    pub replicates: Option<usize>,
    /// The bootstrap's seed.
    pub seed: u64,
    /// Rules by metric pattern; at least one, and each demands something.
    pub rules: RuleSet,
    /// Named sets of images, in the order of their names.
    pub slices: Vec<(String, SliceConfig)>,
    /// Images that are drawn together; `None` where each stands for itself.
    pub groups: Option<GroupsConfig>,
}

impl Gate {
    /// What must hold beyond the type and range of each key.
    pub(super) fn check(&self) -> Result<(), Mistake> {
        let mistake = |keys: &[&str], what: String| Mistake::new(&[&["gate"], keys].concat(), what);
        BaselineSource::parse(&self.baseline, Path::new(""))
            .map_err(|what| mistake(&["baseline"], what))?;
        if self.metrics.is_empty() {
            let what = "has no rule; leave it out for the defaults, or judge at least one metric";
            return Err(mistake(&["metrics"], what.to_owned()));
        }
        for (pattern, rule) in &self.metrics {
            rule.check().map_err(|wrong| {
                let keys = ["metrics", pattern.as_str()].into_iter().chain(wrong.key);
                mistake(&keys.collect::<Vec<_>>(), wrong.what)
            })?;
        }
        for (name, slice) in &self.slices {
            slice.check(name).map_err(|wrong| wrong.below(&["gate", "slices", name]))?;
        }
        self.groups
            .as_ref()
            .map_or(Ok(()), GroupsTable::check)
            .map_err(|wrong| wrong.below(&["gate", "groups"]))
    }

    /// Flags over the file's keys. Paths in flags are relative to `cwd`, the file's to `root`.
    pub(super) fn resolve(
        &self,
        project: &ProjectFlags,
        flags: &GateFlags,
        cwd: &Path,
        root: &Path,
    ) -> Result<GateConfig, ConfigError> {
        let replicates = flags.replicates.unwrap_or(self.replicates);
        let config = GateConfig {
            baseline: self.baseline(project.baseline.as_deref(), cwd, root)?,
            judge: flags.judge.unwrap_or(self.judge),
            confidence: flags.confidence.unwrap_or(self.confidence),
            correction: self.correction,
            numeric_noise: self.numeric_noise,
            interval: self.interval,
            replicates: (replicates > 0).then_some(replicates),
            seed: flags.seed.unwrap_or(self.seed),
            rules: RuleSet::new(self.metrics.clone(), |rule| self.places.get("metrics", rule)),
            slices: self.slices(root),
            groups: self.groups.as_ref().and_then(|groups| groups.resolve(root)),
        };
        config.validate()?;
        Ok(config)
    }

    fn slices(&self, root: &Path) -> Vec<(String, SliceConfig)> {
        let resolve = |(name, slice): (&String, &SliceTable)| {
            (name.clone(), slice.resolve(root, self.places.get("slices", name)))
        };
        self.slices.iter().map(resolve).collect()
    }

    fn baseline(
        &self,
        flag: Option<&Path>,
        cwd: &Path,
        root: &Path,
    ) -> Result<BaselineSource, ConfigError> {
        let (text, base) = match flag {
            // A path that is no text is no model's name either.
            Some(path) => match path.to_str() {
                None => return Ok(BaselineSource::File(cwd.join(path))),
                Some(text) => (text, cwd),
            },
            None => (self.baseline.as_str(), root),
        };
        BaselineSource::parse(text, base)
            .map_err(|what| ConfigError::Gate(format!("baseline {what}")))
    }
}

impl Default for GateConfig {
    /// That of an empty file, paths relative to the working directory.
    fn default() -> Self {
        let (project, flags) = (ProjectFlags::default(), GateFlags::default());
        let here = Path::new("");
        let resolved = Gate::default().resolve(&project, &flags, here, here);
        resolved.expect("the defaults are valid")
    }
}

impl GateConfig {
    /// What a flag can break although the file is right.
    fn validate(&self) -> Result<(), ConfigError> {
        if !CONFIDENCES.contains(&self.confidence) {
            return Err(ConfigError::Range {
                name: "confidence".to_owned(),
                value: self.confidence.to_string(),
                range: "at least 0.5 and less than 1",
            });
        }
        match self.replicates {
            None if self.judge == Judge::Confident => Err(ConfigError::Gate(
                "judge is confident and replicates 0; the test needs replicates, for example 1000"
                    .to_owned(),
            )),
            Some(n) if !is_replicates(n) => Err(ConfigError::Range {
                name: "replicates".to_owned(),
                value: n.to_string(),
                range: REPLICATES,
            }),
            _ => Ok(()),
        }
    }
}

/// What `replicates` may be, in words.
pub(super) const REPLICATES: &str = "0, or between 200 and 20000";

/// Whether there may be so many replicates.
pub(super) fn is_replicates(number: usize) -> bool {
    number == 0 || (LEAST_REPLICATES..=MOST_REPLICATES).contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_is_a_file_or_a_model_of_the_registry() {
        let parse = |text| BaselineSource::parse(text, Path::new("/p"));
        assert_eq!(parse("d/b.snap"), Ok(BaselineSource::File("/p/d/b.snap".into())));
        let model = ModelReference::parse("models:/street@champion").unwrap();
        assert_eq!(parse("models:/street@champion"), Ok(BaselineSource::Model(model)));
        for text in ["", "models:/street", "models:street@champion"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_schema_and_the_flags_have_the_same_ranges() {
        let schema = super::super::schema::value();
        let gate = &schema["properties"]["gate"]["properties"];
        assert_eq!(gate["replicates"]["anyOf"][1]["minimum"], LEAST_REPLICATES);
        assert_eq!(gate["replicates"]["anyOf"][1]["maximum"], MOST_REPLICATES);
        let words = format!("0, or between {LEAST_REPLICATES} and {MOST_REPLICATES}");
        assert_eq!(REPLICATES, words);
        assert_eq!(gate["confidence"]["minimum"], CONFIDENCES.start);
        assert_eq!(gate["confidence"]["exclusiveMaximum"].as_f64(), Some(CONFIDENCES.end));
        assert_eq!(gate["numeric_noise"]["maximum"], MOST_NOISE);
    }
}
