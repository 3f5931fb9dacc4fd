//! What the results of a share depend on.

use std::collections::BTreeMap;

use crate::config::{Config, Preprocessing};
use crate::dataset::Dataset;
use crate::inference::cache::SOURCES;

/// What a share's results depend on, by name.
pub type Facts = BTreeMap<String, String>;

/// The checkpoint's file name.
pub const CHECKPOINT: &str = "the checkpoint";
/// Its digest.
pub const CHECKPOINT_BLAKE3: &str = "the checkpoint (BLAKE3)";
/// [`ModelForm`](crate::detections::ModelForm) as JSON.
pub const FORM: &str = "the form of the model";
/// The instructions that it ran with; may differ between shares, whose results then differ in their last bits.
pub const PROCESSOR: &str = "the processor";

/// The facts that whoever merges knows, too. `engine` is the version of detgate and of what it is built on.
pub fn facts_of_project(config: &Config, dataset: &Dataset, engine: &str) -> Facts {
    let Preprocessing { min_size, max_size, norm_eps } = config.preprocessing;
    let classes = dataset.categories.iter().map(|c| format!("{}={}", c.id, c.name));
    let facts = [
        ("the ground truth (BLAKE3)", dataset.digest.to_string()),
        ("the number of images", dataset.images.len().to_string()),
        ("the list of classes", classes.collect::<Vec<_>>().join(", ")),
        ("min_size", set(min_size)),
        ("max_size", set(max_size)),
        ("norm_eps", set(norm_eps)),
        ("the version of detgate", engine.to_owned()),
        ("the digest of the sources", SOURCES.to_owned()),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).into()
}

fn set(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "the model's own".to_owned(), |value| value.to_string())
}
