//! `detgate eval --shard`: the model on a share of the images, and what it found in a file for `detgate merge`.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Context;
use detgate::config::{Config, Environment, ShardConfig};
use detgate::dataset::Dataset;
use detgate::inference::shards::{self, Facts, ShardFile, share};

use super::predictions::{self, Predictions};
use super::{interrupt, origin};
use crate::{exit, say};

pub(super) fn run(
    shard: &ShardConfig,
    config: &Config,
    dataset: Dataset,
    environment: &Environment,
    quiet: bool,
) -> anyhow::Result<u8> {
    let mut facts = shards::facts_of_project(config, &dataset, origin::ENGINE);
    let mine = share(&dataset.images, shard.shard);
    let images = mine.iter().map(|&place| dataset.images[place].clone()).collect();
    let dataset = Dataset { images, ..dataset };
    let found = predictions::obtain(config, &dataset, environment, quiet)?;
    let (all, ids) = (dataset.images.len(), dataset.images.iter().map(|image| image.id));
    let done = found.results.iter().flatten().count();
    if done < all {
        say(&format!(
            "INTERRUPTED: {done} of {all} images of shard {} are known, and nothing was written; run it again\n",
            shard.shard
        ))?;
        return Ok(interrupt::exit_code().unwrap_or(exit::COULD_NOT_EVALUATE));
    }
    let timings = timings(ids.clone(), &found.elapsed);
    facts.extend(facts_of_model(&found));
    let images = ids.zip(found.results.into_iter().flatten()).collect();
    ShardFile { shard: shard.shard, facts, images }.write(&shard.file)?;
    let beside = shard.file.with_extension("timings.csv");
    std::fs::write(&beside, timings)
        .with_context(|| format!("cannot write {}", beside.display()))?;
    say(&format!("shard {}: {all} images in {}\n", shard.shard, shard.file.display()))?;
    Ok(exit::PASSED)
}

fn facts_of_model(found: &Predictions) -> Facts {
    let provenance = &found.provenance;
    let facts = found.facts.iter().cloned().chain([
        (shards::CHECKPOINT, provenance.checkpoint.clone()),
        (shards::CHECKPOINT_BLAKE3, provenance.checkpoint_blake3.clone()),
        (shards::FORM, serde_json::json!(found.form).to_string()),
        (shards::PROCESSOR, origin::cpu()),
    ]);
    facts.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Seconds of each image that the model ran on; they are beside the shard, not in it, so that a shard that is
/// made again is the same.
fn timings(ids: impl Iterator<Item = i64>, elapsed: &[Option<Duration>]) -> String {
    let mut csv = "image_id,seconds\n".to_owned();
    for (id, elapsed) in ids.zip(elapsed) {
        if let Some(elapsed) = elapsed {
            // Writing to a string cannot fail.
            let _ = writeln!(csv, "{id},{:.4}", elapsed.as_secs_f64());
        }
    }
    csv
}
