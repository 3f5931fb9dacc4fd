//! All metrics over resampled images, without evaluating anything again.
//!
//! Which detection finds which object is decided on each image alone, so an image that is drawn twice
//! says the same twice. And the order of the detections' scores does not depend on which images are
//! drawn. So every image is matched and every class sorted **once** ([`Sample::new`]); a replicate is
//! then a walk along the ranks in which each image counts as often as it was drawn
//! ([`Sample::replicate`]).
//!
//! A replicate equals an evaluation of the data set in which each image stands as often as it was
//! drawn, but for one thing: where detections of one image and class have equal scores, the copies of an
//! image are ranked detection by detection, not copy by copy.
//!
//! COCO's settings are [`CocoParams::default`]'s. Deliberately absent: intervals and any other
//! statistics of the replicates (`gate`).

mod curve;
mod practical;
mod ranked;
mod weights;

use std::collections::BTreeMap;

use rayon::prelude::*;

use self::curve::{AreaCurves, Values};
use self::practical::{PracticalClass, PracticalCounts};
use self::ranked::RankedClass;
pub use self::weights::Weights;
use self::weights::{LANES, Row};
use super::practical::Counts;
use super::{EvaluateError, check_unique};
use crate::dataset::{Category, ImageRecord};
use crate::detections::Detection;
use crate::matching::coco::{CocoParams, Plan};
use crate::matching::practical::PracticalParams;
use crate::matching::{self};

/// The names of the 12 numbers, in the order of [`super::CocoSummary::named`].
const COCO: [&str; 12] =
    ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

/// One side's detections and ground truth, ranked once per class.
pub struct Sample {
    /// Of the COCO protocol, by ascending id.
    coco_names: Vec<String>,
    coco: Vec<RankedClass>,
    practical_names: Vec<String>,
    practical: Vec<PracticalClass>,
}

impl Sample {
    /// Matches and ranks. `units[i]` is the unit of `images[i]` among all that are resampled, whether
    /// all of them are here or, on a slice, only some.
    ///
    /// # Errors
    /// [`EvaluateError`], where two images share an id.
    pub fn new(
        categories: &[Category],
        images: &[(&ImageRecord, &[Detection])],
        units: &[u32],
        practical: &PracticalParams,
    ) -> Result<Self, EvaluateError> {
        let plan = Plan::new(categories, &CocoParams::default())?;
        let matched: Vec<_> = images
            .par_iter()
            .enumerate()
            .map(|(i, (image, dts))| {
                let gts = &image.ground_truth;
                (
                    matching::coco::match_image(image.id, gts, dts, &plan),
                    matching::practical::match_image(i as u64, gts, dts, practical),
                )
            })
            .collect();
        let mut by_id: Vec<_> =
            matched.iter().zip(units).map(|((coco, _), &unit)| (coco, unit)).collect();
        by_id.sort_by_key(|(image, _)| image.image_id);
        check_unique("id", by_id.iter().map(|(image, _)| image.image_id))?;
        let rows = ranked::deal(&plan, by_id.into_iter());
        let in_order = matched.iter().zip(units).map(|((_, practical), &unit)| (practical, unit));
        let name = |category: &Category| category.name.clone();
        Ok(Self {
            coco_names: plan.categories().iter().map(name).collect(),
            coco: rows.into_par_iter().map(|rows| rows.rank(&plan)).collect(),
            practical_names: categories.iter().map(name).collect(),
            practical: practical::deal(categories, in_order),
        })
    }

    /// Every metric in every replicate, on rayon's current pool; the same with any number of threads.
    ///
    /// # Panics
    /// Where a unit of [`Sample::new`] is not among those of `weights`.
    pub fn replicate(&self, weights: &Weights) -> Replicates {
        let blocks: Vec<Vec<Values>> = (0..weights.blocks())
            .into_par_iter()
            .map(|block| self.block(&weights.block(block)))
            .collect();
        let count = weights.replicates();
        let column = |metric: usize| {
            let values = blocks.iter().flat_map(|block| block[metric]);
            values.take(count).collect()
        };
        let names = self.names();
        // Of classes with the same name the last one counts, as in `Evaluation::table`.
        let metrics = names.into_iter().zip(0..).map(|(name, metric)| (name, column(metric)));
        Replicates { metrics: metrics.collect() }
    }

    /// In the order of [`Self::block`].
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = COCO.map(str::to_owned).to_vec();
        for class in &self.coco_names {
            names.extend(COCO.map(|metric| format!("{metric}/{class}")));
        }
        names.extend(["precision", "recall", "f1", "mAP50_approx"].map(str::to_owned));
        for class in &self.practical_names {
            let metrics = ["precision", "recall", "f1", "ap50_approx"];
            names.extend(metrics.map(|metric| format!("{metric}/{class}")));
        }
        names
    }

    /// Every metric in the replicates of a block; NaN is undefined.
    fn block(&self, weights: &[Row]) -> Vec<Values> {
        let mut room = Vec::new();
        let classes: Vec<[Values; 12]> =
            self.coco.iter().map(|class| coco(class, weights, &mut room)).collect();
        let mut values: Vec<Values> = (0..12).map(|metric| mean(&classes, metric)).collect();
        values.extend(classes.iter().flatten());
        let counts: Vec<PracticalCounts> =
            self.practical.iter().map(|class| class.counts(weights)).collect();
        practical(&counts, &mut values);
        values
    }
}

