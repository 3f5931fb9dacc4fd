//! `detgate merge`: what was found on shares of the images is judged as if one machine had found it.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, ensure};
use detgate::checkpoint::{self, CheckpointError};
use detgate::config::{Config, Environment, MergeFlags, ModelSource};
use detgate::dataset::Dataset;
use detgate::gate::Provenance;
use detgate::inference::shards::{
    CHECKPOINT, CHECKPOINT_BLAKE3, FORM, Merged, PROCESSOR, ShardFile, facts_of_project, merge,
};

use super::eval::Bar;
use super::predictions::Predictions;
use super::target::Target;
use super::{eval, named, origin, registered};
use crate::note;

/// The pipeline of `eval` from the end of inference on.
pub(crate) fn run(flags: &MergeFlags, cwd: &Path, environment: &Environment) -> anyhow::Result<u8> {
    let MergeFlags { eval: flags, shards } = flags;
    // All other flags of inference change nothing here, so that both command lines can be the same.
    ensure!(flags.detections.is_none(), "merge takes shards: leave --detections out");
    ensure!(flags.shard.is_none(), "merge takes all shards: leave --shard out");
    let target = Target::of(flags, cwd)?;
    let mut config = Config::resolve_for_merge(environment, flags, cwd)?;
    config.notices.iter().for_each(|notice| note(notice));
    let dataset = eval::load_dataset(&config)?;
    eval::trial(&config, &dataset, dataset.images.iter().collect())?.check()?;
    let kept = eval::require(&config, target.as_ref(), environment)?;
    let is_named = flags.checkpoint.is_some() || flags.torchscript.is_some();
    let files = files(shards)?;
    // Whoever only wants the report need not have the model.
    if is_named || config.registry.is_some() {
        registered::provide(&mut config, environment)?;
    }
    let found = found(&files, &config, &dataset, is_named)?;
    let bar = Bar { kept: kept.as_ref(), target: target.as_ref() };
    eval::conclude(&config, &dataset, bar, found, environment, flags.quiet)
}

/// The shards that are named, each by itself or with all that are in its folder.
fn files(shards: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in shards {
        match path.is_dir() {
            true => files.extend(in_folder(path)?),
            false => files.push(path.clone()),
        }
    }
    named::require_once(&files)?;
    Ok(files)
}

/// By their names, so that what is wrong is said of the same one each time.
fn in_folder(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("cannot list {}; change its permissions", folder.display());
    let mut files = Vec::new();
    for entry in folder.read_dir().with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "shard") {
            files.push(path);
        }
    }
    ensure!(
        !files.is_empty(),
        "there is no *.shard file in {}; name the folder that `detgate eval --shard` has written to",
        folder.display()
    );
    files.sort_unstable();
    Ok(files)
}

fn found(
    paths: &[PathBuf],
    config: &Config,
    dataset: &Dataset,
    is_named: bool,
) -> anyhow::Result<Predictions> {
    let read = |path: &PathBuf| Ok((path.clone(), ShardFile::read(path)?));
    let shards = paths.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
    let here = facts_of_project(config, dataset, origin::ENGINE);
    let Merged { results, facts, free } = merge(shards, &dataset.images, &here, &[PROCESSOR])?;
    let processors: Vec<String> = free.into_values().flatten().collect();
    if processors.len() > 1 {
        note(&format!(
            "the shards were made on different processors ({}), whose results differ in their last bits",
            processors.join(", ")
        ));
    }
    let fact = |name: &str| facts.get(name).cloned().unwrap_or_default();
    let provenance = Provenance {
        checkpoint: fact(CHECKPOINT),
        checkpoint_blake3: fact(CHECKPOINT_BLAKE3),
        engine: origin::engine(&processors.join(" and ")),
    };
    let model_file = match is_named || config.registry.is_some() {
        true => model_file(config, &provenance)?,
        false => PathBuf::from(&provenance.checkpoint),
    };
    let results = results.into_iter().map(Some).collect();
    let form = serde_json::from_str(&fact(FORM))
        .context("the shards do not say of which form their model is")?;
    let (facts, elapsed) = (Vec::new(), Vec::new());
    Ok(Predictions { results, provenance, model_file, form, facts, elapsed })
}

/// The file of the model that the shards were made with.
fn model_file(config: &Config, provenance: &Provenance) -> anyhow::Result<PathBuf> {
    let Provenance { checkpoint: made_with, checkpoint_blake3: digest, .. } = provenance;
    let flag = match &config.model {
        ModelSource::TorchScript(..) => "--torchscript",
        ModelSource::Checkpoint(_) | ModelSource::Registered(_) | ModelSource::Newest(_) => {
            "--checkpoint"
        }
    };
    let by_flag = format!("by {flag}, or leave it out with --no-register");
    let absent =
        |what: String| anyhow!("{what}; the shards were made with {made_with}: name it {by_flag}");
    let path = match &config.model {
        ModelSource::Checkpoint(path) | ModelSource::TorchScript(path, _) => path.clone(),
        ModelSource::Newest(folder) => checkpoint::newest(folder).map_err(|error| match error {
            CheckpointError::None(folder) => {
                absent(format!("there is no checkpoint to register in {}", folder.display()))
            }
            error => error.into(),
        })?,
        ModelSource::Registered(reference) => {
            return Err(CheckpointError::Registered(reference.clone()).into());
        }
    };
    let here = origin::provenance(&path).map_err(|error| absent(format!("{error:#}")))?;
    let here = here.checkpoint_blake3;
    ensure!(
        here == *digest,
        "the shards were made with {made_with} (BLAKE3 {digest}), {} is another model (BLAKE3 {here}); name the one \
         they were made with {by_flag}",
        path.display()
    );
    Ok(path)
}
