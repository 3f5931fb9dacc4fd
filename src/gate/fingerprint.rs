//! What must be equal for two runs to be comparable.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Named facts about a run: digests of the ground truth and images, thresholds, the class map,
/// preprocessing. Two runs are comparable when every fact is equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// Adds one fact; the same `name` again replaces it.
    pub fn record(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// The facts, by name.
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// One sentence per fact that differs or that only one side has; empty when comparable.
    pub fn differences(&self, candidate: &Self) -> Vec<String> {
        let names = self.0.keys().chain(
            candidate
                .0
                .keys()
                .filter(|name| !self.0.contains_key(*name)),
        );
        names
            .filter(|name| self.0.get(*name) != candidate.0.get(*name))
            .map(|name| {
                let side = |facts: &BTreeMap<String, String>| {
                    facts
                        .get(name)
                        .map_or_else(|| "not recorded".to_owned(), Clone::clone)
                };
                format!(
                    "{name}: baseline {}, candidate {}",
                    side(&self.0),
                    side(&candidate.0)
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    fn facts(pairs: &[(&str, &str)]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        for (name, value) in pairs {
            fingerprint.record(name, value);
        }
        fingerprint
    }

    #[test]
    fn differences_name_what_changed_on_either_side() {
        let baseline = facts(&[("images", "aa"), ("score_thr", "0.5")]);
        let candidate = facts(&[("images", "bb"), ("score_thr", "0.5"), ("subset", "300")]);
        assert_eq!(
            baseline.differences(&candidate),
            [
                "images: baseline aa, candidate bb",
                "subset: baseline not recorded, candidate 300"
            ]
        );
        assert!(baseline.differences(&baseline).is_empty());
    }
}
