//! Every metric of a report as a row of a table: which metric, of which class, on which slice.

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::config::Tier;
use crate::gate::{Comparison, Finding};
use crate::metrics::CocoMetrics;
use crate::report::Report;
use crate::report::words::{self, allowed, interval_text, moved, value};
use crate::shown;

/// More than that nobody scrolls through, and would make a page of many megabytes.
const MOST_ROWS: usize = 20_000;

/// One metric, before and after.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// The whole name.
    name: String,
    /// Without class and slice: `AP50`.
    metric: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slice: Option<String>,
    baseline: Option<f64>,
    candidate: Option<f64>,
    change: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<[f64; 2]>,
    /// `broken`, `undecided`, `warned` or `fine`; `None` where nothing was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    judged: Option<Judged>,
}

/// What was said of a metric that has a rule, and the numbers as all faces of a report write them.
#[derive(Debug, Serialize)]
struct Judged {
    baseline: String,
    candidate: String,
    change: String,
    interval: String,
    allowed: String,
    finding: String,
    /// Of the hypothesis that the worst demand is met, corrected.
    p: Option<f64>,
    /// How far it may fall.
    max_drop: Option<f64>,
}

/// The rows in the order of the comparisons, and whether some were left out.
pub(super) fn of(report: &Report) -> (Vec<Row>, bool) {
    let names = Names::of(&report.evaluation.coco);
    let comparisons = &report.judgement.comparisons;
    let all: Vec<Row> = comparisons.iter().map(|comparison| row(comparison, &names)).collect();
    if all.len() <= MOST_ROWS {
        return (all, false);
    }
    let matters = |row: &Row| row.state.is_some_and(|state| state != "fine") || row.class.is_none();
    (all.into_iter().filter(matters).take(MOST_ROWS).collect(), true)
}

fn row(comparison: &Comparison, names: &Names) -> Row {
    let Comparison { baseline, candidate, change, interval, rule, .. } = comparison;
    let (metric, class, slice) = names.parts(&comparison.metric);
    let worst = comparison.tests.iter().max_by_key(|test| test.finding);
    let judged = comparison.finding.map(|finding| Judged {
        baseline: value(*baseline),
        candidate: value(*candidate),
        change: change.map_or_else(|| "-".to_owned(), |change| moved(comparison, change)),
        interval: interval.as_ref().map_or_else(String::new, interval_text),
        allowed: rule.as_ref().map(allowed).unwrap_or_default(),
        finding: words::finding_of(comparison, finding),
        p: worst.and_then(|test| Some(test.confident?.p_regress_corrected)),
        max_drop: rule.and_then(|rule| rule.max_drop),
    });
    Row {
        name: shown::name(&comparison.metric),
        metric: shown::name(metric),
        class: class.map(shown::name),
        slice: slice.map(shown::name),
        baseline: *baseline,
        candidate: *candidate,
        change: *change,
        interval: interval.map(|interval| [interval.low, interval.high]),
        state: comparison.finding.map(|finding| state(comparison, finding)),
        judged,
    }
}

fn state(comparison: &Comparison, finding: Finding) -> &'static str {
    let warns = comparison.rule.is_some_and(|rule| rule.tier == Tier::Warn);
    match finding {
        Finding::Ok | Finding::Absent => "fine",
        _ if warns => "warned",
        Finding::Inconclusive => "undecided",
        _ => "broken",
    }
}

/// The flat names of a report's metrics, taken apart by the names that its classes have: either part may
/// hold any sign.
struct Names<'r> {
    of_class: HashMap<String, (&'static str, &'r str)>,
    of_all: HashSet<&'static str>,
}

const PRACTICAL: [&str; 5] = ["precision", "recall", "f1", "ap50_approx", "mAP50_approx"];

impl<'r> Names<'r> {
    fn of(metrics: &'r CocoMetrics) -> Self {
        let coco = metrics.summary.named().map(|(name, _)| name);
        let of_all: HashSet<&str> = coco.into_iter().chain(PRACTICAL).collect();
        let full = |name: &'static str, class: &'r str| (format!("{name}/{class}"), (name, class));
        let classes = metrics.per_class.iter().map(|class| class.name.as_str());
        let of_class = classes.flat_map(|class| of_all.iter().map(move |name| full(name, class)));
        Self { of_class: of_class.collect(), of_all }
    }

    /// Metric, class and slice.
    fn parts<'m>(&self, name: &'m str) -> (&'m str, Option<&'r str>, Option<&'m str>) {
        let whole = std::iter::once((name, None));
        let cuts = name.match_indices('@').map(|(i, _)| (&name[..i], Some(&name[i + 1..])));
        for (metric, slice) in whole.chain(cuts) {
            if self.of_all.contains(metric) {
                return (metric, None, slice);
            }
            if let Some((short, class)) = self.of_class.get(metric) {
                return (&metric[..short.len()], Some(class), slice);
            }
        }
        (name, None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::CocoSummary;
    use crate::metrics::summary::ClassSummary;

    #[test]
    fn a_metric_is_taken_apart_whatever_its_class_is_called() {
        let class = |name: &str| ClassSummary {
            category_id: 0,
            name: name.to_owned(),
            summary: CocoSummary::default(),
        };
        let per_class = ["person", "a/b@c", "person@night"].map(class).to_vec();
        let metrics = CocoMetrics { per_class, ..CocoMetrics::default() };
        let names = Names::of(&metrics);
        assert_eq!(names.parts("AP"), ("AP", None, None));
        assert_eq!(names.parts("AP50/person"), ("AP50", Some("person"), None));
        assert_eq!(names.parts("recall/a/b@c@d@e"), ("recall", Some("a/b@c"), Some("d@e")));
        assert_eq!(names.parts("AP@night"), ("AP", None, Some("night")));
        assert_eq!(names.parts("AP/person@night"), ("AP", Some("person@night"), None));
        assert_eq!(names.parts("something else"), ("something else", None, None));
    }
}
