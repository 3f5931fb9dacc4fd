//! What was found on each image: by the model now, by the model in an earlier run, or by another framework.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use detgate::config::{Config, Environment, OtherDetections};
use detgate::dataset::{Dataset, ImageRecord};
use detgate::detections::{Detection, ModelForm, coco_results};
use detgate::gate::Provenance;
use detgate::inference::cache::{Cache, FileIndex, Key, Stamp, digest};
use detgate::inference::{self, ImageResult, resume};
use detgate::report::Progress;

use super::{bless, eval, interrupt, origin};
use crate::note;

/// Results in the order of the images, and where they come from.
pub(crate) struct Predictions {
    /// `None` for images that were not begun when the end was asked for.
    pub(crate) results: Vec<Option<ImageResult>>,
    pub(crate) provenance: Provenance,
    /// What is registered if it passes.
    pub(crate) model_file: PathBuf,
    /// What the model is and how images are given to it.
    pub(crate) form: ModelForm,
    /// What predictions that are kept depend on, by name.
    pub(crate) facts: Vec<(&'static str, String)>,
    /// How long each image took; `None` where it was known before.
    pub(crate) elapsed: Vec<Option<Duration>>,
}

/// Runs the model on the images that nothing is known of, or reads the results file.
pub(crate) fn obtain(
    config: &Config,
    dataset: &Dataset,
    environment: &Environment,
    quiet: bool,
) -> anyhow::Result<Predictions> {
    match &config.detections {
        Some(other) => from_file(other, config, dataset),
        None => from_model(config, dataset, environment, quiet),
    }
}

fn from_model(
    config: &Config,
    dataset: &Dataset,
    environment: &Environment,
    quiet: bool,
) -> anyhow::Result<Predictions> {
    let folder = match (config.cache.enabled, &environment.cache) {
        (true, Some(folder)) => Some(folder.join("predictions")),
        (true, None) => {
            note(
                "cannot tell where your cache folder is: set DETGATE_CACHE_DIR, or pass --no-cache",
            );
            None
        }
        (false, _) => None,
    };
    model::hold_kernels(environment);
    let (model, stamp) = open(config)?;
    let model_file = model.path().to_owned();
    let model_digest = digest_of_model(&model_file, folder.as_deref(), config.cache.verify)?;
    let provenance = origin::provenance_of(&model_file, &model_digest);
    let form = model.form();
    let facts = facts(&model, environment);
    let key = key(&facts, &provenance).called(&provenance.checkpoint, &form.to_string());
    let labels = model.labels().cloned();
    let load = || {
        let detector = model.load_labels()?;
        // What was found by other weights must never be kept, nor reported, as found by these.
        ensure!(
            Stamp::of(&model_file).ok() == Some(stamp),
            "{} was changed while it was read; evaluate it again when it is complete",
            model_file.display()
        );
        bless::withdraw(config, environment);
        Ok(detector)
    };
    let elapsed = vec![None; dataset.images.len()];
    let mut work = Work { config, images: &dataset.images, quiet, elapsed };
    let results = match folder {
        None => work.run(vec![None; dataset.images.len()], load, |_| ())?,
        Some(folder) => work.resume(&folder, key, load)?,
    };
    let results = results.into_iter().map(|result| Some(in_categories(result?, labels.as_ref())));
    let (results, elapsed) = (results.collect(), work.elapsed);
    Ok(Predictions { results, provenance, model_file, form, facts, elapsed })
}

/// What the model's labels mean in this project. They are kept as the model said them, so that other classes are no
/// reason to run it again.
fn in_categories(result: ImageResult, labels: Option<&BTreeMap<i64, i64>>) -> ImageResult {
    let Some(labels) = labels else { return result };
    let category = |mut detection: Detection| {
        detection.category_id = *labels.get(&detection.category_id)?;
        Some(detection)
    };
    let outcome = result.outcome.map(|found| found.into_iter().filter_map(category).collect());
    ImageResult { outcome, ..result }
}

/// The model as it is found at this stamp: nothing put another file in its place meanwhile.
fn open(config: &Config) -> anyhow::Result<(model::Opened, Stamp)> {
    let path = model::open(config)?.path().to_owned();
    let stamp = Stamp::of(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let model = model::open(config)?;
    ensure!(
        model.path() == path,
        "{} has just been written; evaluate it when it is complete",
        model.path().display()
    );
    Ok((model, stamp))
}

fn digest_of_model(
    file: &Path,
    cache: Option<&Path>,
    verify: bool,
) -> anyhow::Result<blake3::Hash> {
    let mut index = cache.map(|cache| FileIndex::read(cache, file.parent().unwrap_or(file)));
    let known = index.as_ref().filter(|_| !verify).and_then(|index| index.get(file));
    if let Some(digest) = known {
        return Ok(digest);
    }
    let read = digest(file).with_context(|| format!("cannot read {}", file.display()))?;
    if let Some(index) = &mut index {
        index.insert(file, &read);
        // It costs the next run some time, no more.
        let _ = index.write();
    }
    Ok(read.digest)
}

/// What changes what is found, beside the weights, the code and the processor.
fn facts(model: &model::Opened, environment: &Environment) -> Vec<(&'static str, String)> {
    let kernels = environment.kernels.iter().map(|(name, value)| format!("{name}={value}"));
    let kernels = kernels.collect::<Vec<_>>().join(" ");
    model.facts().into_iter().chain([("kernels", kernels)]).collect()
}

/// Everything that changes what is found.
fn key(facts: &[(&'static str, String)], provenance: &Provenance) -> Key {
    let model = [
        ("model_blake3", provenance.checkpoint_blake3.clone()),
        ("engine", provenance.engine.clone()),
    ];
    let facts = facts.iter().filter(|(name, _)| *name != model::LABELS).cloned();
    Key::new(facts.chain(model))
}

/// The images of an evaluation.
struct Work<'c> {
    config: &'c Config,
    images: &'c [ImageRecord],
    quiet: bool,
    elapsed: Vec<Option<Duration>>,
}

impl Work<'_> {
    fn settings(&self) -> inference::Settings {
        let Config { workers, skip_bad_images, .. } = *self.config;
        inference::Settings { workers, skip_bad_images }
    }

    /// As [`Work::run`], on what no earlier run has found.
    fn resume(
        &mut self,
        folder: &Path,
        key: Key,
        load: impl FnOnce() -> anyhow::Result<model::Boxed>,
    ) -> anyhow::Result<Vec<Option<ImageResult>>> {
        let mut cache = Cache::new(folder, key);
        let mut index = FileIndex::read(folder, &self.config.images);
        let verify = self.config.cache.verify;
        let known = resume::recall(self.images, self.settings(), &mut cache, &mut index, verify)?;
        match known.iter().flatten().count() {
            0 => {}
            count if count == known.len() => note(&format!("all {count} images from the cache")),
            count => note(&format!("{count} of {} images from the cache", known.len())),
        }
        let keep = |result: &ImageResult| {
            if let Some(digest) = &result.digest {
                cache.keep(digest, &result.outcome);
            }
        };
        let results = self.run(known, load, keep);
        cache.finish(self.config.cache.limit).iter().for_each(|notice| note(notice));
        results
    }

    /// Runs the model on the images without a result. It is only loaded if there are any.
    fn run(
        &mut self,
        mut results: Vec<Option<ImageResult>>,
        load: impl FnOnce() -> anyhow::Result<model::Boxed>,
        mut keep: impl FnMut(&ImageResult),
    ) -> anyhow::Result<Vec<Option<ImageResult>>> {
        let missing: Vec<usize> = (0..results.len()).filter(|&i| results[i].is_none()).collect();
        if missing.is_empty() {
            return Ok(results);
        }
        let detector = load()?;
        let images: Vec<&ImageRecord> = missing.iter().map(|&i| &self.images[i]).collect();
        let settings = self.settings();
        let careful = interrupt::careful()?;
        let stop = careful.interrupted();
        let progress = Progress::new(images.len(), self.quiet);
        let advance = |number: usize, result: &ImageResult, elapsed: Duration| {
            keep(result);
            self.elapsed[missing[number]] = Some(elapsed);
            progress.advance();
        };
        let found = inference::run_until(stop, detector.as_ref(), &images, settings, advance)?;
        for (place, result) in missing.into_iter().zip(found) {
            results[place] = result;
        }
        Ok(results)
    }
}

/// What another framework found.
fn from_file(
    other: &OtherDetections,
    config: &Config,
    dataset: &Dataset,
) -> anyhow::Result<Predictions> {
    let path = &other.path;
    let read = coco_results::read(path)?;
    let by_image = read.by_image(&dataset.images);
    if let Some(category) = read.only_unlisted(&dataset.categories) {
        note(&format!(
            "no detection in {} is of a class that is evaluated; the first is of category {category}",
            path.display()
        ));
    }
    if !by_image.elsewhere.is_empty() && config.max_images.is_some() {
        // They may be on the images behind those that are evaluated.
        let all = eval::load_dataset(&Config { max_images: None, ..config.clone() })?;
        require_known(path, &read.by_image(&all.images))?;
    } else {
        require_known(path, &by_image)?;
    }
    note(&format!(
        "from what images and with what preprocessing {} was made is not known, and not compared",
        path.display()
    ));
    let result = |found: std::borrow::Cow<[_]>| {
        Some(ImageResult { digest: None, outcome: Ok(found.into_owned()) })
    };
    let results = by_image.images.into_iter().map(result).collect();
    let model_file = other.checkpoint.as_ref().unwrap_or(path).clone();
    let provenance =
        Provenance { engine: origin::results_file(path)?, ..origin::provenance(&model_file)? };
    let elapsed = Vec::new();
    let form = ModelForm::default();
    Ok(Predictions { results, provenance, model_file, form, facts: Vec::new(), elapsed })
}

fn require_known(path: &Path, by_image: &coco_results::ByImage) -> anyhow::Result<()> {
    let path = path.display();
    if let Some(name) = by_image.ambiguous.first() {
        bail!("{path}: several images of the ground truth are called {name}; use their ids");
    }
    if let Some((first, _)) = by_image.elsewhere.first_key_value() {
        let count: usize = by_image.elsewhere.values().sum();
        bail!(
            "{path}: {count} detections are on images that the ground truth does not have, among \
             others on image {first}; evaluate results of this project's images"
        );
    }
    Ok(())
}

#[cfg(feature = "torch")]
mod model {
    use detgate::config::{Config, Environment};
    use detgate::detections::Detector;
    use detgate::model::kernels::Isa;

    pub(super) type Boxed = Box<dyn Detector>;
    pub(super) use detgate::model::{LABELS, Opened};

    /// The variable of libtorch's own kernels holds ours, too.
    pub(super) fn hold_kernels(environment: &Environment) {
        if let Some(capability) = environment.capability() {
            Isa::hold_to(Isa::of_capability(capability));
        }
    }

    pub(super) fn open(config: &Config) -> anyhow::Result<Opened> {
        Ok(detgate::model::open(config)?)
    }
}

/// As if there were no model anywhere.
#[cfg(not(feature = "torch"))]
mod model {
    use std::collections::BTreeMap;
    use std::path::Path;

    use detgate::config::{Config, Environment};
    use detgate::detections::{Detector, ModelForm};

    pub(super) type Boxed = Box<dyn Detector>;

    pub(super) fn hold_kernels(_environment: &Environment) {}

    pub(super) const LABELS: &str = "labels";

    pub(super) enum Opened {}

    impl Opened {
        pub(super) fn path(&self) -> &Path {
            match *self {}
        }

        pub(super) fn facts(&self) -> [(&'static str, String); 2] {
            match *self {}
        }

        pub(super) fn form(&self) -> ModelForm {
            match *self {}
        }

        pub(super) fn labels(&self) -> Option<&BTreeMap<i64, i64>> {
            match *self {}
        }

        pub(super) fn load_labels(self) -> anyhow::Result<Boxed> {
            match self {}
        }
    }

    pub(super) fn open(_config: &Config) -> anyhow::Result<Opened> {
        anyhow::bail!(
            "this detgate was built without the feature `torch`; use `cargo xtask eval`, or pass \
             --detections"
        )
    }
}
