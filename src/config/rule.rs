//! A rule of the gate: what one metric has to satisfy.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::place::Place;

/// What a metric has to satisfy: every demand that is given. Values are 0..1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend(
    "anyOf" = [
        {"required": ["max_drop"]},
        {"required": ["max_relative_drop"]},
        {"required": ["min"]},
        {"required": ["must_improve_by"]},
    ],
    "dependentSchemas" = {
        "must_improve_by": {"properties": {"max_drop": false, "max_relative_drop": false}}
    }
))]
pub struct Rule {
    /// The largest drop below the baseline that passes: 0.01 lets 0.50 fall to 0.49.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub max_drop: Option<f64>,
    /// The largest drop that passes, as a part of the baseline: 0.02 lets 0.50 fall to 0.49.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub max_relative_drop: Option<f64>,
    /// The least value that passes, whatever the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub min: Option<f64>,
    /// How far above the baseline the candidate has to be at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub must_improve_by: Option<f64>,
    /// What a broken rule does.
    #[serde(skip_serializing_if = "Tier::is_block")]
    #[schemars(extend("default" = Tier::default()))]
    pub tier: Tier,
}

/// What a broken rule does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The gate does not pass.
    #[default]
    Block,
    /// It is said, and the gate passes all the same.
    Warn,
}

impl Tier {
    /// Whether a broken rule closes the gate.
    pub fn is_block(&self) -> bool {
        *self == Self::Block
    }
}

/// Rules by metric pattern, and where in a file each of them stands.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    rules: BTreeMap<String, Rule>,
    places: BTreeMap<String, Place>,
}

impl RuleSet {
    pub(super) fn new(
        rules: BTreeMap<String, Rule>,
        place: impl Fn(&str) -> Option<Place>,
    ) -> Self {
        let places = rules.keys().filter_map(|rule| Some((rule.clone(), place(rule)?)));
        Self { places: places.collect(), rules }
    }

    /// Where the rule for a pattern stands; `None` where in no file.
    pub fn place(&self, pattern: &str) -> Option<&Place> {
        self.places.get(pattern)
    }
}

/// Where rules stand is no part of what they demand.
impl PartialEq for RuleSet {
    fn eq(&self, other: &Self) -> bool {
        self.rules == other.rules
    }
}

impl Deref for RuleSet {
    type Target = BTreeMap<String, Rule>;

    fn deref(&self) -> &Self::Target {
        &self.rules
    }
}

impl From<BTreeMap<String, Rule>> for RuleSet {
    fn from(rules: BTreeMap<String, Rule>) -> Self {
        Self { rules, places: BTreeMap::new() }
    }
}

/// Why a rule is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleMistake {
    /// The key at fault; `None` when it is the rule as a whole.
    pub key: Option<&'static str>,
    /// What is wrong with it and what to do.
    pub what: String,
}

impl fmt::Display for RuleMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(key) => write!(f, "{key} {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

impl Rule {
    /// Whether the rule demands something, and something that can be had.
    ///
    /// # Errors
    /// [`RuleMistake`] when there is no demand, a value is not in 0..1, or two demands contradict
    /// each other.
    pub fn check(&self) -> Result<(), RuleMistake> {
        let demands = [
            ("max_drop", self.max_drop),
            ("max_relative_drop", self.max_relative_drop),
            ("min", self.min),
            ("must_improve_by", self.must_improve_by),
        ];
        let mistake = |key, what: String| Err(RuleMistake { key, what });
        for (key, value) in demands {
            if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
                return mistake(Some(key), format!("is {value}; it must be between 0 and 1"));
            }
        }
        if demands.iter().all(|(_, value)| value.is_none()) {
            let what =
                "demands nothing; give it max_drop, max_relative_drop, min or must_improve_by";
            return mistake(None, what.to_owned());
        }
        let allows_drop = demands[..2].iter().find(|(_, value)| value.is_some());
        match (allows_drop, self.must_improve_by) {
            (Some((key, _)), Some(_)) => mistake(
                Some("must_improve_by"),
                format!(
                    "contradicts {key}: one asks for a rise, the other allows a fall; keep one"
                ),
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_demands_something_that_can_be_had() {
        let sentence = |rule: Rule| rule.check().unwrap_err().to_string();
        let good = Rule { max_drop: Some(0.0), min: Some(1.0), ..Rule::default() };
        assert_eq!(good.check(), Ok(()));
        assert_eq!(Rule { must_improve_by: Some(0.1), ..Rule::default() }.check(), Ok(()));
        let both = Rule {
            max_drop: None,
            max_relative_drop: Some(0.1),
            must_improve_by: Some(0.1),
            ..good
        };
        assert_eq!(
            sentence(both),
            "must_improve_by contradicts max_relative_drop: one asks for a rise, the other allows a fall; keep one"
        );
        assert!(
            sentence(Rule { tier: Tier::Warn, ..Rule::default() }).starts_with("demands nothing")
        );
        for bad in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            let sentence = sentence(Rule { max_relative_drop: Some(bad), ..good });
            assert_eq!(sentence, format!("max_relative_drop is {bad}; it must be between 0 and 1"));
        }
    }
}
