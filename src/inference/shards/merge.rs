//! Shards of one evaluation become the results of all its images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::super::ImageResult;
use super::facts::Facts;
use super::file::ShardFile;
use crate::config::Shard;
use crate::dataset::ImageRecord;

/// How many images or shards a sentence names.
const NAMED: usize = 5;

/// Why shards are not the results of all images.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// There are none.
    #[error("there is no shard to merge; name the files that `detgate eval --shard` has written")]
    Nothing,
    /// Two are of different evaluations.
    #[error("{name} of {} is {this}, that of {} is {other}; merge shards of one evaluation", path.display(), first.display())]
    Facts {
        /// What differs.
        name: String,
        /// The one.
        path: PathBuf,
        /// What it says.
        this: String,
        /// The other.
        first: PathBuf,
        /// What that one says.
        other: String,
    },
    /// They are of another evaluation than what is asked for.
    #[error("{name} of {} is {this}, here it is {here}; merge with the files and settings that the shards were made with", path.display())]
    Project {
        /// What differs.
        name: String,
        /// The shard.
        path: PathBuf,
        /// What it says.
        this: String,
        /// What the project says.
        here: String,
    },
    /// An image is in two.
    #[error("image {image} is in {} and in {}{}; name each shard once", one.display(), other.display(), others(*count))]
    Twice {
        /// Its id.
        image: i64,
        /// The one.
        one: PathBuf,
        /// The other.
        other: PathBuf,
        /// How many images are in several shards.
        count: usize,
    },
    /// Images are in none.
    #[error("{count} images are in no shard, among them {images}{}", missing(shards))]
    Missing {
        /// How many.
        count: usize,
        /// Some of their ids.
        images: String,
        /// The shards that are not there, if that is the reason.
        shards: String,
    },
    /// A shard has an image that the ground truth does not have.
    #[error("{} has image {image}, which the ground truth does not have; merge with the ground truth that it was made with", path.display())]
    Unknown {
        /// Its id.
        image: i64,
        /// The shard.
        path: PathBuf,
    },
}

fn others(count: usize) -> String {
    if count > 1 { format!(", and {} others are", count - 1) } else { String::new() }
}

fn missing(shards: &str) -> String {
    match shards {
        "" => "; make the shards again".to_owned(),
        shards => format!("; make them with `detgate eval --shard` {shards}"),
    }
}

/// What shards say together.
#[derive(Debug)]
pub struct Merged {
    /// In the order of the images.
    pub results: Vec<ImageResult>,
    /// What all of them depend on.
    pub facts: Facts,
    /// What may differ, with all its values.
    pub free: BTreeMap<String, BTreeSet<String>>,
}

/// Puts shards together, in whatever order. `here` are facts that the project knows, too; those called as
/// `free` says may differ from shard to shard.
///
/// # Errors
/// A [`MergeError`] that names what differs, or the images and shards.
pub fn merge(
    shards: Vec<(PathBuf, ShardFile)>,
    images: &[ImageRecord],
    here: &Facts,
    free: &[&str],
) -> Result<Merged, MergeError> {
    let (first, _) = shards.first().ok_or(MergeError::Nothing)?;
    let first = first.clone();
    let (mut facts, mut values) = (None, BTreeMap::<String, BTreeSet<String>>::new());
    for (path, shard) in &shards {
        let mut fixed = shard.facts.clone();
        for name in free {
            let value = fixed.remove(*name);
            values.entry((*name).to_owned()).or_default().extend(value);
        }
        fixed.insert("the number of shards".to_owned(), shard.shard.count().to_string());
        same_as_here(path, &fixed, here)?;
        same_as_first((path, &fixed), (&first, facts.get_or_insert_with(|| fixed.clone())))?;
    }
    let given: BTreeSet<Shard> = shards.iter().map(|(_, shard)| shard.shard).collect();
    let results = collect(shards, images, &given)?;
    Ok(Merged { results, facts: facts.unwrap_or_default(), free: values })
}

fn same_as_here(path: &Path, facts: &Facts, here: &Facts) -> Result<(), MergeError> {
    let none = || "not recorded".to_owned();
    let differs = here.iter().find(|(name, value)| facts.get(*name) != Some(value));
    differs.map_or(Ok(()), |(name, value)| {
        Err(MergeError::Project {
            name: name.clone(),
            path: path.to_owned(),
            this: facts.get(name).cloned().unwrap_or_else(none),
            here: value.clone(),
        })
    })
}

fn same_as_first(
    (path, this): (&Path, &Facts),
    (first, other): (&Path, &Facts),
) -> Result<(), MergeError> {
    let none = || "not recorded".to_owned();
    let differs = this.keys().chain(other.keys()).find(|name| this.get(*name) != other.get(*name));
    differs.map_or(Ok(()), |name| {
        Err(MergeError::Facts {
            name: name.clone(),
            path: path.to_owned(),
            this: this.get(name).cloned().unwrap_or_else(none),
            first: first.to_owned(),
            other: other.get(name).cloned().unwrap_or_else(none),
        })
    })
}

fn collect(
    shards: Vec<(PathBuf, ShardFile)>,
    images: &[ImageRecord],
    given: &BTreeSet<Shard>,
) -> Result<Vec<ImageResult>, MergeError> {
    let places: HashMap<i64, usize> =
        images.iter().enumerate().map(|(place, image)| (image.id, place)).collect();
    let mut results: Vec<Option<(usize, ImageResult)>> = vec![None; images.len()];
    let (mut paths, mut twice) = (Vec::with_capacity(shards.len()), Vec::new());
    for (number, (path, shard)) in shards.into_iter().enumerate() {
        for (image, result) in shard.images {
            let Some(&place) = places.get(&image) else {
                return Err(MergeError::Unknown { image, path });
            };
            match &results[place] {
                Some((earlier, _)) => twice.push((image, *earlier, number)),
                None => results[place] = Some((number, result)),
            }
        }
        paths.push(path);
    }
    if let Some(&(image, one, other)) = twice.first() {
        let (one, other) = (paths[one].clone(), paths[other].clone());
        return Err(MergeError::Twice { image, one, other, count: twice.len() });
    }
    let missing: Vec<i64> = std::iter::zip(images, &results)
        .filter(|(_, result)| result.is_none())
        .map(|(image, _)| image.id)
        .collect();
    if !missing.is_empty() {
        let shards = absent(given);
        return Err(MergeError::Missing { count: missing.len(), images: some(&missing), shards });
    }
    Ok(results.into_iter().flatten().map(|(_, result)| result).collect())
}

/// The shards that were not given.
fn absent(given: &BTreeSet<Shard>) -> String {
    let count = given.first().map_or(0, |shard| shard.count());
    let all = (1..=count).filter_map(|index| Shard::new(index, count));
    some(&all.filter(|shard| !given.contains(shard)).take(NAMED + 1).collect::<Vec<_>>())
}

fn some(things: &[impl ToString]) -> String {
    let named: Vec<String> = things.iter().take(NAMED).map(ToString::to_string).collect();
    let rest = if things.len() > NAMED { ", .." } else { "" };
    named.join(", ") + rest
}
