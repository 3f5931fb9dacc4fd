//! The result as a person reads it in a terminal.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use super::Report;
use crate::gate::{Comparison, Finding, Verdict};

/// Metrics without a rule that are shown all the same, in this order and before the others.
const HEADLINE: [&str; 8] =
    ["AP", "AP50", "AP75", "AR100", "mAP50_approx", "precision", "recall", "f1"];

/// One line under the header.
pub(super) const STYLE: TableStyle =
    TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─'));

/// The tables and the verdict, ending in a line break.
pub fn tables(report: &Report) -> String {
    let data = &report.data;
    let mut text = format!(
        "{} on {}, {}",
        report.checkpoint.checkpoint,
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
        "\n\nscore >= {}, IoU >= {}\n{}\n\n{}\n\n{}",
        report.settings.score_thr,
        report.settings.iou_thr,
        practical_table(report).trim_fmt(),
        gate_table(report).trim_fmt(),
        verdict(report)
    );
    text
}

fn practical_table(report: &Report) -> Table {
    let mut table = plain(["class", "TP", "FP", "FN", "precision", "recall", "F1", "AP50 approx"]);
    let practical = &report.evaluation.practical;
    let row = |name: &str, counts: &crate::metrics::practical::Counts, ap: f64| {
        [
            name.to_owned(),
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
    let mut table = plain(["metric", "baseline", "candidate", "change", "allowed", "verdict"]);
    for comparison in shown(&report.judgement.comparisons) {
        table.add_row([
            comparison.metric.clone(),
            value(comparison.baseline),
            value(comparison.candidate),
            comparison.change.map_or_else(|| "-".to_owned(), |change| format!("{change:+.4}")),
            allowed(comparison),
            comparison.finding.map_or("", finding).to_owned(),
        ]);
    }
    align_numbers(&mut table);
    table
}

/// The headline metrics, then every other one that a rule judges.
fn shown(comparisons: &[Comparison]) -> Vec<&Comparison> {
    let find = |name: &str| comparisons.iter().find(|c| c.metric == name);
    let judged =
        comparisons.iter().filter(|c| c.rule.is_some() && !HEADLINE.contains(&c.metric.as_str()));
    HEADLINE.iter().filter_map(|name| find(name)).chain(judged).collect()
}

fn allowed(comparison: &Comparison) -> String {
    let Some(rule) = comparison.rule else {
        return String::new();
    };
    let drop = rule.max_drop.map(|drop| format!("-{drop}"));
    let floor = rule.min.map(|min| format!(">= {min}"));
    [drop, floor].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::Ok => "ok",
        Finding::Dropped => "dropped",
        Finding::BelowMin => "below min",
        Finding::Missing => "missing",
    }
}

/// The verdict in words, a line or two, ending in a line break.
pub fn verdict(report: &Report) -> String {
    let judgement = &report.judgement;
    let rules = judgement.comparisons.iter().filter(|c| c.rule.is_some()).count();
    match judgement.verdict {
        Verdict::Passed => format!("PASSED: {rules} judged metrics, none fell too far\n"),
        Verdict::Regressed => {
            let broken: Vec<String> = judgement.broken().map(explain).collect();
            format!("REGRESSED: {} of {rules} judged metrics\n{}", broken.len(), broken.concat())
        }
        Verdict::Inconclusive => "INCONCLUSIVE: too few images to tell\n".to_owned(),
        Verdict::Incomparable => {
            let reasons: String =
                judgement.reasons.iter().map(|reason| format!("  {reason}\n")).collect();
            format!("INCOMPARABLE with the baseline\n{reasons}")
        }
    }
}

fn explain(comparison: &Comparison) -> String {
    let Comparison { metric, baseline, candidate, rule, .. } = comparison;
    let (before, after) = (value(*baseline), value(*candidate));
    let rule = rule.unwrap_or_default();
    match comparison.finding {
        Some(Finding::Dropped) => {
            format!(
                "  {metric} fell from {before} to {after}, more than {}\n",
                value(rule.max_drop)
            )
        }
        Some(Finding::BelowMin) => format!("  {metric} is {after}, below {}\n", value(rule.min)),
        _ => format!(
            "  {metric} is undefined (baseline {before}, candidate {after}): there is nothing to measure it on; \
             take more images, or the rule out\n"
        ),
    }
}

pub(super) fn count(n: usize, noun: &str) -> String {
    counted(n, noun, &format!("{noun}s"))
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"))
}

fn plain<const N: usize>(header: [&str; N]) -> Table {
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
