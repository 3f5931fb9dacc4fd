//! What is said of a verdict, and how numbers are written: the same in every face of a report.

use crate::config::{Correction, Rule, Tier};
use crate::gate::{Comparison, Demand, Finding, Interval, Judgement, Test, Verdict};
use crate::shown::{self, count};

/// The verdict in words, and what it rests on, a line each; ends in a line break.
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
            let reasons = judgement.reasons.iter().map(|reason| shown::line(reason));
            format!("INCOMPARABLE with the baseline\n{}", lines(reasons.collect()))
        }
    };
    let warned =
        |comparison: &&Comparison| format!("warning: {}\n", explain(comparison, judgement));
    let warnings: String = judgement.warnings().iter().map(warned).collect();
    let note = |note: &String| format!("note: {}\n", shown::line(note));
    let noted: String = judgement.notes.iter().map(note).collect();
    told + &warnings + &noted
}

/// What speaks against making a candidate the baseline, a sentence each: the blocking rules that are
/// broken, the worst first, or what cannot be compared. That there is no baseline yet does not.
pub fn objections(judgement: &Judgement) -> Vec<String> {
    let reasons = judgement.reasons.iter().filter(|_| judgement.against.is_some());
    broken(judgement).into_iter().chain(reasons.cloned()).collect()
}

pub(super) fn broken(judgement: &Judgement) -> Vec<String> {
    judgement.broken().into_iter().map(|broken| explain(broken, judgement)).collect()
}

pub(super) fn explain(comparison: &Comparison, judgement: &Judgement) -> String {
    let Comparison { baseline, candidate, .. } = comparison;
    let metric = shown::name(&comparison.metric);
    let worst = comparison.tests.iter().max_by_key(|test| test.finding);
    let Some(test) = worst.filter(|_| comparison.finding != Some(Finding::Missing)) else {
        return match candidate {
            Some(_) => format!(
                "{metric} is {}, and the baseline has no value to compare with; bless a run that has, or \
                 take the rule out",
                value(*candidate)
            ),
            None => format!(
                "{metric} is undefined (baseline {}): there is nothing to measure it on; take more \
                 images, or the rule out",
                value(*baseline)
            ),
        };
    };
    let (before, after) = apart(*baseline, *candidate);
    let fell = if candidate < baseline { "fell" } else { "went" };
    let limit = exact(test.limit);
    let said = match test.demand {
        Demand::MaxDrop => format!("{metric} {fell} from {before} to {after}, more than {limit}"),
        Demand::MaxRelativeDrop => {
            format!("{metric} {fell} from {before} to {after}, more than {} %", percent(test.limit))
        }
        Demand::MustImproveBy => {
            format!("{metric} went from {before} to {after}, less than {limit} up")
        }
        Demand::Min => {
            format!("{metric} is {}, below {limit}", apart(*candidate, Some(test.limit)).0)
        }
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
    let Comparison { change, interval, .. } = comparison;
    let metric = shown::name(&comparison.metric);
    let Some(confident) = test.confident else {
        return format!(
            "{metric} rests on too few images to say how far chance moves it; take more"
        );
    };
    let interval =
        interval.map_or_else(String::new, |interval| format!(" {}", interval_text(&interval)));
    let allowed = match test.demand {
        Demand::MaxDrop => format!("a drop of {} is allowed", exact(test.limit)),
        Demand::MaxRelativeDrop => format!("a drop of {} % is allowed", percent(test.limit)),
        Demand::MustImproveBy => format!("a gain of {} is asked for", exact(test.limit)),
        Demand::Min => format!("at least {} is asked for", exact(test.limit)),
    };
    let unit = if judgement.method.grouped { "group" } else { "image" };
    let distance = confident.smallest_detectable;
    let visible = match test.demand {
        Demand::MaxDrop => format!("drops of {} and more", legible(test.limit + distance)),
        _ => format!("what is {} or more away from that", legible(distance)),
    };
    let needed = confident.images_needed.map_or_else(String::new, |needed| {
        format!(", about {} would settle this one", count(needed as usize, unit))
    });
    format!(
        "{metric} changed by {}{interval}; {allowed}; these {unit}s show {visible}{needed}",
        change.map_or_else(|| "-".to_owned(), signed)
    )
}

pub(super) fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), number)
}

fn number(value: f64) -> String {
    format!("{value:.4}")
}

/// At least 4 digits, and as many as it has: what a user wrote is not rounded.
fn exact(value: f64) -> String {
    let text = number(value);
    if text.parse() == Ok(value) { text } else { value.to_string() }
}

/// 4 digits, or the first two that are not 0.
pub(super) fn legible(value: f64) -> String {
    let digits = (1 - value.abs().log10().floor() as i32).clamp(4, MOST_DIGITS as i32);
    if value == 0.0 { number(value) } else { format!("{value:.*}", digits as usize) }
}

/// Two values with so many digits, at least 4, that they can be told apart.
fn apart(a: Option<f64>, b: Option<f64>) -> (String, String) {
    let both = |digits: usize| {
        [a, b].map(|v| v.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}")))
    };
    let mut texts = (4..=MOST_DIGITS).map(both);
    let told_apart = if a == b { None } else { texts.find(|[a, b]| a != b) };
    let [a, b] = told_apart.unwrap_or_else(|| both(4));
    (a, b)
}

/// More than so many digits are rounding.
const MOST_DIGITS: usize = 12;

/// A change; one that breaks a rule is never shown as none.
pub(super) fn moved(comparison: &Comparison, change: f64) -> String {
    let is_broken = comparison.finding.is_some_and(Finding::is_broken);
    if !is_broken || signed(change) != "+0.0000" {
        return signed(change);
    }
    let sign = if change < 0.0 { '-' } else { '+' };
    format!("{sign}{}", legible(change.abs()))
}

pub(super) fn signed(change: f64) -> String {
    let text = format!("{change:+.4}");
    // Less than what is shown is neither up nor down.
    if text == "-0.0000" { "+0.0000".to_owned() } else { text }
}

pub(super) fn interval_text(interval: &Interval) -> String {
    format!("[{}, {}]", signed(interval.low), signed(interval.high))
}

/// 0.07 * 100 is not 7 in binary.
fn percent(share: f64) -> f64 {
    (share * 1e8).round() / 1e6
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

/// What a rule allows, as short as a cell of a table.
pub(super) fn allowed(rule: &Rule) -> String {
    let demands = [
        rule.max_drop.map(|drop| format!("-{drop}")),
        rule.max_relative_drop.map(|drop| format!("-{} %", percent(drop))),
        rule.must_improve_by.map(|by| format!("+{by}")),
        rule.min.map(|min| format!(">= {min}")),
    ];
    demands.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// What became of a metric, in a word or two.
pub(super) fn finding_of(comparison: &Comparison, found: Finding) -> String {
    let warns = comparison.rule.is_some_and(|rule| rule.tier == Tier::Warn);
    let warned = if warns && found >= Finding::Inconclusive { " (warning)" } else { "" };
    format!("{}{warned}", finding(found))
}
