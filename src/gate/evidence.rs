//! What a verdict rests on: both sides' metrics, over all images and on every slice.
//!
//! Metrics are computed from detections wherever these are known; a snapshot's are read where nothing else
//! is. On slices they are never read: a slice may be defined anew without making a baseline useless.

use super::analysis::Known;
use super::{Fingerprint, GateError, MetricTable, Snapshot};
use crate::dataset::{Category, ImageRecord, Slice};
use crate::detections::Detection;
use crate::matching::coco::CocoParams;
use crate::matching::practical::PracticalParams;
use crate::metrics::{self, Evaluation};

/// An image, and what a detector found on it.
pub type Found<'a> = (&'a ImageRecord, &'a [Detection]);

/// What a candidate is compared with.
#[derive(Debug, Clone)]
pub struct Baseline<'a> {
    /// Where it is: a path, or a model of the registry.
    pub name: String,
    /// What must be equal.
    pub fingerprint: &'a Fingerprint,
    /// What ran it.
    pub engine: &'a str,
    /// [`Snapshot::digest`], where it is a snapshot.
    pub digest: Option<String>,
    /// Its metrics as they were recorded, where they were.
    pub recorded: Option<&'a MetricTable>,
    /// What was found, on the candidate's images in their order; `None` where that was not kept.
    pub found: Option<&'a [Found<'a>]>,
}

impl<'a> Baseline<'a> {
    /// A snapshot that is called `name`, and its detections.
    pub fn of(name: String, snapshot: &'a Snapshot, found: Option<&'a [Found<'a>]>) -> Self {
        Self {
            name,
            fingerprint: &snapshot.fingerprint,
            engine: &snapshot.provenance.engine,
            digest: Some(snapshot.digest()),
            recorded: Some(&snapshot.metrics),
            found,
        }
    }
}

/// What is judged, and how its images are divided.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The classes.
    pub categories: &'a [Category],
    /// Named sets of images.
    pub slices: &'a [Slice],
    /// The group of each image; `None` where each stands for itself.
    pub groups: Option<&'a [u32]>,
    /// The practical protocol's thresholds.
    pub practical: PracticalParams,
}

/// The metrics of both sides on the same images.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// What is judged.
    pub subject: Subject<'a>,
    /// All images, and then each slice.
    pub(super) parts: Vec<Part<'a>>,
    /// How many images, or groups of images, there are to resample.
    pub(super) units: usize,
}

/// All images, or a slice of them.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    slice: Option<&'a str>,
    /// The unit of each image.
    pub(super) units: Vec<u32>,
    pub(super) candidate: Vec<Found<'a>>,
    /// `None` where the baseline's detections are not known.
    pub(super) baseline: Option<Vec<Found<'a>>>,
    candidate_table: MetricTable,
    /// `None` where there is no baseline, or nothing is known of it on this slice.
    baseline_table: Option<MetricTable>,
}

