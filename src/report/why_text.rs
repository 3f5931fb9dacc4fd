//! What is behind a verdict, as a person reads it in a terminal.

use std::collections::HashMap;

use comfy_table::Table;

use super::Report;
use super::terminal::{align_numbers, count, plain, signed, value};
use crate::gate::{ChangedImage, ClassThreshold, Why};
use crate::metrics::losses::FlipKind;

/// As many as a reader takes in.
const FEW: usize = 5;

/// Empty where nothing changed; else ends in an empty line.
pub(super) fn text(why: &Why, report: &Report) -> String {
    if why.tide.baseline == why.tide.candidate && why.worst.is_empty() && why.improved.is_empty() {
        return String::new();
    }
    let classes = report.evaluation.practical.per_class.iter();
    let names: HashMap<i64, &str> =
        classes.map(|class| (class.category_id, class.name.as_str())).collect();
    let images = |title: &str, images: &[ChangedImage]| {
        if images.is_empty() {
            return String::new();
        }
        let lines = images.iter().take(FEW).map(|image| changed(image, &names));
        format!("{title} at score >= {}\n{}\n", why.score_thr, lines.collect::<String>())
    };
    format!(
        "{}\n\n{}{}{}\n",
        mistakes(why).trim_fmt(),
        images("images that lost most", &why.worst),
        images("images that improved most", &why.improved),
        scores(why)
    )
}

/// What each kind of mistake costs.
fn mistakes(why: &Why) -> Table {
    let mut table = plain(["mistakes (TIDE)", "baseline dAP", "candidate dAP", "change", "count"]);
    let (before, after) = (&why.tide.baseline, &why.tide.candidate);
    let counts = before.counts.named().into_iter().zip(after.counts.named());
    let kinds = before.dap.named().into_iter().zip(after.dap.named()).zip(counts);
    for (((kind, before), (_, after)), ((_, before_count), (_, after_count))) in kinds {
        let change = before.zip(after).map(|(before, after)| after - before);
        table.add_row([
            words(kind).to_owned(),
            value(before),
            value(after),
            change.map_or_else(|| "-".to_owned(), signed),
            format!("{before_count} -> {after_count}"),
        ]);
    }
    align_numbers(&mut table);
    table
}

fn words(kind: &str) -> &str {
    match kind {
        "Cls" => "wrong class",
        "Loc" => "poor box",
        "Both" => "wrong class and poor box",
        "Dupe" => "duplicate",
        "Bkg" => "background",
        "Miss" => "missed",
        "FalsePos" => "all false positives",
        "FalseNeg" => "all misses",
        other => other,
    }
}

/// `night/12.jpg: 3 more errors: missed person (0.91), new false car (0.88), ...`
fn changed(image: &ChangedImage, names: &HashMap<i64, &str>) -> String {
    let change = image.loss.errors_change();
    let more = if change > 0 { "more" } else { "fewer" };
    let name = |id: &i64| names.get(id).copied().unwrap_or("another class");
    let flips = image.loss.flips.iter().take(FEW).map(|flip| {
        let class = name(&flip.category_id);
        let other = flip.other_category_id.as_ref().map_or("another class", name);
        let said = match flip.kind {
            FlipKind::Missed => format!("missed {class}"),
            FlipKind::Mislabelled => format!("{class} taken for {other}"),
            FlipKind::NewFalsePositive => format!("new false {class}"),
            FlipKind::Found => format!("found {class}"),
            FlipKind::Corrected => format!("{class} no longer taken for {other}"),
            FlipKind::FalsePositiveGone => format!("false {class} gone"),
        };
        format!("{said} ({:.2})", flip.score)
    });
    let flips = flips.collect::<Vec<_>>().join(", ");
    let rest = if image.loss.flips.len() > FEW { ", ..." } else { "" };
    let errors = count(change.unsigned_abs() as usize, &format!("{more} error"));
    format!("  {}: {errors}: {flips}{rest}\n", image.file_name)
}

/// Calibration, and the thresholds that moved most.
fn scores(why: &Why) -> String {
    let (before, after) = (&why.calibration.baseline, &why.calibration.candidate);
    let mut text = format!(
        "calibration: ECE {} -> {}, LaECE {} -> {}\n",
        value(before.ece),
        value(after.ece),
        value(before.la_ece),
        value(after.la_ece)
    );
    let at = |side: &Option<crate::metrics::operating_points::OperatingPoint>| {
        side.as_ref().and_then(|point| point.score_thr)
    };
    let sides = |class: &ClassThreshold| at(&class.sides.baseline).zip(at(&class.sides.candidate));
    let moved = |class: &ClassThreshold| sides(class).map_or(0.0, |(a, b)| (b - a).abs());
    let mut classes: Vec<&ClassThreshold> =
        why.best_f1.iter().filter(|class| moved(class) > 0.0).collect();
    classes.sort_by(|a, b| moved(b).total_cmp(&moved(a)));
    let thresholds = classes.iter().take(FEW).filter_map(|class| {
        let (before, after) = sides(class)?;
        Some(format!("{} {before:.3} -> {after:.3}", class.name))
    });
    let thresholds = thresholds.collect::<Vec<_>>().join(", ");
    if !thresholds.is_empty() {
        text += &format!("score of the best F1: {thresholds}\n");
    }
    text
}
