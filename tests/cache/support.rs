//! A cache in a temporary folder, and predictions that are known by a number.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use detgate::dataset::Bbox;
use detgate::detections::Detection;
use detgate::inference::cache::{Cache, Key, Outcome};

pub(crate) const NO_LIMIT: u64 = u64::MAX;

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("predictions")
    }

    pub(crate) fn cache(&self, model: &str) -> Cache {
        Cache::new(&self.path(), key(model))
    }

    /// Keeps these images in a run of their own.
    pub(crate) fn keep(&self, model: &str, images: impl IntoIterator<Item = u32>) {
        let mut cache = self.cache(model);
        cache.recall(&HashSet::new());
        for n in images {
            cache.keep(&image(n), &outcome(n));
        }
        assert_eq!(cache.finish(NO_LIMIT), Vec::<String>::new());
    }

    /// Which of the first 1000 images are known; each as it was kept.
    pub(crate) fn known(&self, model: &str) -> BTreeSet<u32> {
        known(&mut self.cache(model))
    }

    /// Files of predictions, sorted.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let entries = self.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| is_file_of_predictions(path)).collect();
        files.sort();
        files
    }
}

fn is_file_of_predictions(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "predictions")
}

pub(crate) fn key(model: &str) -> Key {
    Key::new([("model_blake3", model.to_owned()), ("min_size", "800".to_owned())])
}

pub(crate) fn known(cache: &mut Cache) -> BTreeSet<u32> {
    let wanted = (0..1000).map(image).collect();
    let found = cache.recall(&wanted);
    let check = |n: &u32| {
        let found = found.get(&image(*n));
        assert!(found.is_none_or(|found| *found == outcome(*n)), "image {n}: {found:?}");
        found.is_some()
    };
    (0..1000).filter(check).collect()
}

pub(crate) fn image(n: u32) -> blake3::Hash {
    blake3::hash(&n.to_le_bytes())
}

pub(crate) fn outcome(n: u32) -> Outcome {
    if n % 17 == 5 {
        return Err(format!("the JPEG data end too early ({n})"));
    }
    let detection = |i: u32| Detection {
        bbox: Bbox::from([f64::from(i), f64::from(n), 1.0 / f64::from(n + 3), f64::from(n) / 7.0]),
        score: f64::from(i) / 100.0,
        category_id: i64::from(n),
    };
    Ok((0..n % 5).map(detection).collect())
}
