//! Which metrics are judged, and how far each may fall.

use std::collections::{BTreeMap, BTreeSet};

use super::{GateError, MetricTable};
use crate::config::{Rule, RuleSet};
use crate::nearest::nearest;

/// Rules by metric. A metric's name is `METRIC`, `METRIC/CLASS`, and on a slice of the images
/// `METRIC@SLICE` or `METRIC/CLASS@SLICE`. In a rule's pattern `/*` stands for every class and `@*` for
/// every slice; neither stands for none: `AP50/*` does not judge `AP50`, nor anything on a slice.
///
/// Of several rules for one metric only the most specific judges it: the metric's own name, then the
/// one with a star for the class, for the slice, for both. A name that looks like a pattern, such as
/// that of a class with a `*` in it, is taken by its letters first.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy(RuleSet);

impl Policy {
    /// A policy that can fail: there is a rule, and every rule demands something.
    ///
    /// # Errors
    /// [`GateError::NoRules`] and [`GateError::BadRule`]: a gate that cannot close is none.
    pub fn new(rules: impl Into<RuleSet>) -> Result<Self, GateError> {
        let rules = rules.into();
        if rules.is_empty() {
            return Err(GateError::NoRules);
        }
        for (pattern, rule) in rules.iter() {
            rule.check()
                .map_err(|mistake| GateError::BadRule { pattern: pattern.clone(), mistake })?;
        }
        Ok(Self(rules))
    }

    /// The metrics of `table` that a rule judges, in the table's order, with their rule.
    ///
    /// # Errors
    /// [`GateError::RuleWithoutMetric`] for a rule that matches nothing, and
    /// [`GateError::RuleWithoutObjects`] for one with a star that matches only what is undefined.
    pub fn rules_for<'a>(&self, table: &'a MetricTable) -> Result<Vec<(&'a str, Rule)>, GateError> {
        let names = Names::of(table);
        let mut unused: BTreeSet<&str> = self.0.keys().map(String::as_str).collect();
        let mut judged = Vec::new();
        // Whether any metric that a rule judges has a value; one that yields to others judges none.
        let mut defined: BTreeMap<&str, bool> = BTreeMap::new();
        for (name, value) in table {
            let patterns = names.patterns(name);
            // All of them: a rule that yields to a more specific one is no mistake.
            patterns.iter().for_each(|pattern| _ = unused.remove(pattern.as_str()));
            let rule = patterns.iter().find_map(|pattern| self.0.get_key_value(pattern));
            if let Some((pattern, rule)) = rule {
                *defined.entry(pattern).or_default() |= value.is_some() || pattern == name;
                judged.push((name.as_str(), *rule));
            }
        }
        if let Some(pattern) = unused.first() {
            return Err(GateError::RuleWithoutMetric {
                place: self.0.place(pattern).cloned(),
                pattern: (*pattern).to_owned(),
                hint: names.hint(pattern),
            });
        }
        match defined.iter().find(|(_, defined)| !**defined) {
            Some((&pattern, _)) => Err(GateError::RuleWithoutObjects {
                place: self.0.place(pattern).cloned(),
                pattern: pattern.to_owned(),
            }),
            None => Ok(judged),
        }
    }

    /// Whether a rule is for this very metric, and not for all that match it.
    pub(super) fn names(&self, metric: &str) -> bool {
        self.0.contains_key(metric)
    }
}

/// The names of a table, and how to take them apart.
struct Names<'a> {
    table: &'a MetricTable,
    /// Those of the metrics of no class: only there an `@` always parts a slice.
    slices: BTreeSet<&'a str>,
}

impl<'a> Names<'a> {
    fn of(table: &'a MetricTable) -> Self {
        let global = table.keys().filter(|name| !name.contains('/'));
        let slices = global.filter_map(|name| Some(name.rsplit_once('@')?.1)).collect();
        Self { table, slices }
    }

    /// Every pattern that stands for the metric `name`, the most specific first.
    fn patterns(&self, name: &str) -> Vec<String> {
        let (whole, slice) = self.part_slice(name);
        let metric = whole.split_once('/').map(|(metric, _)| metric);
        let mut patterns = vec![name.to_owned()];
        match (metric, slice) {
            (Some(metric), Some(slice)) => patterns.extend([
                format!("{metric}/*@{slice}"),
                format!("{whole}@*"),
                format!("{metric}/*@*"),
            ]),
            (Some(metric), None) => patterns.push(format!("{metric}/*")),
            (None, Some(_)) => patterns.push(format!("{whole}@*")),
            (None, None) => {}
        }
        patterns
    }

    /// `AP50/person@night` to `AP50/person` and `night`. The name of a class may hold an `@` itself:
    /// what is measured on a slice is measured on all images too, which tells them apart.
    fn part_slice<'n>(&self, name: &'n str) -> (&'n str, Option<&'n str>) {
        match name.rsplit_once('@') {
            Some((whole, slice))
                if self.slices.contains(slice)
                    && (!whole.contains('/') || self.table.contains_key(whole)) =>
            {
                (whole, Some(slice))
            }
            _ => (name, None),
        }
    }

    /// What the author of a pattern without a metric may have meant.
    fn hint(&self, pattern: &str) -> String {
        if pattern.contains('@') && self.slices.is_empty() {
            return "it has no slices, define them in [gate.slices]".to_owned();
        }
        let shape = |name: &str| (name.contains('*'), name.contains('@'));
        let alike: BTreeSet<String> = (self.table.keys().flat_map(|name| self.patterns(name)))
            .filter(|name| shape(name) == shape(pattern))
            .collect();
        // A slip is in one part of the name, and the rest of it is meant.
        let (metric, class) = parts(pattern);
        let of_class = alike.iter().map(|name| parts(name)).filter(|name| name.1 == class);
        let of_metric = alike.iter().map(|name| parts(name)).filter(|name| name.0 == metric);
        let meant = nearest(metric, of_class.map(|name| name.0))
            .map(|metric| format!("{metric}{class}"))
            .or_else(|| Some(format!("{metric}{}", nearest(class, of_metric.map(|name| name.1))?)))
            .or_else(|| nearest(pattern, alike.iter().map(String::as_str)).map(str::to_owned));
        match meant {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => {
                let global = self.table.keys().filter(|name| !name.contains(['/', '@']));
                let names: Vec<&str> = global.map(String::as_str).collect();
                format!("its metrics are {}", names.join(", "))
            }
        }
    }
}

/// `AP50` and `/person@night`.
fn parts(name: &str) -> (&str, &str) {
    name.split_at(name.find(['/', '@']).unwrap_or(name.len()))
}
