//! What a page is made of, as one value: texts as they are shown, numbers as they are.
//!
//! Names are made safe for a reader's eye here ([`crate::shown`]); that they are no HTML is the page's part.

use serde::Serialize;
use serde_json::{Value, json};

use super::gallery::{self, Image};
use super::rows::{self, Row};
use super::{Pictures, verdict};
use crate::gate::{Alone, Analysis, Judgement, Verdict, Why};
use crate::metrics::calibration::{Calibration, Reliability};
use crate::metrics::operating_points::OperatingPoint;
use crate::metrics::tide::Tide;
use crate::report::{Report, sources, why_text, words};
use crate::shown::{self, count};

/// Everything that the script reads.
#[derive(Debug, Serialize)]
pub(super) struct Island {
    verdict: Value,
    subject: Value,
    method: String,
    next: Vec<Step>,
    rows: Vec<Row>,
    rows_left_out: bool,
    has_baseline: bool,
    /// Its detections are known, not only its numbers.
    has_both: bool,
    has_intervals: bool,
    confidence: f64,
    score_thr: f64,
    classes: Vec<String>,
    curves: Vec<Value>,
    calibration: Option<Value>,
    thresholds: Vec<Value>,
    tide: Vec<Value>,
    confusion: Option<Value>,
    images: Vec<Image>,
    provenance: Vec<(String, String)>,
}

/// A sentence of what to do, and a command for it.
#[derive(Debug, Serialize)]
struct Step {
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'static str>,
}

pub(super) fn of(report: &Report, pictures: &Pictures) -> Island {
    let Report { judgement, why, analysis, .. } = report;
    let per_class = &report.evaluation.coco.per_class;
    let ids: Vec<i64> = per_class.iter().map(|class| class.category_id).collect();
    let (rows, rows_left_out) = rows::of(report);
    let analysis = analysis.as_ref();
    let told = Told::of(why.as_ref(), analysis.and_then(|analysis| analysis.alone.as_ref()));
    Island {
        verdict: verdict_words(judgement),
        subject: subject(report),
        method: method(judgement),
        next: next(judgement),
        has_baseline: judgement.comparisons.iter().any(|c| c.baseline.is_some()),
        has_both: why.is_some(),
        has_intervals: judgement.comparisons.iter().any(|c| c.interval.is_some()),
        rows,
        rows_left_out,
        confidence: judgement.method.confidence,
        score_thr: report.settings.score_thr,
        classes: per_class.iter().map(|class| shown::name(&class.name)).collect(),
        curves: analysis.map(curves).unwrap_or_default(),
        calibration: told.as_ref().map(|told| {
            let (before, after) = told.calibration;
            json!({"baseline": before.map(calibration), "candidate": calibration(after)})
        }),
        thresholds: told.as_ref().map(thresholds).unwrap_or_default(),
        tide: told.as_ref().map(tide).unwrap_or_default(),
        confusion: analysis.map(|analysis| confusion(analysis, &ids)),
        images: analysis
            .map(|analysis| gallery::of(report, analysis, &ids, pictures))
            .unwrap_or_default(),
        provenance: sources(report)
            .into_iter()
            .map(|(name, fact)| (shown::line(&name), shown::line(&fact)))
            .collect(),
    }
}

fn verdict_words(judgement: &Judgement) -> Value {
    let text = words::judgement(judgement);
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    // `REGRESSED: 2 of 7 judged metrics`, but `INCOMPARABLE with the baseline`.
    let rest = first
        .split_once(": ")
        .map_or("This run cannot be compared with the baseline", |(_, rest)| rest);
    let lines: Vec<&str> = lines.map(str::trim).collect();
    let (asides, reasons): (Vec<&str>, Vec<&str>) =
        lines.iter().partition(|line| line.starts_with("warning: ") || line.starts_with("note: "));
    json!({
        "kind": verdict(judgement.verdict).split(' ').next(),
        "title": verdict(judgement.verdict),
        "sum": rest,
        "reasons": reasons,
        "asides": asides,
    })
}

fn subject(report: &Report) -> Value {
    let data = &report.data;
    let skipped = |image: &crate::report::SkippedImage| {
        json!([shown::name(&image.file_name), shown::line(&image.reason)])
    };
    json!({
        "checkpoint": shown::line(&report.checkpoint.checkpoint),
        "images": data.images,
        "ground_truth": data.ground_truth,
        "zero_area_boxes": data.zero_area_boxes,
        "skipped": data.skipped_images.iter().map(skipped).collect::<Vec<_>>(),
    })
}

fn method(judgement: &Judgement) -> String {
    let method = &judgement.method;
    if method.replicates == 0 {
        return "There are no intervals: only the change on these images was judged.".to_owned();
    }
    let units = count(method.units, if method.grouped { "group of images" } else { "image" });
    format!(
        "Intervals say how far chance may move a change, at {} % confidence: both runs on {units}, resampled {} \
         times.",
        (method.confidence * 1e4).round() / 1e2,
        method.replicates
    )
}

