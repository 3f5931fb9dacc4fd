//! How chance moves the metrics: both sides on the same resampled images.

use std::collections::{HashMap, HashSet};

use super::GateError;
use super::evidence::{Evidence, Part};
use super::statistics::Distribution;
use crate::config::{GateConfig, Interval};
use crate::matching::coco::CocoParams;
use crate::metrics::bootstrap::{Replicates, Sample, Weights};

/// The groups of images that the jackknife leaves out, one at a time, at most: what is learnt from it
/// is one number, the skewness of the metric's influence, and as many say enough of it.
const FOLDS: usize = 200;

/// Both sides' metrics in every replicate.
pub(super) struct Resampled {
    bootstrap: Pair,
    /// For the acceleration of BCa intervals.
    jackknife: Option<Pair>,
    /// Less cannot settle a test at the policy's confidence.
    least_units: usize,
    /// How many units show an object, by class (`None` for any) and range of areas.
    units: HashMap<(Option<String>, AreaName), usize>,
}

/// The same weights on both sides.
struct Pair {
    baseline: Replicates,
    candidate: Replicates,
}

impl Resampled {
    /// Resamples the units of all images, of which a slice sees its own.
    pub(super) fn new(
        evidence: &Evidence,
        part: &Part,
        settings: &GateConfig,
        replicates: usize,
    ) -> Result<Self, GateError> {
        let subject = &evidence.subject;
        let sample =
            |images| Sample::new(subject.categories, images, &part.units, &subject.practical);
        let baseline = sample(part.baseline.as_deref().unwrap_or(&[]))?;
        let candidate = sample(&part.candidate)?;
        let pair = |weights: &Weights| -> Result<Pair, GateError> {
            Ok(Pair {
                baseline: baseline.replicate(weights)?,
                candidate: candidate.replicate(weights)?,
            })
        };
        let drawn = Weights::bootstrap(evidence.units, replicates, settings.seed);
        let bca = settings.interval == Interval::Bca;
        Ok(Self {
            least_units: least_units(1.0 - settings.confidence),
            units: units(evidence, part),
            bootstrap: pair(&drawn)?,
            jackknife: bca.then(|| pair(&Weights::jackknife(evidence.units, FOLDS))).transpose()?,
        })
    }

    /// How chance moves a metric; `None` where it rests on too few units to tell.
    pub(super) fn chance<'r>(&'r self, metric: &'r str) -> Option<Chance<'r>> {
        let units = self.units_behind(metric);
        (units >= self.least_units).then_some(Chance { resampled: self, metric, units })
    }

    /// On how many images, or groups of them, a metric rests: those that show what it is about.
    fn units_behind(&self, metric: &str) -> usize {
        let (metric, class) = match metric.split_once('/') {
            Some((metric, class)) => (metric, Some(class.to_owned())),
            None => (metric, None),
        };
        self.units.get(&(class, area_of(metric))).copied().unwrap_or(0)
    }
}

/// With as few units that all agree a sign test comes to a p-value of `alpha`: of four, which agree by
/// chance once in 16 times, nothing can be claimed at 5 %.
fn least_units(alpha: f64) -> usize {
    (1.0 / alpha).log2().ceil() as usize
}

/// How chance moves one metric.
pub(super) struct Chance<'r> {
    resampled: &'r Resampled,
    metric: &'r str,
    units: usize,
}

impl Chance<'_> {
    /// The distribution of a statistic of the baseline's and the candidate's value; `None` where it is
    /// defined in too few replicates.
    pub(super) fn distribution(
        &self,
        point: f64,
        statistic: impl Fn(f64, f64) -> f64,
    ) -> Option<Distribution> {
        let replicates = self.resampled.bootstrap.statistic(self.metric, &statistic)?;
        match &self.resampled.jackknife {
            Some(jackknife) => {
                let left_out = jackknife.statistic(self.metric, &statistic)?;
                Distribution::bca(point, replicates, &left_out)
            }
            None => Some(Distribution::percentile(point, replicates)?.expanded(self.units)),
        }
    }

    /// The least p-value that so many units can give: that all of them agree by chance. A bootstrap of
    /// a few units that do agree sees no chance at all.
    pub(super) fn least_p(&self) -> f64 {
        0.5_f64.powi(self.units.min(1000) as i32)
    }
}

/// A range's name in [`CocoParams::area_ranges`].
type AreaName = &'static str;

const ALL: AreaName = "all";

/// Objects of which areas a metric is about.
fn area_of(metric: &str) -> AreaName {
    match metric {
        "APs" | "ARs" => "small",
        "APm" | "ARm" => "medium",
        "APl" | "ARl" => "large",
        _ => ALL,
    }
}

/// How many units show an object of each class, and of any, in each range of areas.
fn units(evidence: &Evidence, part: &Part) -> HashMap<(Option<String>, AreaName), usize> {
    let names: HashMap<i64, &str> = (evidence.subject.categories.iter())
        .map(|category| (category.id, category.name.as_str()))
        .collect();
    let ranges = CocoParams::default().area_ranges;
    let mut shown: HashMap<(Option<&str>, AreaName), HashSet<u32>> = HashMap::new();
    for ((image, _), &unit) in part.candidate.iter().zip(&part.units) {
        for gt in image.ground_truth.iter().filter(|gt| !gt.is_crowd && !gt.ignore) {
            let Some(&class) = names.get(&gt.category_id) else { continue };
            for area in [ALL, "small", "medium", "large"] {
                let range = ranges.iter().find(|range| range.name == area);
                if range.is_some_and(|range| (range.min..=range.max).contains(&gt.area)) {
                    shown.entry((Some(class), area)).or_default().insert(unit);
                    shown.entry((None, area)).or_default().insert(unit);
                }
            }
        }
    }
    let count = |((class, area), units): ((Option<&str>, AreaName), HashSet<u32>)| {
        ((class.map(str::to_owned), area), units.len())
    };
    shown.into_iter().map(count).collect()
}

impl Pair {
    /// In every replicate; not finite where a side is undefined.
    fn statistic(&self, metric: &str, statistic: impl Fn(f64, f64) -> f64) -> Option<Vec<f64>> {
        let (before, after) = (self.baseline.values(metric)?, self.candidate.values(metric)?);
        Some(before.iter().zip(after).map(|(&before, &after)| statistic(before, after)).collect())
    }
}
