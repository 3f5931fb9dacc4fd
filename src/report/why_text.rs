//! What is behind a verdict, as a person reads it in a terminal.

use std::collections::HashMap;

use comfy_table::Table;

use super::Report;
use super::terminal::{align_numbers, plain};
use super::words::{signed, value};
use crate::gate::{ChangedImage, ClassThreshold, Why};
use crate::metrics::losses::{Flip, FlipKind, ImageLoss};
use crate::metrics::operating_points::OperatingPoint;
use crate::shown::{self, count};

/// As many as a reader takes in.
const FEW: usize = 5;

/// Empty where nothing changed; else ends in an empty line.
pub(super) fn text(why: &Why, report: &Report) -> String {
    if why.tide.baseline == why.tide.candidate && why.worst.is_empty() && why.improved.is_empty() {
        return String::new();
    }
    let names = class_names(report);
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

pub(super) fn words(kind: &str) -> &str {
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

/// The classes' names by id.
pub(super) fn class_names(report: &Report) -> HashMap<i64, String> {
    let classes = report.evaluation.practical.per_class.iter();
    classes.map(|class| (class.category_id, shown::name(&class.name))).collect()
}

/// `night/12.jpg: 3 more errors: missed person (0.91), new false car (0.88), ...`
fn changed(image: &ChangedImage, names: &HashMap<i64, String>) -> String {
    let flips = image.loss.flips.iter().take(FEW);
    let flips = flips.map(|one| flip(one, names)).collect::<Vec<_>>().join(", ");
    let rest = if image.loss.flips.len() > FEW { ", ..." } else { "" };
    format!("  {}: {}: {flips}{rest}\n", shown::name(&image.file_name), errors(&image.loss))
}

/// `3 more errors`
pub(super) fn errors(loss: &ImageLoss) -> String {
    match loss.errors_change() {
        0 => "as many errors, on other boxes".to_owned(),
        more @ 1.. => count(more as usize, "more error"),
        fewer => count(fewer.unsigned_abs() as usize, "fewer error"),
    }
}

/// `missed person (0.91)`
pub(super) fn flip(flip: &Flip, names: &HashMap<i64, String>) -> String {
    let name = |id: &i64| names.get(id).map_or("another class", String::as_str);
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
    let at = |side: &Option<OperatingPoint>| side.as_ref().and_then(|point| point.score_thr);
    let sides = |class: &ClassThreshold| at(&class.sides.baseline).zip(at(&class.sides.candidate));
    let moved = |class: &ClassThreshold| sides(class).map_or(0.0, |(a, b)| (b - a).abs());
    let mut classes: Vec<&ClassThreshold> =
        why.best_f1.iter().filter(|class| moved(class) > 0.0).collect();
    classes.sort_by(|a, b| moved(b).total_cmp(&moved(a)));
    let thresholds = classes.iter().take(FEW).filter_map(|class| {
        let (before, after) = sides(class)?;
        Some(format!("{} {before:.3} -> {after:.3}", shown::name(&class.name)))
    });
    let thresholds = thresholds.collect::<Vec<_>>().join(", ");
    if !thresholds.is_empty() {
        text += &format!("score of the best F1: {thresholds}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tally::Tally;

    fn said(fp: [u64; 2]) -> String {
        let bbox = crate::dataset::Bbox { x: 0.0, y: 0.0, w: 9.0, h: 9.0 };
        let (kind, category_id) = (FlipKind::Missed, 1);
        let flip = Flip { kind, category_id, other_category_id: None, score: 0.5, bbox };
        let [before, after] = fp.map(|fp| Tally::new(1, fp, 0));
        let loss = ImageLoss { image_id: 1, before, after, flips: vec![flip] };
        let image = ChangedImage { file_name: "a.jpg".to_owned(), loss };
        changed(&image, &HashMap::from([(1, "car".to_owned())]))
    }

    #[test]
    fn the_change_of_an_image_is_a_sentence() {
        assert_eq!(said([2, 2]), "  a.jpg: as many errors, on other boxes: missed car (0.50)\n");
        assert_eq!(said([2, 3]), "  a.jpg: 1 more error: missed car (0.50)\n");
        assert_eq!(said([2, 0]), "  a.jpg: 2 fewer errors: missed car (0.50)\n");
    }
}
