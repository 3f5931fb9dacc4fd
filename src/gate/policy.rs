//! Which metrics are judged, and how far each may fall.

use std::collections::BTreeMap;

use super::{GateError, MetricTable};
use crate::config::Rule;

/// Rules by metric name. A name that ends in `/*` stands for that metric of every class; a rule for
/// the very name goes before one with a star.
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
        let demands_nothing = |rule: &Rule| rule.max_drop.is_none() && rule.min.is_none();
        match rules.iter().find(|(_, rule)| demands_nothing(rule)) {
            Some((pattern, _)) => Err(GateError::EmptyRule { pattern: pattern.clone() }),
            None => Ok(Self(rules)),
        }
    }

    /// The metrics of `table` that a rule judges, in the table's order, with their rule.
    ///
    /// # Errors
    /// [`GateError::RuleWithoutMetric`] for a rule that matches nothing.
    pub fn rules_for<'a>(&self, table: &'a MetricTable) -> Result<Vec<(&'a str, Rule)>, GateError> {
        for pattern in self.0.keys() {
            if !table.keys().any(|name| matches(pattern, name)) {
                return Err(GateError::RuleWithoutMetric {
                    pattern: pattern.clone(),
                    examples: table.keys().take(4).cloned().collect::<Vec<_>>().join(", "),
                });
            }
        }
        Ok(table.keys().filter_map(|name| Some((name.as_str(), self.rule(name)?))).collect())
    }

    fn rule(&self, name: &str) -> Option<Rule> {
        let starred =
            || self.0.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, rule)| rule);
        self.0.get(name).or_else(starred).copied()
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(metric) => name.strip_prefix(metric).is_some_and(|rest| rest.starts_with('/')),
        None => pattern == name,
    }
}
