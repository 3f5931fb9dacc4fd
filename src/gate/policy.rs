//! Which metrics are judged, and how far each may fall.

use std::collections::{BTreeMap, BTreeSet};

use super::GateError;
use crate::config::{Rule, nearest};

/// Rules by metric pattern.
///
/// `AP50/*` is that metric of every class and `AP@*` that metric on every slice; `AP50/*@night` and
/// `AP50/*@*` combine the two. Of the patterns that match a metric the most specific holds: its very
/// name, else the one with the star for slices, else for classes, else for both.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy(BTreeMap<String, Rule>);

impl Policy {
    /// A policy that can fail: there is a rule, and every rule demands something.
    ///
    /// # Errors
    /// [`GateError::NoRules`] and [`GateError::EmptyRule`]: a gate that cannot close is none.
    pub fn new(rules: BTreeMap<String, Rule>) -> Result<Self, GateError> {
        if rules.is_empty() {
            return Err(GateError::NoRules);
        }
        match rules.iter().find(|(_, rule)| rule.demands_nothing()) {
            Some((pattern, _)) => Err(GateError::EmptyRule { pattern: pattern.clone() }),
            None => Ok(Self(rules)),
        }
    }

    /// The rule of every metric that has one, by full name. `metrics` are names over all images with
    /// the slice, if any, on which they are measured.
    ///
    /// # Errors
    /// [`GateError::RuleWithoutMetric`] for a rule that matches nothing.
    pub fn rules_for<'m>(
        &self,
        metrics: impl IntoIterator<Item = (&'m str, Option<&'m str>)>,
    ) -> Result<BTreeMap<String, Rule>, GateError> {
        let mut unused: BTreeSet<&str> = self.0.keys().map(String::as_str).collect();
        let (mut rules, mut names) = (BTreeMap::new(), Vec::new());
        for (metric, slice) in metrics {
            let name = full_name(metric, slice);
            for pattern in patterns(metric, slice) {
                if let Some(rule) = self.0.get(&pattern) {
                    unused.remove(pattern.as_str());
                    rules.entry(name.clone()).or_insert(*rule);
                }
            }
            names.push(name);
        }
        match unused.first() {
            Some(pattern) => Err(GateError::RuleWithoutMetric {
                pattern: (*pattern).to_owned(),
                advice: advice(pattern, &names),
            }),
            None => Ok(rules),
        }
    }

    /// Whether a rule is for this very metric, and not for all that match it.
    pub(super) fn names(&self, metric: &str) -> bool {
        self.0.contains_key(metric)
    }
}

/// A metric's name among all: `AP50/person@night`.
pub(super) fn full_name(metric: &str, slice: Option<&str>) -> String {
    slice.map_or_else(|| metric.to_owned(), |slice| format!("{metric}@{slice}"))
}

/// The patterns that match a metric, the most specific first.
fn patterns(metric: &str, slice: Option<&str>) -> Vec<String> {
    let every_class = metric.split_once('/').map(|(metric, _class)| format!("{metric}/*"));
    let every_slice = slice.map(|_| "*");
    let both = every_class.as_deref();
    [
        Some(full_name(metric, slice)),
        every_slice.map(|any| full_name(metric, Some(any))),
        both.map(|classes| full_name(classes, slice)),
        both.zip(every_slice).map(|(classes, any)| full_name(classes, Some(any))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn advice(pattern: &str, names: &[String]) -> String {
    match nearest(pattern, names.iter().map(String::as_str)) {
        Some(nearest) => format!("did you mean {nearest:?}?"),
        None => {
            let few: Vec<&str> = names.iter().take(4).map(String::as_str).collect();
            format!("known names look like {}", few.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[(&str, f64)]) -> Policy {
        let rule = |max_drop| Rule { max_drop: Some(max_drop), ..Rule::default() };
        let rules = patterns.iter().map(|&(pattern, drop)| (pattern.to_owned(), rule(drop)));
        Policy::new(rules.collect()).unwrap()
    }

    const METRICS: [(&str, Option<&str>); 6] = [
        ("AP", None),
        ("AP/bus", None),
        ("AP/a/b@c*", None),
        ("AP/car", Some("night")),
        ("AP/car", Some("rain")),
        ("AP/bus", Some("night")),
    ];

    /// The limits of [`METRICS`].
    fn limits(patterns: &[(&str, f64)]) -> [Option<f64>; 6] {
        let rules = rules(patterns).rules_for(METRICS).unwrap();
        METRICS.map(|(metric, slice)| rules.get(&full_name(metric, slice))?.max_drop)
    }

    #[test]
    fn the_most_specific_pattern_holds() {
        let mut patterns = vec![("AP/*@*", 0.4)];
        assert_eq!(limits(&patterns)[3..], [Some(0.4); 3]);
        patterns.push(("AP/*@night", 0.3));
        assert_eq!(limits(&patterns)[3..], [Some(0.3), Some(0.4), Some(0.3)]);
        patterns.push(("AP/car@*", 0.2));
        assert_eq!(limits(&patterns)[3..], [Some(0.2), Some(0.2), Some(0.3)]);
        patterns.push(("AP/car@night", 0.1));
        assert_eq!(limits(&patterns)[3..], [Some(0.1), Some(0.2), Some(0.3)]);
    }

    /// Names are what the ground truth says, odd ones too.
    #[test]
    fn a_star_stays_with_its_kind() {
        assert_eq!(limits(&[("AP/*", 0.1)]), [None, Some(0.1), Some(0.1), None, None, None]);
        assert_eq!(limits(&[("AP/car@*", 0.1)])[..3], [None; 3]);
        assert_eq!(limits(&[("AP/a/b@c*", 0.1), ("AP/*", 0.2)])[1..3], [Some(0.2), Some(0.1)]);
    }

    #[test]
    fn a_rule_that_matches_nothing_says_what_was_probably_meant() {
        let error = rules(&[("AP/persn", 0.1)]).rules_for([("AP/person", None)]).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("\"AP/persn\"") && said.contains("mean \"AP/person\""), "{said}");
    }
}
