//! The 12 numbers of COCO, over all classes and for each: `COCOeval.summarize` of pycocotools 2.0.11.
//!
//! What pycocotools does that a reader may not expect, and what is kept:
//! - `AP` looks for a limit of exactly 100 detections and is undefined without one; the others use
//!   the third limit whatever it is. [`Fix::MaxDets`] mends that.
//! - `AP50` and `AP75` look for thresholds of exactly 0.5 and 0.75, the area numbers for the names
//!   `small`, `medium`, `large`; without them they are undefined.
//!
//! Undefined is `None`, where pycocotools says -1. Where it would raise an exception (fewer than
//! three limits) the numbers that need the missing one are undefined too.
//!
//! Deliberately absent: a table for people (`report`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coco::Curves;
use super::sum::mean;
#[cfg(doc)]
use crate::matching::Fix;
use crate::matching::coco::{Plan, SummaryLimits};

/// The 12 numbers, 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs, reason = "COCO's own names")]
pub struct CocoSummary {
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
    #[serde(rename = "AR1")]
    pub ar1: Option<f64>,
    #[serde(rename = "AR10")]
    pub ar10: Option<f64>,
    #[serde(rename = "AR100")]
    pub ar100: Option<f64>,
    #[serde(rename = "ARs")]
    pub ar_small: Option<f64>,
    #[serde(rename = "ARm")]
    pub ar_medium: Option<f64>,
    #[serde(rename = "ARl")]
    pub ar_large: Option<f64>,
}

impl CocoSummary {
    /// The numbers under COCO's names, in the order of `COCOeval.stats`.
    pub fn named(&self) -> [(&'static str, Option<f64>); 12] {
        [
            ("AP", self.ap),
            ("AP50", self.ap50),
            ("AP75", self.ap75),
            ("APs", self.ap_small),
            ("APm", self.ap_medium),
            ("APl", self.ap_large),
            ("AR1", self.ar1),
            ("AR10", self.ar10),
            ("AR100", self.ar100),
            ("ARs", self.ar_small),
            ("ARm", self.ar_medium),
            ("ARl", self.ar_large),
        ]
    }
}

/// One class's numbers: what pycocotools says when this class alone is evaluated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassSummary {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// Its numbers.
    #[serde(flatten)]
    pub summary: CocoSummary,
}

/// The COCO protocol's result.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CocoMetrics {
    /// Over all classes.
    #[serde(flatten)]
    pub summary: CocoSummary,
    /// Every class, by ascending id; empty where classes do not matter (`use_cats` is false).
    pub per_class: Vec<ClassSummary>,
    /// What the numbers are means of; too large for a report.
    #[serde(skip)]
    pub curves: Curves,
}

impl CocoMetrics {
    pub(super) fn summarize(plan: &Plan, curves: Curves) -> Self {
        let view = |classes: &[usize]| View { plan, curves: &curves, classes }.summary();
        let all: Vec<usize> = (0..plan.classes.len()).collect();
        let summary = view(&all);
        let categories = if plan.use_cats { plan.categories() } else { &[] };
        let per_class = categories
            .iter()
            .enumerate()
            .map(|(k, category)| ClassSummary {
                category_id: category.id,
                name: category.name.clone(),
                summary: view(&[k]),
            })
            .collect();
        Self { summary, per_class, curves }
    }
}

/// The curves of some of the classes.
pub(super) struct View<'v> {
    pub(super) plan: &'v Plan,
    pub(super) curves: &'v Curves,
    /// Places of the classes, ascending.
    pub(super) classes: &'v [usize],
}

impl View<'_> {
    fn summary(&self) -> CocoSummary {
        let SummaryLimits { ap, first, second, others } =
            SummaryLimits::new(&self.plan.max_dets, self.plan.fixes);
        CocoSummary {
            ap: self.ap(None, "all", ap),
            ap50: self.ap(Some(0.5), "all", others),
            ap75: self.ap(Some(0.75), "all", others),
            ap_small: self.ap(None, "small", others),
            ap_medium: self.ap(None, "medium", others),
            ap_large: self.ap(None, "large", others),
            ar1: self.ar("all", first),
            ar10: self.ar("all", second),
            ar100: self.ar("all", others),
            ar_small: self.ar("small", others),
            ar_medium: self.ar("medium", others),
            ar_large: self.ar("large", others),
        }
    }

    pub(super) fn largest(&self) -> Option<usize> {
        self.plan.max_dets.last().copied()
    }

    /// Mean precision over the thresholds (or those equal to `iou_thr`), recalls and classes, added
    /// in the order of `precision[:, :, :, area, limit]`.
    pub(super) fn ap(
        &self,
        iou_thr: Option<f64>,
        area: &str,
        max_det: Option<usize>,
    ) -> Option<f64> {
        let a = self.area(area)?;
        let limits = self.limits(max_det?);
        let mut values = Vec::new();
        for (t, thr) in self.plan.iou_thrs.iter().enumerate() {
            if iou_thr.is_some_and(|wanted| wanted != *thr) {
                continue;
            }
            // Rows of one recall threshold each; a class that is absent has an empty column.
            let columns: Vec<&[f64]> = self
                .classes
                .iter()
                .flat_map(|&k| limits.clone().map(move |m| self.curves.precisions(t, k, a, m)))
                .filter(|column| !column.is_empty())
                .collect();
            for r in 0..self.plan.rec_thrs.len() {
                values.extend(columns.iter().map(|column| column[r]));
            }
        }
        mean(&values)
    }

    /// Mean recall over thresholds and classes, added in the order of `recall[:, :, area, limit]`.
    pub(super) fn ar(&self, area: &str, max_det: Option<usize>) -> Option<f64> {
        let a = self.area(area)?;
        let limits = self.limits(max_det?);
        let mut values = Vec::new();
        for t in 0..self.plan.iou_thrs.len() {
            for &k in self.classes {
                values.extend(limits.clone().filter_map(|m| self.curves.recall(t, k, a, m)));
            }
        }
        mean(&values)
    }

    fn area(&self, name: &str) -> Option<usize> {
        self.plan.area_ranges.iter().position(|range| range.name == name)
    }

    /// Places of the limits that equal `max_det`. They ascend, so equal ones are neighbours, and
    /// pycocotools takes the mean over all of them.
    fn limits(&self, max_det: usize) -> std::ops::Range<usize> {
        let limits = &self.plan.max_dets;
        limits.partition_point(|&m| m < max_det)..limits.partition_point(|&m| m <= max_det)
    }
}
