//! The 13 numbers of LVIS, over all classes and for each: `LVISEval` of the `lvis` package 0.5.3.
//!
//! Accumulation is pycocotools' with one limit on the detections, and the means are taken alike:
//! the curves are those of [`super::coco`]. What differs is in the matching
//! ([`crate::matching::lvis`]), and that AP is also said for the classes of each frequency.
//!
//! Undefined is `None`, where `lvis` says -1.
//!
//! Deliberately absent: a table for people (`report`), and reading of the files (`dataset`): a class
//! without a frequency belongs to no group, an image without lists has empty ones, where `lvis`
//! raises exceptions.

use serde::{Deserialize, Serialize};

use super::EvaluateError;
use super::coco::{Curves, match_and_draw};
use super::summary::View;
use crate::dataset::{Category, Federation, Frequency, ImageRecord};
use crate::detections::Detection;
use crate::matching::Fixes;
use crate::matching::coco::{AreaRange, CocoParams, Plan};
use crate::matching::lvis::{MAX_DETS, match_image};

/// What can be set; the default is that of `lvis`, whose thresholds and ranges are COCO's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LvisParams {
    /// IoU thresholds; at most 64.
    pub iou_thrs: Vec<f64>,
    /// Recalls at which precision is read off.
    pub rec_thrs: Vec<f64>,
    /// Area ranges; at most 32.
    pub area_ranges: Vec<AreaRange>,
    /// Which traps are mended; none by default. `max-dets` has no meaning here.
    pub fixes: Fixes,
}

impl Default for LvisParams {
    fn default() -> Self {
        let CocoParams { iou_thrs, rec_thrs, area_ranges, fixes, .. } = CocoParams::default();
        Self { iou_thrs, rec_thrs, area_ranges, fixes }
    }
}

impl From<&LvisParams> for CocoParams {
    fn from(params: &LvisParams) -> Self {
        Self {
            iou_thrs: params.iou_thrs.clone(),
            rec_thrs: params.rec_thrs.clone(),
            max_dets: vec![MAX_DETS],
            area_ranges: params.area_ranges.clone(),
            use_cats: true,
            fixes: params.fixes,
        }
    }
}

/// The 13 numbers, 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "LVIS's own names")]
pub struct LvisSummary {
    #[serde(rename = "AP")]
    pub ap: Option<f64>,
    #[serde(rename = "AP50")]
    pub ap50: Option<f64>,
    #[serde(rename = "AP75")]
    pub ap75: Option<f64>,
    #[serde(rename = "APs")]
    pub ap_small: Option<f64>,
    #[serde(rename = "APm")]
    pub ap_medium: Option<f64>,
    #[serde(rename = "APl")]
    pub ap_large: Option<f64>,
    #[serde(rename = "APr")]
    pub ap_rare: Option<f64>,
    #[serde(rename = "APc")]
    pub ap_common: Option<f64>,
    #[serde(rename = "APf")]
    pub ap_frequent: Option<f64>,
    #[serde(rename = "AR@300")]
    pub ar: Option<f64>,
    #[serde(rename = "ARs@300")]
    pub ar_small: Option<f64>,
    #[serde(rename = "ARm@300")]
    pub ar_medium: Option<f64>,
    #[serde(rename = "ARl@300")]
    pub ar_large: Option<f64>,
}

impl LvisSummary {
    /// The numbers under LVIS's names, in the order of `LVISEval.results`.
    pub fn named(&self) -> [(&'static str, Option<f64>); 13] {
        [
            ("AP", self.ap),
            ("AP50", self.ap50),
            ("AP75", self.ap75),
            ("APs", self.ap_small),
            ("APm", self.ap_medium),
            ("APl", self.ap_large),
            ("APr", self.ap_rare),
            ("APc", self.ap_common),
            ("APf", self.ap_frequent),
            ("AR@300", self.ar),
            ("ARs@300", self.ar_small),
            ("ARm@300", self.ar_medium),
            ("ARl@300", self.ar_large),
        ]
    }

    /// Of the classes at the places `classes`; `frequency` says how common the class at a place is.
    fn of(
        plan: &Plan,
        curves: &Curves,
        classes: &[usize],
        frequency: impl Fn(usize) -> Option<Frequency>,
    ) -> Self {
        let view = View { plan, curves, classes };
        let limit = view.largest();
        let of_frequency = |wanted: Frequency| {
            let group = classes.iter().copied().filter(|&k| frequency(k) == Some(wanted));
            let group: Vec<usize> = group.collect();
            View { plan, curves, classes: &group }.ap(None, "all", limit)
        };
        Self {
            ap: view.ap(None, "all", limit),
            ap50: view.ap(Some(0.5), "all", limit),
            ap75: view.ap(Some(0.75), "all", limit),
            ap_small: view.ap(None, "small", limit),
            ap_medium: view.ap(None, "medium", limit),
            ap_large: view.ap(None, "large", limit),
            ap_rare: of_frequency(Frequency::Rare),
            ap_common: of_frequency(Frequency::Common),
            ap_frequent: of_frequency(Frequency::Frequent),
            ar: view.ar("all", limit),
            ar_small: view.ar("small", limit),
            ar_medium: view.ar("medium", limit),
            ar_large: view.ar("large", limit),
        }
    }
}

/// One class's numbers: what `lvis` says when its arrays hold this class alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LvisClassSummary {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// Its numbers; of `APr`, `APc` and `APf` one at most.
    #[serde(flatten)]
    pub summary: LvisSummary,
}

/// The result by the rules of LVIS.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LvisMetrics {
    /// Over all classes.
    #[serde(flatten)]
    pub summary: LvisSummary,
    /// Every class, by ascending id.
    pub per_class: Vec<LvisClassSummary>,
    /// What the numbers are means of, with one detection limit; too large for a report.
    #[serde(skip)]
    pub curves: Curves,
}

/// Evaluates the images, in the order of the annotation file, by the rules of LVIS.
///
/// Classes that are not among `categories` are not evaluated. Runs on rayon's current pool.
///
/// # Errors
/// [`EvaluateError`], where the settings cannot be evaluated or two images share an id.
pub fn evaluate(
    categories: &[Category],
    federation: &Federation,
    images: &[(&ImageRecord, &[Detection])],
    params: &LvisParams,
) -> Result<LvisMetrics, EvaluateError> {
    let plan = Plan::new(categories, &params.into())?;
    let curves = match_and_draw(&plan, images, |image, dts| {
        match_image(image.id, &image.ground_truth, dts, federation, &plan)
    })?;
    let frequency = |k: usize| federation.frequency.get(&plan.classes[k]).copied();
    let all: Vec<usize> = (0..plan.classes.len()).collect();
    let summary = LvisSummary::of(&plan, &curves, &all, frequency);
    let per_class = plan.categories().iter().enumerate().map(|(k, category)| LvisClassSummary {
        category_id: category.id,
        name: category.name.clone(),
        summary: LvisSummary::of(&plan, &curves, &[k], frequency),
    });
    Ok(LvisMetrics { summary, per_class: per_class.collect(), curves })
}
