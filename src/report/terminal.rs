//! The result as a person reads it in a terminal.

use std::collections::HashSet;

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use super::words::{self, allowed, finding_of, interval_text, moved, value};
use super::{Report, why_text};
use crate::gate::{Comparison, Finding, Judgement};
use crate::metrics::practical::Counts;
use crate::shown::{self, count, counted};

/// Metrics without a rule that are shown all the same, in this order and before the others.
pub(super) const HEADLINE: [&str; 8] =
    ["AP", "AP50", "AP75", "AR100", "mAP50_approx", "precision", "recall", "f1"];

/// One line under the header.
pub(super) const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The tables and the verdict, ending in a line break.
pub fn tables(report: &Report) -> String {
    let data = &report.data;
    let mut text = format!(
        "{} on {}, {}",
        shown::name(&report.checkpoint.checkpoint),
        count(data.images, "image"),
        counted(data.ground_truth, "box", "boxes")
    );
    if data.zero_area_boxes > 0 {
        text += &format!(" ({} without area)", data.zero_area_boxes);
    }
    if !data.skipped_images.is_empty() {
        text += &format!(", {} skipped", count(data.skipped_images.len(), "image"));
    }
    text += &format!(
        "\n\nscore >= {}, IoU >= {}\n{}\n\n{}\n{}\n{}{}",
        report.settings.score_thr,
        report.settings.iou_thr,
        practical_table(report).trim_fmt(),
        gate_table(report).trim_fmt(),
        left_out(&report.judgement),
        report.why.as_ref().map_or_else(String::new, |why| why_text::text(why, report)),
        verdict(report)
    );
    text
}

fn practical_table(report: &Report) -> Table {
    let mut table = plain(["class", "TP", "FP", "FN", "precision", "recall", "F1", "AP50 approx"]);
    let practical = &report.evaluation.practical;
    let row = |name: &str, counts: &Counts, ap: f64| {
        [
            shown::name(name),
            counts.tp.to_string(),
            counts.fp.to_string(),
            counts.fn_.to_string(),
            value(Some(counts.precision)),
            value(Some(counts.recall)),
            value(Some(counts.f1)),
            value(Some(ap)),
        ]
    };
    for class in &practical.per_class {
        table.add_row(row(&class.name, &class.counts, class.ap50_approx));
    }
    table.add_row(row("all", &practical.global, practical.map50_approx));
    align_numbers(&mut table);
    table
}

fn gate_table(report: &Report) -> Table {
    let judgement = &report.judgement;
    let interval = format!("{} %", judgement.method.confidence * 100.0);
    let header = ["metric", "baseline", "candidate", "change", &interval, "allowed", "verdict"];
    let mut table = plain(header);
    for comparison in shown(judgement) {
        table.add_row([
            shown::name(&comparison.metric),
            value(comparison.baseline),
            value(comparison.candidate),
            comparison.change.map_or_else(|| "-".to_owned(), |change| moved(comparison, change)),
            comparison.interval.map_or_else(String::new, |interval| interval_text(&interval)),
            comparison.rule.as_ref().map_or_else(String::new, allowed),
            comparison.finding.map_or_else(String::new, |found| finding_of(comparison, found)),
        ]);
    }
    align_numbers(&mut table);
    if judgement.method.replicates == 0
        && let Some(column) = table.column_mut(4)
    {
        column.set_constraint(comfy_table::ColumnConstraint::Hidden);
    }
    table
}

/// The headline metrics, then the others that a rule judges: all that are not fine, and of those that
/// are as many as fit a screen, the worst first.
pub(super) fn shown(judgement: &Judgement) -> Vec<&Comparison> {
    const FIT: usize = 20;
    let find = |name: &str| judgement.comparisons.iter().find(|c| c.metric == name);
    let is_judged = |c: &&Comparison| c.finding.is_some() && !HEADLINE.contains(&c.metric.as_str());
    let judged: Vec<_> = judgement.comparisons.iter().filter(is_judged).collect();
    let mut by_change = judged.clone();
    by_change.sort_by(|a, b| falls(a).total_cmp(&falls(b)));
    let fits: Vec<&str> = by_change.iter().take(FIT).map(|c| c.metric.as_str()).collect();
    let shown = judged.into_iter().filter(|c| {
        c.finding.is_some_and(|found| found >= Finding::Inconclusive)
            || fits.contains(&c.metric.as_str())
    });
    HEADLINE.iter().filter_map(|name| find(name)).chain(shown).collect()
}

/// What the table does not show, in a line; empty where it shows all.
fn left_out(judgement: &Judgement) -> String {
    let shown: HashSet<&str> = shown(judgement).iter().map(|c| c.metric.as_str()).collect();
    let hidden = || judgement.comparisons.iter().filter(|c| !shown.contains(c.metric.as_str()));
    let judged = hidden().filter(|c| c.finding.is_some()).count();
    let waiting = hidden().filter(|c| c.finding.is_none() && c.rule.is_some()).count();
    let others = hidden().filter(|c| c.rule.is_none()).count();
    let parts = [(judged, "judged and fine"), (waiting, "not judged"), (others, "without a rule")];
    let parts = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}"));
    match parts.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => none,
        parts => format!("metrics that are only in the JSON: {parts}\n"),
    }
}

fn falls(comparison: &Comparison) -> f64 {
    comparison.change.unwrap_or(f64::NEG_INFINITY)
}

pub(super) fn plain<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header);
    table
}

/// All columns but the first, which holds names, are numbers.
pub(super) fn align_numbers(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// The verdict in words, ending in a line break.
pub fn verdict(report: &Report) -> String {
    words::judgement(&report.judgement)
}
