//! Both protocols' metrics over resampled images: the engine of the paired bootstrap.
//!
//! Nothing is matched or sorted twice. A detection's outcome depends on its image alone, so a resample
//! of images only changes how often each detection counts: every class is ranked once ([`Sample`]), and
//! a replicate is a walk along the ranks with other [`Weights`]. The walk takes as many replicates along
//! as fit into vector registers (`kernel`).
//!
//! What holds, and is tested:
//! - With weights of 1, [`Replicates`] are the values of [`evaluate`](super::evaluate), up to the order
//!   of additions; and a replicate is the evaluation of the data set in which every image is repeated
//!   as often as it was drawn, copies being neighbours. Only where detections *of one image and class*
//!   have equal scores do they differ: copies would rank a, b, a, b; here they rank a, a, b, b. (Equal
//!   scores of different images are in the images' order, as ever.)
//! - A class of which no ground truth was drawn is absent: undefined in that replicate, and not in its
//!   means. Means are thus over the classes that the replicate has, as pycocotools would have it.
//! - The result does not depend on the number of threads, to the last bit.
//!
//! Sources: Efron, *Bootstrap methods*, Ann. Statist. 7 (1979); Koehn, *Statistical significance tests
//! for machine translation evaluation*, EMNLP 2004, for pairing: both sides are given the same weights.
//!
//! Deliberately absent: intervals, p-values and everything else that is concluded (`gate`); settings
//! of the COCO protocol: it is always [`CocoParams::default`]; more than 2^27 detections, 2^23 objects or
//! 2^32 units, which are refused: counts have 32 bits, and a unit may be drawn some times over.

mod coco;
mod kernel;
mod practical;
mod replicates;
mod weights;

use rayon::prelude::*;

pub use self::replicates::Replicates;
use self::weights::Drawn;
pub use self::weights::Weights;
use super::{EvaluateError, check_unique};
use crate::dataset::{Category, ImageRecord};
use crate::detections::Detection;
use crate::matching::coco::{CocoParams, Plan};
use crate::matching::practical::PracticalParams;

/// Detections of one side: a sixteenth of what 31 bits count. That one unit has nearly all of them *and* is
/// drawn more than 16 times has a probability below 1/16!.
const MOST_DETECTIONS: u64 = 1 << 27;

/// Objects: true positives are added up over ten IoU thresholds.
const MOST_OBJECTS: u64 = MOST_DETECTIONS / 16;

/// Units are drawn as numbers of 32 bits.
const MOST_UNITS: u64 = u32::MAX as u64;

fn check_count(what: &'static str, count: u64, most: u64) -> Result<(), EvaluateError> {
    match count > most {
        true => Err(EvaluateError::TooMany { what, count, most }),
        false => Ok(()),
    }
}

/// One side's detections and ground truth, ranked once per class, ready to be re-weighted.
pub struct Sample {
    /// Names of the COCO protocol's classes, by ascending id, and the classes; `None` without ground
    /// truth.
    coco: Vec<(String, Option<coco::Class>)>,
    /// Names of the practical protocol's classes, in the order in which they were given.
    practical_names: Vec<String>,
    practical: practical::Classes,
    /// Units must be fewer than the weights have.
    least_units: usize,
}

impl Sample {
    /// `units[i]` is the unit of `images[i]`. A slice is evaluated by giving its images only, with the
    /// units that they have among all. Runs on rayon's current pool.
    ///
    /// # Errors
    /// [`EvaluateError`], where two images have the same id, there is not one unit per image, or there
    /// are more detections or objects than are counted.
    pub fn new(
        categories: &[Category],
        images: &[(&ImageRecord, &[Detection])],
        units: &[u32],
        practical: &PracticalParams,
    ) -> Result<Self, EvaluateError> {
        if images.len() != units.len() {
            return Err(EvaluateError::Units { images: images.len(), units: units.len() });
        }
        let sum = |count: fn(&(&ImageRecord, &[Detection])) -> usize| -> u64 {
            images.iter().map(|image| count(image) as u64).sum()
        };
        check_count("detections", sum(|(_, dts)| dts.len()), MOST_DETECTIONS)?;
        check_count("objects", sum(|(image, _)| image.ground_truth.len()), MOST_OBJECTS)?;
        let plan = Plan::new(categories, &CocoParams::default())?;
        let rows = images.iter().zip(units);
        let mut rows: Vec<_> = rows.map(|(&(image, dts), &unit)| (image, dts, unit)).collect();
        let practical = practical::rank(categories, &rows, practical);
        // Of equal scores the COCO protocol ranks that of the lower image id first.
        rows.sort_unstable_by_key(|(image, ..)| image.id);
        check_unique("id", rows.iter().map(|(image, ..)| image.id))?;
        let names = plan.categories().iter().map(|category| category.name.clone());
        Ok(Self {
            coco: names.zip(coco::rank(&plan, &rows)).collect(),
            practical_names: categories.iter().map(|category| category.name.clone()).collect(),
            practical,
            least_units: units.iter().max().map_or(0, |&unit| unit as usize + 1),
        })
    }

    /// Every metric in every replicate. Runs on rayon's current pool.
    ///
    /// # Errors
    /// [`EvaluateError::UnknownUnit`], where an image's unit is not among those of `weights`;
    /// [`EvaluateError::TooMany`], where these are more than can be drawn.
    pub fn replicate(&self, weights: &Weights) -> Result<Replicates, EvaluateError> {
        check_count("units", weights.units() as u64, MOST_UNITS)?;
        if self.least_units > weights.units() {
            let unit = self.least_units - 1;
            return Err(EvaluateError::UnknownUnit { unit, units: weights.units() });
        }
        let parts = weights.drawn().map(|drawn| Replicates::new(self, &drawn));
        Ok(parts
            .reduce(Replicates::append)
            .unwrap_or_else(|| Replicates::new(self, &Drawn::none())))
    }

    fn coco_names(&self) -> impl Iterator<Item = &str> {
        self.coco.iter().map(|(name, _)| name.as_str())
    }

    fn practical_names(&self) -> impl Iterator<Item = &str> {
        self.practical_names.iter().map(String::as_str)
    }

    /// `[classes][metrics][replicates]`.
    fn coco(&self, weights: &Drawn) -> Vec<Option<Vec<Vec<f64>>>> {
        let replicate = |(_, class): &(String, Option<coco::Class>)| {
            class.as_ref().map(|class| class.replicate(weights))
        };
        self.coco.par_iter().map(replicate).collect()
    }

    /// `[classes][metrics][replicates]`.
    fn practical(&self, weights: &Drawn) -> Vec<Vec<Vec<f64>>> {
        self.practical.classes.par_iter().map(|class| class.replicate(weights)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_counted_is_refused() {
        let none = Sample::new(&[], &[], &[], &PracticalParams::default()).unwrap();
        let many = Weights::bootstrap(u32::MAX as usize + 1, 1, 0);
        let error = none.replicate(&many).unwrap_err().to_string();
        assert!(
            error.starts_with("4294967296 units are more than the bootstrap counts"),
            "{error}"
        );
        assert!(check_count("objects", MOST_OBJECTS, MOST_OBJECTS).is_ok());
        let error = check_count("objects", MOST_OBJECTS + 1, MOST_OBJECTS).unwrap_err();
        assert!(error.to_string().ends_with("which is 8388608; evaluate fewer images"), "{error}");
    }
}
