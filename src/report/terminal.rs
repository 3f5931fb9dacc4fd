//! The result as a person reads it in a terminal.

use comfy_table::{CellAlignment, LineStyle, Table, TableStyle};

use super::{Report, why_text};
use crate::config::{Correction, Rule, Tier};
use crate::gate::{Comparison, Demand, Finding, Interval, Judgement, Test, Verdict};

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
        "\n\nscore >= {}, IoU >= {}\n{}\n\n{}\n\n{}{}",
        report.settings.score_thr,
        report.settings.iou_thr,
        practical_table(report).trim_fmt(),
        gate_table(report).trim_fmt(),
        report.why.map_or_else(String::new, |why| why_text::text(why, report)),
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
    let judgement = &report.judgement;
    let interval = format!("{} %", judgement.method.confidence * 100.0);
    let header = ["metric", "baseline", "candidate", "change", &interval, "allowed", "verdict"];
    let mut table = plain(header);
    for comparison in shown(judgement) {
        table.add_row([
            comparison.metric.clone(),
            value(comparison.baseline),
            value(comparison.candidate),
            comparison.change.map_or_else(|| "-".to_owned(), signed),
            comparison.interval.map_or_else(String::new, |interval| interval_text(&interval)),
            comparison.rule.as_ref().map_or_else(String::new, allowed),
            comparison.finding.map_or_else(String::new, |found| verdict_cell(comparison, found)),
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
fn shown(judgement: &Judgement) -> Vec<&Comparison> {
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

fn falls(comparison: &Comparison) -> f64 {
    comparison.change.unwrap_or(f64::NEG_INFINITY)
}

fn allowed(rule: &Rule) -> String {
    let demands = [
        rule.max_drop.map(|drop| format!("-{drop}")),
        rule.max_relative_drop.map(|drop| format!("-{} %", percent(drop))),
        rule.must_improve_by.map(|by| format!("+{by}")),
        rule.min.map(|min| format!(">= {min}")),
    ];
    demands.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// 0.07 * 100 is not 7 in binary.
fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
}

fn verdict_cell(comparison: &Comparison, found: Finding) -> String {
    let warns = comparison.rule.is_some_and(|rule| rule.tier == Tier::Warn);
    let warned = if warns && found >= Finding::Inconclusive { " (warning)" } else { "" };
    format!("{}{warned}", finding(found))
}

fn finding(finding: Finding) -> &'static str {
    match finding {
        Finding::Ok => "ok",
        Finding::Absent => "no objects",
        Finding::Inconclusive => "inconclusive",
        Finding::NotImproved => "not improved",
        Finding::BelowMin => "below min",
        Finding::Dropped => "dropped",
        Finding::Missing => "missing",
    }
}

/// The verdict in words, ending in a line break.
pub fn verdict(report: &Report) -> String {
    self::judgement(report.judgement)
}

/// As [`verdict`], where there is no report.
pub fn judgement(judgement: &Judgement) -> String {
    let rules = count(judgement.judged().count(), "judged metric");
    let lines =
        |lines: Vec<String>| -> String { lines.iter().map(|line| format!("  {line}\n")).collect() };
    let told = match judgement.verdict {
        Verdict::Passed => format!("PASSED: {rules}, none fell too far\n"),
        Verdict::Regressed => {
            let broken = broken(judgement);
            format!("REGRESSED: {} of {rules}\n{}", broken.len(), lines(broken))
        }
        Verdict::Inconclusive => {
            let undecided = judgement.undecided().into_iter();
            let undecided: Vec<_> = undecided.map(|c| explain(c, judgement)).collect();
            format!("INCONCLUSIVE: {} of {rules}\n{}", undecided.len(), lines(undecided))
        }
        Verdict::Incomparable => {
            format!("INCOMPARABLE with the baseline\n{}", lines(judgement.reasons.clone()))
        }
    };
    let warned =
        |comparison: &&Comparison| format!("warning: {}\n", explain(comparison, judgement));
    let warnings: String = judgement.warnings().iter().map(warned).collect();
    let noted: String = judgement.notes.iter().map(|note| format!("note: {note}\n")).collect();
    told + &warnings + &noted
}

/// What speaks against making a candidate the baseline, a sentence each: the blocking rules that are
/// broken, the worst first, or what cannot be compared. That there is no baseline yet does not.
pub fn objections(judgement: &Judgement) -> Vec<String> {
    let reasons = judgement.reasons.iter().filter(|_| judgement.against.is_some());
    broken(judgement).into_iter().chain(reasons.cloned()).collect()
}

fn broken(judgement: &Judgement) -> Vec<String> {
    judgement.broken().into_iter().map(|broken| explain(broken, judgement)).collect()
}

fn explain(comparison: &Comparison, judgement: &Judgement) -> String {
    let Comparison { metric, baseline, candidate, .. } = comparison;
    let (before, after) = (value(*baseline), value(*candidate));
    let worst = comparison.tests.iter().max_by_key(|test| test.finding);
    let Some(test) = worst.filter(|_| comparison.finding != Some(Finding::Missing)) else {
        return match candidate {
            Some(_) => format!(
                "{metric} is {after}, and the baseline has no value to compare with; bless a run that has, or \
                 take the rule out"
            ),
            None => format!(
                "{metric} is undefined (baseline {before}): there is nothing to measure it on; take more \
                 images, or the rule out"
            ),
        };
    };
    let fell = if after < before { "fell" } else { "went" };
    let said = match test.demand {
        Demand::MaxDrop => {
            format!("{metric} {fell} from {before} to {after}, more than {}", number(test.limit))
        }
        Demand::MaxRelativeDrop => {
            format!("{metric} {fell} from {before} to {after}, more than {} %", percent(test.limit))
        }
        Demand::MustImproveBy => {
            format!("{metric} went from {before} to {after}, less than {} up", number(test.limit))
        }
        Demand::Min => format!("{metric} is {after}, below {}", number(test.limit)),
    };
    match test.finding {
        Finding::Inconclusive => undecided(comparison, test, judgement),
        _ => said + &p_value(test, judgement),
    }
}

fn p_value(test: &Test, judgement: &Judgement) -> String {
    let Some(confident) = test.confident else { return String::new() };
    let corrected = match judgement.method.correction {
        Correction::Holm => "by Holm",
        Correction::BenjaminiHochberg => "by Benjamini and Hochberg",
        Correction::None => "not corrected",
    };
    let tests = count(confident.corrected_for, "test");
    format!(" (p = {:.2e}, {corrected} for {tests})", confident.p_regress_corrected)
}

/// Why the data cannot tell, and what would.
fn undecided(comparison: &Comparison, test: &Test, judgement: &Judgement) -> String {
    let Comparison { metric, change, interval, .. } = comparison;
    let Some(confident) = test.confident else {
        return format!(
            "{metric} rests on too few images to say how far chance moves it; take more"
        );
    };
    let interval =
        interval.map_or_else(String::new, |interval| format!(" {}", interval_text(&interval)));
    let allowed = match test.demand {
        Demand::MaxDrop => format!("a drop of {} is allowed", number(test.limit)),
        Demand::MaxRelativeDrop => format!("a drop of {} % is allowed", percent(test.limit)),
        Demand::MustImproveBy => format!("a gain of {} is asked for", number(test.limit)),
        Demand::Min => format!("at least {} is asked for", number(test.limit)),
    };
    let unit = if judgement.method.grouped { "group" } else { "image" };
    let distance = confident.smallest_detectable;
    let shown = match test.demand {
        Demand::MaxDrop => format!("drops of {} and more", number(test.limit + distance)),
        _ => format!("what is {} or more away from that", number(distance)),
    };
    let needed = confident.images_needed.map_or_else(String::new, |needed| {
        format!(", about {} would settle this one", count(needed as usize, unit))
    });
    format!(
        "{metric} changed by {}{interval}; {allowed}; these {unit}s show {shown}{needed}",
        change.map_or_else(|| "-".to_owned(), signed)
    )
}

pub(super) fn count(n: usize, noun: &str) -> String {
    counted(n, noun, &format!("{noun}s"))
}

fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

pub(super) fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

fn number(value: f64) -> String {
    format!("{value:.4}")
}

pub(super) fn signed(change: f64) -> String {
    let text = format!("{change:+.4}");
    // Less than what is shown is neither up nor down.
    if text == "-0.0000" { "+0.0000".to_owned() } else { text }
}

fn interval_text(interval: &Interval) -> String {
    format!("[{}, {}]", signed(interval.low), signed(interval.high))
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
