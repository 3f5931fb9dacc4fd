//! Numbers over a data set: both protocols, always; and on request by the rules of [`lvis`].
//!
//! Evaluation is a map over images ([`match_images`]) and an associative merge ([`Shard::merge`],
//! [`Shard::evaluate`]). A [`Shard`] may be made anywhere; whatever the shards, their order or the
//! number of threads, the result is the same to the last bit.
//!
//! Deliberately absent: any judgement of the numbers (`gate`), any layout (`report`), and the limit
//! on the number of images, which the caller applies to both protocols alike.

pub mod bootstrap;
pub mod calibration;
pub mod coco;
pub mod confusion;
pub mod details;
pub mod operating_points;
pub mod losses;
mod outcomes;
pub mod per_image;
pub mod lvis;
pub mod practical;
mod ranking;
mod sum;
pub mod summary;
pub mod tally;
pub mod tide;

use std::collections::BTreeMap;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::details::{DetailParams, Details, details};
pub use self::practical::PracticalMetrics;
pub use self::summary::{CocoMetrics, CocoSummary};
use crate::dataset::{Category, ImageRecord};
use crate::detections::Detection;
use crate::matching::coco::{CocoParams, ParamsError, Plan};
use crate::matching::practical::PracticalParams;
use crate::matching::{self};

/// Both protocols' results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evaluation {
    /// The practical protocol.
    pub practical: PracticalMetrics,
    /// The COCO protocol.
    pub coco: CocoMetrics,
}

/// The matches of some of the images, keyed so that the order of merging does not matter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Shard {
    /// Per image, for the practical protocol.
    pub practical: Vec<matching::practical::ImageMatches>,
    /// Per image, for the COCO protocol.
    pub coco: Vec<matching::coco::ImageMatches>,
}

/// Matches that cannot be merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The same image twice.
    #[error("two images have the {key} {value}; evaluate every image once")]
    Duplicate {
        /// Which key.
        key: &'static str,
        /// Its value.
        value: i64,
    },
    /// Matches that were made with other classes or settings, or damaged on the way.
    #[error(
        "the matches of image {0} do not fit the classes and settings of this evaluation; \
         match the image again"
    )]
    Foreign(i64),
}

/// Why an evaluation has no result.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvaluateError {
    /// Settings that cannot be evaluated.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Images that cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// Of the bootstrap.
    #[error("{images} images were given with {units} units; give every image its unit")]
    Units {
        /// How many images.
        images: usize,
        /// How many units.
        units: usize,
    },
    /// Of the bootstrap.
    #[error(
        "an image is of the unit {unit}, but weights were drawn for {units} units, numbered from 0; \
         draw them for all units"
    )]
    UnknownUnit {
        /// Which unit.
        unit: usize,
        /// How many there are.
        units: usize,
    },
    /// Of the bootstrap: resampled counts would not fit into 32 bits.
    #[error(
        "{count} {what} are more than the bootstrap counts, which is {most}; evaluate fewer images"
    )]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: u64,
        /// How many there may be.
        most: u64,
    },
}

/// Evaluates the images, in the order of the annotation file, with both protocols.
///
/// Classes that are not among `categories` are not evaluated. Runs on rayon's current pool.
///
/// # Errors
/// [`EvaluateError`], where the settings cannot be evaluated or two images share an id.
pub fn evaluate(
    categories: &[Category],
    images: &[(&ImageRecord, &[Detection])],
    practical: &PracticalParams,
    coco: &CocoParams,
) -> Result<Evaluation, EvaluateError> {
    let plan = Plan::new(categories, coco)?;
    Ok(match_images(images, 0, practical, &plan).evaluate(categories, &plan)?)
}

/// As [`evaluate`], with the COCO protocol alone.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_coco(
    categories: &[Category],
    images: &[(&ImageRecord, &[Detection])],
    params: &CocoParams,
) -> Result<CocoMetrics, EvaluateError> {
    let plan = Plan::new(categories, params)?;
    let curves = coco::match_and_draw(&plan, images, |image, dts| {
        matching::coco::match_image(image.id, &image.ground_truth, dts, &plan)
    })?;
    Ok(CocoMetrics::summarize(&plan, curves))
}

/// Matches images of which the first has `first_position` among all that are evaluated.
pub fn match_images(
    images: &[(&ImageRecord, &[Detection])],
    first_position: u64,
    practical: &PracticalParams,
    plan: &Plan,
) -> Shard {
    let (practical, coco) = images
        .par_iter()
        .enumerate()
        .map(|(i, (image, dts))| {
            let (gts, position) = (&image.ground_truth, first_position + i as u64);
            (
                matching::practical::match_image(position, gts, dts, practical),
                matching::coco::match_image(image.id, gts, dts, plan),
            )
        })
        .unzip();
    Shard { practical, coco }
}

impl Shard {
    /// The images of both. Associative, and commutative as far as [`Self::evaluate`] can tell.
    pub fn merge(mut self, other: Self) -> Self {
        self.practical.extend(other.practical);
        self.coco.extend(other.coco);
        self
    }

    /// The numbers over all images.
    ///
    /// # Errors
    /// [`MergeError`], where an image is there twice or was matched with other settings.
    pub fn evaluate(self, categories: &[Category], plan: &Plan) -> Result<Evaluation, MergeError> {
        Ok(Evaluation {
            practical: practical::accumulate(categories, self.practical)?,
            coco: coco::accumulate(plan, self.coco)?,
        })
    }
}

/// The first of two equal neighbours is an error; the keys ascend.
fn check_unique(key: &'static str, keys: impl Iterator<Item = i64>) -> Result<(), MergeError> {
    let mut last = None;
    for value in keys {
        if last.replace(value) == Some(value) {
            return Err(MergeError::Duplicate { key, value });
        }
    }
    Ok(())
}

impl Evaluation {
    /// Every metric by its flat name: `AP`, `AR100`, `AP/person`, `precision`, `f1/person`,
    /// `ap50_approx/person`, `mAP50_approx`. Undefined is `None`.
    pub fn table(&self) -> BTreeMap<String, Option<f64>> {
        let mut table = BTreeMap::new();
        for (name, value) in self.coco.summary.named() {
            table.insert(name.to_owned(), value);
        }
        for class in &self.coco.per_class {
            for (name, value) in class.summary.named() {
                table.insert(format!("{name}/{}", class.name), value);
            }
        }
        for (name, value) in ratios(&self.practical.global) {
            table.insert(name.to_owned(), Some(value));
        }
        for class in &self.practical.per_class {
            for (name, value) in ratios(&class.counts) {
                table.insert(format!("{name}/{}", class.name), Some(value));
            }
            table.insert(format!("ap50_approx/{}", class.name), Some(class.ap50_approx));
        }
        table.insert("mAP50_approx".to_owned(), Some(self.practical.map50_approx));
        table
    }
}

fn ratios(counts: &practical::Counts) -> [(&'static str, f64); 3] {
    [("precision", counts.precision), ("recall", counts.recall), ("f1", counts.f1)]
}
