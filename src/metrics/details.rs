//! What a person wants to know beyond the 12 numbers: operating points, confusion matrix, results
//! per image. Computed only when asked for, in one matching pass of their own at one IoU threshold.
//!
//! As everywhere in this module: a map over images ([`match_details`]) and an associative merge
//! ([`DetailsShard`]), with the same result whatever the shards, their order or the threads.
//!
//! Deliberately absent: the choice of what to show (`report`), and LVIS: on a federated data set the
//! confusion matrix counts a detection of a class that was not looked for as one on background.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::MergeError;
use super::confusion::{self, ConfusionMatrix};
use super::operating_points::{self, ClassPoints};
use super::outcomes;
use super::per_image::{self, ImageResult};
use crate::dataset::{Category, ImageRecord};
use crate::detections::Detection;
use crate::matching::coco::{self, CocoParams, ImageMatches, ParamsError, Plan};
use crate::matching::confusion::{self as pairing, ImageConfusion};
use crate::matching::pairing::PairingParams;
use crate::matching::prepare::prepared;

/// Where to look.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DetailParams {
    /// A detection has found an object from this IoU on. Above 0, at most 1.
    pub iou_thr: f64,
    /// Least score of what the confusion matrix and the results per image count.
    pub score_thr: f64,
    /// Recalls at which precision is read off; each above 0, at most 1.
    pub recalls: Vec<f64>,
}

impl Default for DetailParams {
    /// As the practical protocol: IoU 0.5, score 0.5; recalls 0.5 and 0.9.
    fn default() -> Self {
        Self { iou_thr: 0.5, score_thr: 0.5, recalls: vec![0.5, 0.9] }
    }
}

/// Why there are no details.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DetailsError {
    /// A threshold that selects nothing or everything.
    #[error("{name} is {value}; use a number above 0 and at most 1")]
    Share {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: f64,
    },
    /// NaN or infinite.
    #[error("score_thr is {0}; use a finite number")]
    Score(f64),
    /// COCO settings that cannot be evaluated.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// Images that cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Checked settings and the classes to evaluate.
#[derive(Debug, Clone, PartialEq)]
pub struct DetailPlan {
    params: DetailParams,
    /// One IoU threshold, one area range, one detection limit.
    coco: Plan,
    confusion: PairingParams,
    /// Ids of the classes, ascending.
    class_ids: Vec<i64>,
}

impl DetailPlan {
    /// Checks the settings. From `coco` come the area range `all` (pycocotools' own, where there is
    /// none of that name) and the largest detection limit; thresholds come from `params`.
    ///
    /// # Errors
    /// [`DetailsError`], where the settings cannot be evaluated.
    pub fn new(
        categories: &[Category],
        params: &DetailParams,
        coco: &CocoParams,
    ) -> Result<Self, DetailsError> {
        let shares = params.recalls.iter().map(|&recall| ("recall", recall));
        for (name, value) in shares.chain([("iou_thr", params.iou_thr)]) {
            if !(value > 0.0 && value <= 1.0) {
                return Err(DetailsError::Share { name, value });
            }
        }
        if !params.score_thr.is_finite() {
            return Err(DetailsError::Score(params.score_thr));
        }
        let coco = outcomes::at_one_threshold(coco, params.iou_thr);
        let confusion = PairingParams {
            score_thr: params.score_thr,
            iou_thr: params.iou_thr,
            max_dets: coco.max_dets.first().copied().unwrap_or(0),
        };
        let coco = Plan::new(categories, &coco)?;
        let class_ids = coco.categories().iter().map(|c| c.id).collect();
        Ok(Self { params: params.clone(), coco, confusion, class_ids })
    }
}

/// The matches of some of the images, keyed so that the order of merging does not matter.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DetailsShard {
    /// Per image, for operating points and results per image.
    pub coco: Vec<ImageMatches>,
    /// Per image, for the confusion matrix.
    pub confusion: Vec<ImageConfusion>,
}

/// Operating points, confusion matrix and results per image. Undefined values are `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Details {
    /// What they were computed at.
    pub params: DetailParams,
    /// Every class, by ascending id.
    pub operating_points: Vec<ClassPoints>,
    /// At the score threshold.
    pub confusion: ConfusionMatrix,
    /// Every image at the score threshold, by ascending id; [`per_image::worst_first`] ranks them.
    pub per_image: Vec<ImageResult>,
}

/// Computes the details of the images. Runs on rayon's current pool.
///
/// # Errors
/// [`DetailsError`], where the settings cannot be evaluated or two images share an id.
pub fn details(
    categories: &[Category],
    images: &[(&ImageRecord, &[Detection])],
    params: &DetailParams,
    coco: &CocoParams,
) -> Result<Details, DetailsError> {
    let plan = DetailPlan::new(categories, params, coco)?;
    Ok(match_details(images, &plan).evaluate(&plan)?)
}

/// Matches the images.
pub fn match_details(images: &[(&ImageRecord, &[Detection])], plan: &DetailPlan) -> DetailsShard {
    let (coco, confusion) = images
        .par_iter()
        .map(|(image, dts)| {
            let (id, gts) = (image.id, image.ground_truth.as_slice());
            // The fixes are about boxes, and so about both.
            let prepared = prepared(gts, dts, &plan.coco);
            let (gts, dts) = prepared.as_ref().map_or((gts, *dts), |(gts, dts)| (gts, dts));
            (
                coco::match_image(id, gts, dts, &plan.coco),
                pairing::match_image(id, gts, dts, &plan.class_ids, &plan.confusion),
            )
        })
        .unzip();
    DetailsShard { coco, confusion }
}

impl DetailsShard {
    /// The images of both. Associative, and commutative as far as [`Self::evaluate`] can tell.
    pub fn merge(mut self, other: Self) -> Self {
        self.coco.extend(other.coco);
        self.confusion.extend(other.confusion);
        self
    }

    /// The details over all images.
    ///
    /// # Errors
    /// [`MergeError`], where an image is there twice or was matched with other settings.
    pub fn evaluate(self, plan: &DetailPlan) -> Result<Details, MergeError> {
        let outcomes = outcomes::read(&plan.coco, &self.coco)?;
        let (params, coco) = (&plan.params, &plan.coco);
        let (operating_points, confusion) = rayon::join(
            || operating_points::accumulate(coco, &outcomes, &params.recalls),
            || confusion::accumulate(coco.categories(), &self.confusion),
        );
        Ok(Details {
            params: params.clone(),
            operating_points,
            confusion: confusion?,
            per_image: per_image::accumulate(&outcomes, params.score_thr),
        })
    }
}
