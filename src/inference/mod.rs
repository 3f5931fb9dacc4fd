//! The worker pool: images in, detections out, in the order of the images.
//!
//! Each worker runs one image at a time, so that results do not depend on how many workers there
//! are. Deliberately absent: any knowledge of what the detector is, and of how progress is shown.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;

use crate::dataset::{ImageRecord, image};
use crate::detections::{Detection, Detector};
use crate::files::failed;

/// What became of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageResult {
    /// BLAKE3 of the file's bytes, hexadecimal.
    pub digest: String,
    /// What the detector said, or why the image could not be decoded.
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
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let mut results: Vec<Option<Result<ImageResult, InferenceError>>> =
        images.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..settings.workers.max(1) {
            let (sender, next, failed) = (sender.clone(), &next, &failed);
            scope.spawn(move || {
                let _guard = StopOthers(failed);
                while !failed.load(Ordering::Relaxed) {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(image) = images.get(index) else {
                        break;
                    };
                    let result = infer(detector, image, settings.skip_bad_images);
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    if sender.send((index, result)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for (index, result) in receiver {
            results[index] = Some(result);
            on_image();
        }
    });
    // Without an error every slot is filled; with one, the first in image order is returned.
    results.into_iter().flatten().collect()
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
    image: &ImageRecord,
    skip_bad_images: bool,
) -> Result<ImageResult, InferenceError> {
    let path = image.path.display().to_string();
    let bytes = std::fs::read(&image.path)
        .map_err(|error| InferenceError::Read { path: path.clone(), error })?;
    let digest = blake3::hash(&bytes).to_hex().to_string();
    let pixels = match image::decode_bytes(&bytes) {
        Ok(pixels) => pixels,
        Err(error) => {
            let reason = format!("{path}: {error}");
            return match skip_bad_images {
                true => Ok(ImageResult { digest, outcome: Err(reason) }),
                false => Err(InferenceError::BadImage(reason)),
            };
        }
    };
    let detections = detector
        .detect(&pixels)
        .map_err(|error| InferenceError::Detect { path, reason: error.to_string() })?;
    Ok(ImageResult { digest, outcome: Ok(detections) })
}