/// What a reader can do now. The commands are of `detgate`, however it was called: equal runs make equal pages.
fn next(judgement: &Judgement) -> Vec<Step> {
    let step = |text: &str, command| Step { text: text.to_owned(), command };
    let accept = Some("detgate bless --force --reason \"why\"");
    match judgement.verdict {
        Verdict::Passed => vec![
            step("Nothing has to be done: no judged metric fell too far.", None),
            step(
                "To make this run the new baseline, then commit the baseline:",
                Some("detgate bless --reason \"why\""),
            ),
        ],
        Verdict::Regressed => vec![
            step(
                "Look at the pictures and the class that lost most. If it is a mistake, correct it and evaluate again.",
                Some("detgate eval"),
            ),
            step(
                "If the loss is wanted, accept it with a reason, then commit the baseline:",
                accept,
            ),
        ],
        Verdict::Inconclusive => vec![
            step(
                "These images cannot tell whether it got worse. Evaluate more of them; the sentences above say how many \
                 would settle it.",
                Some("detgate eval --max-images 0"),
            ),
            step("Or accept it with a reason, then commit the baseline:", accept),
        ],
        Verdict::Incomparable if judgement.against.is_none() => vec![step(
            "Make this run the baseline that later ones are compared with, then commit the baseline:",
            Some("detgate bless --reason \"why\""),
        )],
        Verdict::Incomparable => vec![step(
            "Nothing was judged. Evaluate the model that is to be compared with in the same way, or make this run \
                 the baseline, then commit it:",
            accept,
        )],
    }
}

fn curves(analysis: &Analysis) -> Vec<Value> {
    let curve = |curve: &crate::gate::ClassCurve| {
        json!({
            "class": shown::name(&curve.name),
            "baseline": curve.baseline,
            "candidate": curve.candidate,
        })
    };
    analysis.curves.iter().map(curve).collect()
}

fn calibration(side: &Calibration) -> Value {
    let Reliability { detections, bins, .. } = &side.pooled;
    let bin = |bin: &crate::metrics::calibration::Bin| {
        json!([
            bin.lower,
            bin.upper,
            bin.detections,
            bin.true_positives,
            bin.mean_score,
            bin.precision
        ])
    };
    json!({
        "ece": side.ece,
        "la_ece": side.la_ece,
        "detections": detections,
        "bins": bins.iter().map(bin).collect::<Vec<_>>(),
    })
}

/// The baseline's side, where it is known, and the candidate's.
type Side<'r, T> = (Option<&'r T>, &'r T);

/// What is told of both sides, or of the candidate alone.
struct Told<'r> {
    tide: Side<'r, Tide>,
    calibration: Side<'r, Calibration>,
    /// Class, and the best F1 of each side.
    best_f1: Vec<(&'r str, Option<OperatingPoint>, Option<OperatingPoint>)>,
}

impl<'r> Told<'r> {
    fn of(why: Option<&'r Why>, alone: Option<&'r Alone>) -> Option<Self> {
        let both = why.map(|why| Self {
            tide: (Some(&why.tide.baseline), &why.tide.candidate),
            calibration: (Some(&why.calibration.baseline), &why.calibration.candidate),
            best_f1: why
                .best_f1
                .iter()
                .map(|c| (&*c.name, c.sides.baseline, c.sides.candidate))
                .collect(),
        });
        let one = || {
            alone.map(|alone| Self {
                tide: (None, &alone.tide),
                calibration: (None, &alone.calibration),
                best_f1: alone
                    .best_f1
                    .iter()
                    .map(|class| (&*class.name, None, class.best_f1))
                    .collect(),
            })
        };
        both.or_else(one)
    }
}

/// Class, and the score of the best F1 before and after.
fn thresholds(told: &Told) -> Vec<Value> {
    let at =
        |side: &Option<OperatingPoint>| side.map(|point| json!([point.score_thr, point.tally.f1]));
    let class = |(name, before, after): &(&str, _, _)| json!({"class": shown::name(name), "baseline": at(before), "candidate": at(after)});
    told.best_f1.iter().map(class).collect()
}

fn tide(told: &Told) -> Vec<Value> {
    let (before, after) = told.tide;
    let (costs, counts) = (after.dap.named(), after.counts.named());
    let (old_costs, old_counts) = (before.map(|t| t.dap.named()), before.map(|t| t.counts.named()));
    let kind = |i: usize| {
        let (kind, cost) = costs[i];
        json!({
            "kind": why_text::words(kind),
            "baseline": old_costs.and_then(|costs| costs[i].1),
            "candidate": cost,
            "counts": [old_counts.map(|counts| counts[i].1), Some(counts[i].1)],
            "special": kind == "FalsePos" || kind == "FalseNeg",
        })
    };
    (0..costs.len()).map(kind).collect()
}

fn confusion(analysis: &Analysis, ids: &[i64]) -> Value {
    let confusion = &analysis.confusion;
    let place = |id: Option<i64>| id.map(|id| ids.iter().position(|&other| other == id));
    let cell = |cell: &crate::gate::ConfusionCell| {
        json!([place(cell.truth), place(cell.prediction), cell.baseline, cell.candidate])
    };
    json!({
        "iou_thr": confusion.iou_thr,
        "score_thr": confusion.score_thr,
        "is_whole": confusion.classes.len() <= crate::gate::MATRIX_CLASSES,
        "cells": confusion.cells.iter().map(cell).collect::<Vec<_>>(),
    })
}