/// The 12 numbers of one class.
fn coco(class: &RankedClass, weights: &[Row], room: &mut Vec<Row>) -> [Values; 12] {
    let nothing = |area: &ranked::RankedArea| area.positives.is_empty();
    if class.areas.iter().all(nothing) {
        return [[f64::NAN; LANES]; 12];
    }
    let areas: Vec<AreaCurves> =
        class.areas.iter().map(|area| curve::curves(class, area, weights, room)).collect();
    let [all, small, medium, large] = &areas[..] else { unreachable!("COCO has four area ranges") };
    let recall = |limit: usize| {
        let found = curve::weighted(&class.limited[limit], weights);
        over_positives(all, |lane| f64::from(found[lane]) / all.found.len() as f64)
    };
    [
        ap(all, 0..10),
        ap(all, 0..1),
        ap(all, 5..6),
        ap(small, 0..10),
        ap(medium, 0..10),
        ap(large, 0..10),
        recall(0),
        recall(1),
        ar(all),
        ar(small),
        ar(medium),
        ar(large),
    ]
}

/// Mean over some thresholds; undefined where nothing is to be found.
fn ap(area: &AreaCurves, thresholds: std::ops::Range<usize>) -> Values {
    let ap = &area.ap[thresholds];
    std::array::from_fn(|lane| match area.positives[lane] {
        0 => f64::NAN,
        _ => ap.iter().map(|ap| ap[lane]).sum::<f64>() / ap.len() as f64,
    })
}

fn ar(area: &AreaCurves) -> Values {
    over_positives(area, |lane| {
        let found: u64 = area.found.iter().map(|found| u64::from(found[lane])).sum();
        found as f64 / area.found.len() as f64
    })
}

fn over_positives(area: &AreaCurves, found: impl Fn(usize) -> f64) -> Values {
    std::array::from_fn(|lane| match area.positives[lane] {
        0 => f64::NAN,
        positives => found(lane) / f64::from(positives),
    })
}

/// Over the classes in which a number is defined.
fn mean(classes: &[[Values; 12]], metric: usize) -> Values {
    std::array::from_fn(|lane| {
        let values = classes.iter().map(|class| class[metric][lane]);
        let (sum, count) = values
            .filter(|value| !value.is_nan())
            .fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
        if count == 0 { f64::NAN } else { sum / f64::from(count) }
    })
}

/// Appends the practical protocol's numbers, over all classes and for each.
fn practical(classes: &[PracticalCounts], values: &mut Vec<Values>) {
    let total = |of: fn(&PracticalCounts) -> &Row| {
        let mut sum = [0; LANES];
        for class in classes {
            for (sum, count) in sum.iter_mut().zip(of(class)) {
                *sum += count;
            }
        }
        sum
    };
    let all = [total(|c| &c.found), total(|c| &c.false_positives), total(|c| &c.missed)];
    values.extend(ratios(&all[0], &all[1], &all[2]));
    values.push(std::array::from_fn(|lane| {
        let sum: f64 = classes.iter().map(|class| class.ap50_approx[lane]).sum();
        if classes.is_empty() { 0.0 } else { sum / classes.len() as f64 }
    }));
    for class in classes {
        values.extend(ratios(&class.found, &class.false_positives, &class.missed));
        values.push(class.ap50_approx);
    }
}

fn ratios(found: &Row, false_positives: &Row, missed: &Row) -> [Values; 3] {
    let mut ratios = [[0.0; LANES]; 3];
    for lane in 0..LANES {
        let count = |row: &Row| u64::from(row[lane]);
        let counts = Counts::new(count(found), count(false_positives), count(missed));
        ratios[0][lane] = counts.precision;
        ratios[1][lane] = counts.recall;
        ratios[2][lane] = counts.f1;
    }
    ratios
}

/// Every metric, by the names of [`super::Evaluation::table`], in every replicate.
#[derive(Debug, Clone, PartialEq)]
pub struct Replicates {
    metrics: BTreeMap<String, Vec<f64>>,
}

impl Replicates {
    /// The metrics' names, ascending.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.metrics.keys().map(String::as_str)
    }

    /// A metric's value in each replicate, NaN where it is undefined; `None` for an unknown name.
    pub fn values(&self, name: &str) -> Option<&[f64]> {
        self.metrics.get(name).map(Vec::as_slice)
    }
}
