//! The generated files, made once for each size and kept in the cache.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::build;
use super::options::Options;
use crate::project::repository;
use crate::{cache, fetch};

/// How much data: the images, and what goes with so many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Size {
    pub(crate) images: usize,
}

/// To try the command out.
pub(crate) const SMALL: Size = Size { images: 500 };
/// COCO val2017 with the detections of a usual submission.
pub(crate) const VAL: Size = Size { images: 5_000 };
/// Ten times that: whether an engine's time grows with its input, or faster.
pub(crate) const TENFOLD: Size = Size { images: 50_000 };

impl Size {
    /// COCO val2017 has 36,781 boxes on 5,000 images.
    pub(crate) fn boxes(self) -> usize {
        self.images * 36 / 5
    }

    /// COCO's limit is 100 an image, and detectors use it up.
    pub(crate) fn detections(self) -> usize {
        self.images * 100
    }
}

/// How numbers are written in the results file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Digits {
    Rounded,
    Full,
}

impl Digits {
    fn word(self) -> &'static str {
        match self {
            Digits::Rounded => "rounded",
            Digits::Full => "full",
        }
    }
}

/// Two files of one data set.
pub(crate) struct Files {
    pub(crate) instances: PathBuf,
    pub(crate) results: PathBuf,
    /// What another checkpoint might have said; only there for [`Options::bootstrap`].
    pub(crate) candidate: PathBuf,
    /// What is in them, in words.
    pub(crate) about: String,
    /// Both together.
    pub(crate) bytes: u64,
}

/// Seconds to make, half a gigabyte to keep at the largest size.
///
/// # Errors
/// When the generator does not build or cannot write.
pub(crate) fn provide(root: &Path, size: Size, options: &Options) -> Result<Files> {
    let name = folder_name(size, options)?;
    let lock = cache::lock(root, &name)?;
    let folder = root.join(&name);
    if !folder.join(ABOUT).is_file() {
        let generator = build(&["--example", "generate"], "examples/generate")?;
        eprintln!("generating {} detections into {}", size.detections(), folder.display());
        cache::publish(root, &name, &lock, |into| generate(&generator, size, options, into))?;
    }
    let (instances, results) = (folder.join("instances.json"), folder.join("results.json"));
    let length = |path: &Path| {
        let file = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()));
        file.map(|file| file.len())
    };
    let about = folder.join(ABOUT);
    let about = fs::read_to_string(&about)
        .with_context(|| format!("cannot read {}", about.display()))?
        .trim()
        .to_owned();
    let bytes = length(&instances)? + length(&results)?;
    let candidate = folder.join("candidate.json");
    Ok(Files { instances, results, candidate, about, bytes })
}

/// Holds the generator's own words.
const ABOUT: &str = "about.txt";

/// The name says what is inside, down to the generator's source: other data never stands under a known name.
fn folder_name(size: Size, options: &Options) -> Result<String> {
    let polygons = if options.polygons { "-polygons" } else { "" };
    let pair = if options.bootstrap { "-pair" } else { "" };
    let mut sources = String::new();
    for path in ["examples/generate.rs", "benches/data/mod.rs"] {
        let path = repository().join(path);
        sources += &fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
    }
    let digest = fetch::sha256(&mut sources.as_bytes()).context("cannot hash the generator")?;
    let (images, digits) = (size.images, options.digits.word());
    Ok(format!("bench-data-{images}-{digits}{polygons}{pair}-{}", &digest[..12]))
}

fn generate(generator: &Path, size: Size, options: &Options, into: &Path) -> Result<()> {
    let about = into.join(ABOUT);
    let about =
        File::create(&about).with_context(|| format!("cannot write {}", about.display()))?;
    let mut command = Command::new(generator);
    command.arg("--images").arg(size.images.to_string());
    command.arg("--boxes").arg(size.boxes().to_string());
    command.arg("--digits").arg(options.digits.word()).arg("--out").arg(into);
    if options.polygons {
        command.arg("--polygons");
    }
    if options.bootstrap {
        command.arg("--candidate");
    }
    let status = command
        .stdin(Stdio::null())
        .stdout(about)
        .status()
        .with_context(|| format!("cannot start {}", generator.display()))?;
    ensure!(status.success(), "{} failed ({status})", generator.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_coco_and_ten_times_that() {
        assert_eq!((VAL.boxes(), VAL.detections()), (36_000, 500_000));
        assert_eq!((TENFOLD.boxes(), TENFOLD.detections()), (360_000, 5_000_000));
    }

    #[test]
    fn other_data_has_another_name() {
        let mut options = Options::default();
        let mut names = vec![folder_name(VAL, &options).unwrap()];
        names.push(folder_name(TENFOLD, &options).unwrap());
        options.digits = Digits::Full;
        names.push(folder_name(VAL, &options).unwrap());
        options.polygons = true;
        names.push(folder_name(VAL, &options).unwrap());
        names.dedup();
        assert_eq!(names.len(), 4, "{names:?}");
    }
}
