//! Makes the shards of a project out of a COCO results file, as if a model had found it: what `cargo xtask bench-scale`
//! merges, a million images being too many for a model.
//!
//!     cargo run --release --example shards -- --project DIR --ground-truth FILE --results FILE --engine TEXT --shards 64 --out DIR

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;
use detgate::config::{Config, Environment, EvalFlags, ProjectFlags, Shard};
use detgate::dataset::{self, Classes};
use detgate::detections::{ModelForm, coco_results};
use detgate::inference::ImageResult;
use detgate::inference::shards::{
    CHECKPOINT, CHECKPOINT_BLAKE3, FORM, PROCESSOR, ShardFile, facts_of_project, share,
};

#[derive(Parser)]
struct Arguments {
    /// A folder with data/processed/project_config.json.
    #[arg(long)]
    project: PathBuf,
    /// COCO ground truth, of which every category is evaluated.
    #[arg(long)]
    ground_truth: PathBuf,
    /// What a model is said to have found.
    #[arg(long)]
    results: PathBuf,
    /// The version of detgate that is said to have run it.
    #[arg(long)]
    engine: String,
    /// How many shards.
    #[arg(long)]
    shards: u32,
    /// The folder to write to; made if it is not there.
    #[arg(long)]
    out: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let flags = EvalFlags {
        project: ProjectFlags { project: Some(arguments.project.clone()), baseline: None },
        all_categories: true,
        ..EvalFlags::default()
    };
    let cwd = std::env::current_dir()?;
    let config = Config::resolve_for_merge(&Environment::default(), &flags, &cwd)?;
    let dataset = dataset::load_annotations(&arguments.ground_truth, &Classes::FromFile, None)?;
    let mut facts = facts_of_project(&config, &dataset, &arguments.engine);
    for name in [CHECKPOINT, CHECKPOINT_BLAKE3, PROCESSOR] {
        facts.insert(name.to_owned(), "none: these are generated".to_owned());
    }
    facts.insert(FORM.to_owned(), serde_json::to_string(&ModelForm::default())?);
    let found = coco_results::read(&arguments.results)?;
    let found = found.by_image(&dataset.images).images;
    for index in 1..=arguments.shards {
        let shard = Shard::new(index, arguments.shards).context("too many shards")?;
        let image = |place: usize| {
            let id = dataset.images[place].id;
            let digest = Some(blake3::hash(&id.to_le_bytes()));
            (id, ImageResult { digest, outcome: Ok(found[place].to_vec()) })
        };
        let images = share(&dataset.images, shard).into_iter().map(image).collect();
        let path = arguments.out.join(format!("{index}-of-{}.shard", arguments.shards));
        ShardFile { shard, facts: facts.clone(), images }.write(&path)?;
    }
    Ok(())
}
