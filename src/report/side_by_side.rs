//! Two results beside each other: the metrics of both, and what became of them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Report;
use super::terminal::{HEADLINE, align_numbers, plain};
use super::words::{signed, value};
use crate::shown::{self, count};

/// The version of the JSON of [`Comparison`]; raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// As many other metrics than the headline's as a screen holds.
pub(super) const FIT: usize = 20;
/// AP by the size of the objects.
const AREAS: [&str; 3] = ["APs", "APm", "APl"];

/// A metric of two results.
#[derive(Debug, Serialize)]
pub struct MetricChange {
    /// Its name.
    pub metric: String,
    /// Of the first.
    pub before: Option<f64>,
    /// Of the second.
    pub after: Option<f64>,
    /// Second minus first, where both have it.
    pub change: Option<f64>,
}

/// Two reports, and the metrics of both. Nothing is judged: whoever asks may have any two in hand.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The checkpoint of the first.
    pub before: String,
    /// Of the second.
    pub after: String,
    /// What was measured otherwise, a sentence for each fact; empty where the two are comparable.
    pub differences: Vec<String>,
    /// Every metric that either has, in name order.
    pub metrics: Vec<MetricChange>,
}

impl Comparison {
    /// Puts two reports beside each other.
    pub fn of(before: &Report, after: &Report) -> Self {
        let metrics = |report: &Report| {
            let defined = report.evaluation.table().into_iter();
            defined.filter_map(|(name, value)| Some((name, value?))).collect::<BTreeMap<_, _>>()
        };
        Self {
            schema: SCHEMA,
            before: before.checkpoint.checkpoint.clone(),
            after: after.checkpoint.checkpoint.clone(),
            differences: before.fingerprint.differences(&after.fingerprint),
            metrics: changes(&metrics(before), &metrics(after)),
        }
    }

    /// For a terminal, ending in a line break.
    pub fn text(&self) -> String {
        let (before, after) = (shown::name(&self.before), shown::name(&self.after));
        let mut text =
            format!("{before} -> {after}\n\n") + &table(["before", "after"], &self.metrics);
        for difference in &self.differences {
            text += &format!("note: {}\n", shown::line(difference));
        }
        if !self.differences.is_empty() {
            text += "note: they were not measured alike; the changes say little\n";
        }
        text
    }

    /// As JSON, ending in a line break.
    ///
    /// # Errors
    /// None that a report can cause.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Every metric that either has, in name order.
pub(super) fn changes(
    before: &BTreeMap<String, f64>,
    after: &BTreeMap<String, f64>,
) -> Vec<MetricChange> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let (before, after) = (before.get(name).copied(), after.get(name).copied());
        let change = before.zip(after).map(|(before, after)| after - before);
        MetricChange { metric: name.clone(), before, after, change }
    };
    names.into_iter().map(change).collect()
}

/// The headline, then those of classes and sizes that changed most, ending in a line break.
pub(super) fn table([before, after]: [&str; 2], metrics: &[MetricChange]) -> String {
    let mut table = plain(["metric", before, after, "change"]);
    let of_name = |name: &str| metrics.iter().find(|change| change.metric == name);
    let headline: Vec<_> = HEADLINE.iter().filter_map(|name| of_name(name)).collect();
    let is_other = |change: &&MetricChange| {
        is_of_class(&change.metric) || AREAS.contains(&change.metric.as_str())
    };
    let mut others: Vec<_> = metrics.iter().filter(is_other).collect();
    // What only one has comes first, then the largest changes.
    let size = |change: &MetricChange| change.change.map_or(f64::INFINITY, f64::abs);
    others.sort_by(|a, b| size(b).total_cmp(&size(a)));
    let hidden = others.len().saturating_sub(FIT);
    for change in headline.into_iter().chain(others.into_iter().take(FIT)) {
        table.add_row([
            shown::name(&change.metric),
            value(change.before),
            value(change.after),
            change.change.map_or_else(|| "-".to_owned(), signed),
        ]);
    }
    align_numbers(&mut table);
    let mut text = format!("{}\n", table.trim_fmt());
    if hidden > 0 {
        text += &format!("{} of classes only in the JSON\n", count(hidden, "smaller change"));
    }
    text
}

/// The two numbers of a class that stand for it.
pub(super) fn is_of_class(metric: &str) -> bool {
    metric.starts_with("AP/") || metric.starts_with("f1/")
}
