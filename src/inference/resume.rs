//! What is known of images before a model is loaded, and what is kept for the next run.

use std::collections::HashSet;

use rayon::prelude::*;

use super::cache::{Cache, FileIndex, digest};
use super::{ImageResult, InferenceError, Settings};
use crate::dataset::ImageRecord;

/// Looks every image up: its digest in `index`, unless `verify` or a change of the file make it read
/// again, and its predictions in `cache`. `None` is an image that has to be run, or cannot be read.
///
/// # Errors
/// [`InferenceError::BadImage`] for the first image of which it is known that it cannot be decoded, unless
/// such images are skipped.
pub fn recall(
    images: &[ImageRecord],
    settings: Settings,
    cache: &mut Cache,
    index: &mut FileIndex,
    verify: bool,
) -> Result<Vec<Option<ImageResult>>, InferenceError> {
    let digests = digests(images, index, verify);
    let wanted: HashSet<blake3::Hash> = digests.iter().flatten().copied().collect();
    let known = cache.recall(&wanted);
    let result = |(image, digest): (&ImageRecord, &Option<blake3::Hash>)| {
        let Some((digest, outcome)) = digest.and_then(|digest| known.get_key_value(&digest)) else {
            return Ok(None);
        };
        match outcome {
            Err(reason) if !settings.skip_bad_images => {
                Err(InferenceError::bad_image(&image.path, reason))
            }
            outcome => Ok(Some(ImageResult { digest: Some(*digest), outcome: outcome.clone() })),
        }
    };
    images.iter().zip(&digests).map(result).collect()
}

/// The digest of each file that can be read. What had to be read is remembered; an index that cannot be
/// written costs the next run's time only.
fn digests(
    images: &[ImageRecord],
    index: &mut FileIndex,
    verify: bool,
) -> Vec<Option<blake3::Hash>> {
    let look_up = |image: &ImageRecord| {
        let known = if verify { None } else { index.get(&image.path) };
        match known {
            Some(digest) => (Some(digest), None),
            None => {
                let read = digest(&image.path).ok();
                (read.map(|read| read.digest), read)
            }
        }
    };
    let found: Vec<_> = images.par_iter().map(look_up).collect();
    for (image, (_, read)) in images.iter().zip(&found) {
        if let Some(read) = read {
            index.insert(&image.path, read);
        }
    }
    let _ = index.write();
    found.into_iter().map(|(digest, _)| digest).collect()
}
