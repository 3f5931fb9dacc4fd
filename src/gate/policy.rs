//! Which metrics are judged, and how far each may fall.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{GateError, MetricTable};

/// What one metric has to satisfy. Values are 0..1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The largest absolute drop below the baseline that still passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_drop: Option<f64>,
    /// The least value that passes, whatever the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

/// Rules by metric name. A name that ends in `/*` stands for that metric of every class; a rule for
/// the very name goes before one with a star.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policy(pub BTreeMap<String, Rule>);

impl Policy {
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
        Ok(table
            .keys()
            .filter_map(|name| Some((name.as_str(), self.rule(name)?)))
            .collect())
    }

    fn rule(&self, name: &str) -> Option<Rule> {
        let starred = || {
            self.0
                .iter()
                .find(|(pattern, _)| matches(pattern, name))
                .map(|(_, rule)| rule)
        };
        self.0.get(name).or_else(starred).copied()
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(metric) => name
            .strip_prefix(metric)
            .is_some_and(|rest| rest.starts_with('/')),
        None => pattern == name,
    }
}
