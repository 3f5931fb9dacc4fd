//! `detgate eval --shard`: the model on a share of the images, and what it found in a file for `detgate merge`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use detgate::config::{Config, Environment, ShardConfig};
use detgate::dataset::Dataset;
use detgate::inference::shards::{self, Facts, ShardFile, share};
use detgate::report;

use super::predictions::{self, Predictions};
use super::{eval, interrupt, origin};
use crate::{exit, note, say};

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
    let mut dataset = Dataset { images, ..dataset };
    // Only now: a machine may have no other images, and there may be a million.
    eval::find_images(config, &mut dataset)?;
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
    keep_timings(&shard.file.with_extension("timings.csv"), &timings);
    say(&format!("shard {}: {all} images in {}\n", shard.shard, shard.file.display()))?;
    Ok(exit::PASSED)
}

fn facts_of_model(found: &Predictions) -> Facts {
    let provenance = &found.provenance;
    let facts = found.facts.iter().cloned().chain([
        (shards::CHECKPOINT, provenance.checkpoint.clone()),
        (shards::CHECKPOINT_BLAKE3, provenance.checkpoint_blake3.clone()),
        (shards::PRECISION, format!("{:?}", found.form.precision).to_lowercase()),
        (shards::FORM, serde_json::json!(found.form).to_string()),
        (shards::PROCESSOR, origin::cpu()),
    ]);
    facts.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Seconds of each image that the model ran on; they are beside the shard, not in it, so that a shard that is
/// made again is the same.
fn timings(ids: impl Iterator<Item = i64>, elapsed: &[Option<Duration>]) -> BTreeMap<i64, String> {
    let seconds = |elapsed: Duration| format!("{:.4}", elapsed.as_secs_f64());
    ids.zip(elapsed).filter_map(|(id, elapsed)| Some((id, seconds((*elapsed)?)))).collect()
}

/// Writes them, with those of an earlier run for images that came from the cache now. The shard is whole without.
fn keep_timings(path: &Path, timings: &BTreeMap<i64, String>) {
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let line = |line: &str| {
        let (id, seconds) = line.split_once(',')?;
        Some((id.parse::<i64>().ok()?, seconds.to_owned()))
    };
    let mut all: BTreeMap<i64, String> = before.lines().filter_map(line).collect();
    all.extend(timings.iter().map(|(id, seconds)| (*id, seconds.clone())));
    let mut csv = "image_id,seconds\n".to_owned();
    for (id, seconds) in all {
        // Writing to a string cannot fail.
        let _ = writeln!(csv, "{id},{seconds}");
    }
    if let Err(error) = report::write(path, &csv) {
        note(&format!("cannot write {}: {error}", path.display()));
    }
}
