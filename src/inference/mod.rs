//! The worker pool: images in, detections out, in the order of the images; and what earlier runs found.
//!
//! Each worker runs one image at a time, so that results do not depend on how many workers there
//! are. Files are read ahead of the workers, which wait for no disk. Deliberately absent: any knowledge
//! of what the detector is, of how progress is shown, and of signals.

pub mod cache;
pub mod resume;
pub mod shards;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::dataset::{ImageRecord, image};
use crate::detections::{Detection, Detector};
use crate::files::failed;

/// What became of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageResult {
    /// BLAKE3 of the file's bytes; `None` where the file was not read, but another framework's results.
    pub digest: Option<blake3::Hash>,
    /// What the detector said, or why the image could not be decoded, without its path.
    pub outcome: Result<Vec<Detection>, String>,
}

/// How to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Worker threads, at least 1.
    pub workers: usize,
    /// Go on past images that cannot be decoded, and say which they were.
    pub skip_bad_images: bool,
}

/// Why inference stopped: a sentence that names the image.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// The file cannot be decoded.
    #[error("{0}; or pass --skip-bad-images to leave it out")]
    BadImage(String),
    /// The file cannot be read.
    #[error("cannot read the image {path}: {}", failed(error))]
    Read {
        /// The image.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The detector failed on it.
    #[error("the model failed on {path}: {reason}")]
    Detect {
        /// The image.
        path: String,
        /// What the detector said.
        reason: String,
    },
}

impl InferenceError {
    fn bad_image(path: &Path, reason: &str) -> Self {
        Self::BadImage(format!("{}: {reason}", path.display()))
    }
}

/// Runs `detector` on every image; `on_image` is called on this thread as each one is finished.
/// Results are in the order of `images`, and the same whatever the number of workers.
///
/// # Errors
/// The error of the first image, in the order of `images`, that any worker reached before stopping.
pub fn run(
    detector: &dyn Detector,
    images: &[ImageRecord],
    settings: Settings,
    mut on_image: impl FnMut(),
) -> Result<Vec<ImageResult>, InferenceError> {
    let images: Vec<&ImageRecord> = images.iter().collect();
    let never = AtomicBool::new(false);
    let results = run_until(&never, detector, &images, settings, |_, _, _| on_image())?;
    // Nothing stops it: every slot is filled.
    Ok(results.into_iter().flatten().collect())
}

/// As [`run`], but no image is begun once `stop` is set; those that were not have no result. `on_image`
/// gets the place of an image, its result and how long it took, decoding included.
///
/// # Errors
/// As [`run`].
pub fn run_until(
    stop: &AtomicBool,
    detector: &dyn Detector,
    images: &[&ImageRecord],
    settings: Settings,
    mut on_image: impl FnMut(usize, &ImageResult, Duration),
) -> Result<Vec<Option<ImageResult>>, InferenceError> {
    let workers = settings.workers.max(1);
    let failed = AtomicBool::new(false);
    let (finish, finished) = mpsc::channel();
    // As many files wait as are being worked on.
    let (read, waiting) = mpsc::sync_channel(workers);
    let waiting = Arc::new(Mutex::new(waiting));
    let mut results: Vec<Option<Result<ImageResult, InferenceError>>> =
        images.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        // It ends with the images, or with the last worker: then nobody takes its files.
        scope.spawn(move || {
            for (index, image) in images.iter().enumerate() {
                if read.send((index, std::fs::read(&image.path))).is_err() {
                    break;
                }
            }
        });
        for _ in 0..workers {
            let (finish, waiting, failed) = (finish.clone(), Arc::clone(&waiting), &failed);
            scope.spawn(move || {
                let _guard = StopOthers(failed);
                while !failed.load(Ordering::Relaxed) && !stop.load(Ordering::Relaxed) {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((index, bytes)) = next else { break };
                    let started = Instant::now();
                    let result =
                        infer(detector, &images[index].path, bytes, settings.skip_bad_images);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    if finish.send((index, result, started.elapsed())).is_err() {
                        break;
                    }
                }
            });
        }
        drop((finish, waiting));
        for (index, result, elapsed) in finished {
            if let Ok(result) = &result {
                on_image(index, result, elapsed);
            }
            results[index] = Some(result);
        }
    });
    // With an error the first in image order is returned.
    results.into_iter().map(Option::transpose).collect()
}

/// A worker that panics stops the others: its panic ends the run anyway, after all have ended.
struct StopOthers<'a>(&'a AtomicBool);

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn infer(
    detector: &dyn Detector,
    path: &Path,
    bytes: std::io::Result<Vec<u8>>,
    skip_bad_images: bool,
) -> Result<ImageResult, InferenceError> {
    let shown = || path.display().to_string();
    let bytes = bytes.map_err(|error| InferenceError::Read { path: shown(), error })?;
    let digest = Some(blake3::hash(&bytes));
    let pixels = match image::decode_bytes(&bytes) {
        Ok(pixels) => pixels,
        Err(error) => {
            return match skip_bad_images {
                true => Ok(ImageResult { digest, outcome: Err(error.to_string()) }),
                false => Err(InferenceError::bad_image(path, &error.to_string())),
            };
        }
    };
    drop(bytes);
    let detections = detector
        .detect(&pixels)
        .map_err(|error| InferenceError::Detect { path: shown(), reason: error.to_string() })?;
    Ok(ImageResult { digest, outcome: Ok(detections) })
}
