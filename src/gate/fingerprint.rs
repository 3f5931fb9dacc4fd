//! What must be equal for two runs to be comparable.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Precision};
use crate::dataset::Dataset;
use crate::detections::ModelForm;
use crate::inference::ImageResult;
use crate::matching::practical::PracticalParams;

/// By whose rules is counted; another name when a metric changes its meaning.
const PROTOCOL: &str = "coco: pycocotools 2.0.11; practical: 1";

/// A fact that cannot be known; it is said, and compared with nothing.
const NOT_KNOWN: &str = "not known";

/// The fact that is recorded only where it is not [`USUAL_PRECISION`].
const PRECISION: &str = "precision";
const USUAL_PRECISION: &str = "f32";

/// Named facts about a run: digests of the ground truth and images, thresholds, the class map,
/// preprocessing. Two runs are comparable when every fact is equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Fingerprint(BTreeMap<String, String>);

impl Fingerprint {
    /// The facts of a run: what was evaluated, how it was given to the model, what was counted.
    /// The model itself is not among them: it is what is compared.
    pub fn of_run(
        config: &Config,
        dataset: &Dataset,
        results: &[ImageResult],
        form: &ModelForm,
    ) -> Self {
        let skipped = results.iter().filter(|result| result.outcome.is_err()).count();
        let mut fingerprint = Self::default();
        let practical = PracticalParams::of(config);
        fingerprint.record_evaluation(dataset, results.len(), practical);
        fingerprint.record("skipped_images", skipped);
        let facts = ["image_bytes_blake3", "min_size", "max_size"];
        let values = match digest_of_images(dataset, results) {
            Some(digest) => {
                // Until detgate read other checkpoints, it recorded these for every model.
                let (min_size, max_size) = form.input_size.unwrap_or((800, 1333));
                [digest.to_hex().to_string(), min_size.to_string(), max_size.to_string()]
            }
            None => facts.map(|_| NOT_KNOWN.to_owned()),
        };
        std::iter::zip(facts, values).for_each(|(name, value)| fingerprint.record(name, value));
        if form.precision == Precision::Bf16 {
            fingerprint.record(PRECISION, "bf16");
        }
        fingerprint
    }

    /// The facts of an evaluation, whoever made the detections: what was evaluated and how it was
    /// counted.
    pub fn record_evaluation(
        &mut self,
        dataset: &Dataset,
        images: usize,
        practical: PracticalParams,
    ) {
        let classes = dataset.categories.iter().map(|c| format!("{}={}", c.id, c.name));
        self.record("protocol", PROTOCOL);
        self.record("ground_truth_blake3", &dataset.digest);
        self.record("image_count", images);
        self.record("classes", classes.collect::<Vec<_>>().join(", "));
        self.record("score_thr", practical.score_thr);
        self.record("iou_thr", practical.iou_thr);
    }

    /// Adds one fact; the same `name` again replaces it.
    pub fn record(&mut self, name: &str, value: impl ToString) {
        self.0.insert(name.to_owned(), value.to_string());
    }

    /// The facts, by name.
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// One sentence per fact that differs or that only one side has; empty when comparable. What a side
    /// cannot know does not differ: another framework's results do not tell from what they were made.
    pub fn differences(&self, candidate: &Self) -> Vec<String> {
        let names =
            self.0.keys().chain(candidate.0.keys().filter(|name| !self.0.contains_key(*name)));
        names
            .filter(|name| {
                let sides = [self.0.get(*name), candidate.0.get(*name)];
                let unknown = sides.iter().flatten().any(|value| *value == NOT_KNOWN);
                !unknown && sides[0] != sides[1]
            })
            .map(|name| {
                let side = |facts: &BTreeMap<String, String>| {
                    let missing = if name == PRECISION { USUAL_PRECISION } else { "not recorded" };
                    facts.get(name).map_or_else(|| missing.to_owned(), Clone::clone)
                };
                format!("{name}: baseline {}, candidate {}", side(&self.0), side(&candidate.0))
            })
            .collect()
    }
}

/// Of the bytes of every image; `None` where these are not known.
fn digest_of_images(dataset: &Dataset, results: &[ImageResult]) -> Option<blake3::Hash> {
    let mut images = blake3::Hasher::new();
    for (image, result) in std::iter::zip(&dataset.images, results) {
        images.update(format!("{} {}\n", image.id, result.digest?).as_bytes());
    }
    Some(images.finalize())
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, NOT_KNOWN};

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
            ["images: baseline aa, candidate bb", "subset: baseline not recorded, candidate 300"]
        );
        assert!(baseline.differences(&baseline).is_empty());
    }
    #[test]
    fn what_a_side_cannot_know_does_not_differ_but_all_else_does() {
        let baseline = facts(&[("images", "aa"), ("min_size", "800"), ("score_thr", "0.5")]);
        let candidate =
            facts(&[("images", NOT_KNOWN), ("min_size", NOT_KNOWN), ("score_thr", "0.3")]);
        let expected = ["score_thr: baseline 0.5, candidate 0.3"];
        assert_eq!(baseline.differences(&candidate), expected);
        assert_eq!(candidate.differences(&baseline).len(), 1);
    }
}