impl<'a> Evidence<'a> {
    /// Both sides on the same images, in the same order, and their evaluations on all of them.
    ///
    /// # Errors
    /// [`GateError::Evaluate`], where two images have the same id.
    pub(super) fn gather(
        subject: Subject<'a>,
        candidate: &[Found<'a>],
        baseline: Option<&Baseline<'a>>,
    ) -> Result<(Self, Known<Evaluation>), GateError> {
        let found = baseline.and_then(|baseline| baseline.found);
        let images: Vec<usize> = (0..candidate.len()).collect();
        let mut whole = Part::new(&subject, None, &images, candidate, found);
        let evaluation = subject.evaluate(candidate)?;
        whole.candidate_table = evaluation.table();
        let before = found.map(|found| subject.evaluate(found)).transpose()?;
        whole.baseline_table = match &before {
            Some(before) => Some(before.table()),
            None => baseline.and_then(|baseline| baseline.recorded).cloned(),
        };
        let mut parts = vec![whole];
        for slice in subject.slices {
            let mut part = Part::new(&subject, Some(&slice.name), &slice.images, candidate, found);
            part.candidate_table = subject.evaluate(&part.candidate)?.table();
            if let Some(baseline) = &part.baseline {
                part.baseline_table = Some(subject.evaluate(baseline)?.table());
            }
            parts.push(part);
        }
        let units = parts[0].units.iter().max().map_or(0, |&last| last as usize + 1);
        let evaluation = Known { baseline: before, candidate: evaluation };
        Ok((Self { subject, parts, units }, evaluation))
    }

    /// Whether what was recorded of a baseline is what follows from its detections.
    ///
    /// # Errors
    /// [`GateError::Disagrees`] with the first metric that is off by more than `numeric_noise`.
    pub(super) fn check(&self, baseline: &Baseline, numeric_noise: f64) -> Result<(), GateError> {
        let (Some(recorded), Some(_)) = (baseline.recorded, baseline.found) else { return Ok(()) };
        for (metric, &recorded) in recorded {
            let (computed, _) = self.parts[0].values(metric);
            let agree = match (recorded, computed) {
                (Some(recorded), Some(computed)) => (recorded - computed).abs() <= numeric_noise,
                (recorded, computed) => recorded == computed,
            };
            if !agree {
                return Err(GateError::Disagrees {
                    name: baseline.name.clone(),
                    metric: metric.clone(),
                    recorded: said(recorded),
                    computed: said(computed),
                });
            }
        }
        Ok(())
    }

    /// Metrics that were measured elsewhere, of which nothing but the values is known.
    pub fn of_tables(candidate: &MetricTable, baseline: Option<&Baseline>) -> Self {
        let (categories, slices) = (&[][..], &[][..]);
        let practical = PracticalParams::default();
        let subject = Subject { categories, slices, groups: None, practical };
        let mut whole = Part::new(&subject, None, &[], &[], None);
        whole.candidate_table = candidate.clone();
        whole.baseline_table = baseline.and_then(|baseline| baseline.recorded).cloned();
        Self { subject, parts: vec![whole], units: 0 }
    }

    /// Every metric of either side, on all images and on each slice: `None` where neither side has a
    /// value.
    pub(super) fn values(&self) -> MetricTable {
        let values = |part: &Part| {
            let value = |metric: &str| {
                let (baseline, candidate) = part.values(metric);
                (part.full_name(metric), candidate.or(baseline))
            };
            part.metrics().map(value).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(values).collect()
    }

    /// Whether this is the full name of a metric on a slice.
    pub(super) fn is_on_slice(&self, name: &str) -> bool {
        let is_of = |part: &Part| part.metrics().any(|metric| part.full_name(metric) == name);
        self.parts.iter().skip(1).any(is_of)
    }

    pub(super) fn has_both_sides(&self) -> bool {
        self.parts[0].baseline.is_some()
    }
}

fn said(value: Option<f64>) -> String {
    value.map_or_else(|| "undefined".to_owned(), |value| value.to_string())
}

impl Subject<'_> {
    /// Both protocols' metrics.
    ///
    /// # Errors
    /// [`GateError::Evaluate`], where two images have the same id.
    pub fn evaluate(&self, images: &[Found]) -> Result<Evaluation, GateError> {
        Ok(metrics::evaluate(self.categories, images, &self.practical, &CocoParams::default())?)
    }
}

impl<'a> Part<'a> {
    fn new(
        subject: &Subject<'a>,
        slice: Option<&'a str>,
        images: &[usize],
        candidate: &[Found<'a>],
        baseline: Option<&[Found<'a>]>,
    ) -> Self {
        let unit = |&i: &usize| subject.groups.map_or(i as u32, |groups| groups[i]);
        let chosen = |found: &[Found<'a>]| images.iter().map(|&i| found[i]).collect();
        Self {
            slice,
            units: images.iter().map(unit).collect(),
            candidate: chosen(candidate),
            baseline: baseline.map(chosen),
            candidate_table: MetricTable::new(),
            baseline_table: None,
        }
    }

    /// A metric's name among all: `AP50/person@night`.
    pub(super) fn full_name(&self, metric: &str) -> String {
        self.slice.map_or_else(|| metric.to_owned(), |slice| format!("{metric}@{slice}"))
    }

    /// The metrics of either side, in name order.
    pub(super) fn metrics(&self) -> impl Iterator<Item = &str> {
        let mut names: Vec<&String> = self.candidate_table.keys().collect();
        names.extend(self.baseline_table.iter().flat_map(MetricTable::keys));
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(String::as_str)
    }

    /// The baseline's and the candidate's value, where they are defined.
    pub(super) fn values(&self, metric: &str) -> (Option<f64>, Option<f64>) {
        let of =
            |table: &MetricTable| table.get(metric).copied().flatten().filter(|v| v.is_finite());
        (self.baseline_table.as_ref().and_then(of), of(&self.candidate_table))
    }
}
