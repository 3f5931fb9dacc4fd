//! `detgate metrics`: flags to validated settings; its defaults.

use std::path::{Path, PathBuf};

use super::flags::{MetricsFlags, OutputFormat};
use super::{ConfigError, Fixes, unit};

/// More than any machine has cores, and few enough to be started.
pub(super) const THREADS: std::ops::RangeInclusive<usize> = 1..=256;

/// The same in words.
pub(super) const THREADS_WORDS: &str = "1 to 256";

/// Everything that `metrics` needs to know, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsConfig {
    /// Ground truth: a COCO or LVIS file, a YOLO or Pascal VOC folder.
    pub gt: PathBuf,
    /// COCO results.
    pub dt: Vec<PathBuf>,
    /// The rules.
    pub rules: Rules,
    /// All classes are one.
    pub class_agnostic: bool,
    /// Which traps are mended.
    pub fixes: Fixes,
    /// IoU thresholds; `None` for the protocol's own, as in the rest.
    pub iou_thrs: Option<Vec<f64>>,
    /// Recalls at which precision is read off.
    pub rec_thrs: Option<Vec<f64>>,
    /// Limits on the detections per image and class, in any order.
    pub max_dets: Option<Vec<usize>>,
    /// Area ranges: name, smallest and largest area in square pixels.
    pub area_ranges: Option<Vec<(String, f64, f64)>>,
    /// Leave detections on images that the ground truth does not have out.
    pub skip_unknown_images: bool,
    /// Print the numbers of each class.
    pub per_class: bool,
    /// What to say beyond the 12 numbers.
    pub details: Option<DetailsConfig>,
    /// Threads; `None` for one per core.
    pub threads: Option<usize>,
    /// How to print.
    pub format: OutputFormat,
    /// Say how long each step took.
    pub timings: bool,
}

/// By whose rules detections are matched and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// pycocotools'.
    Coco,
    /// LVIS', for ground truth of which not every class was looked for on every image.
    Lvis,
}

/// What `--details` computes.
#[derive(Debug, Clone, PartialEq)]
pub struct DetailsConfig {
    /// IoU from which a detection has found an object.
    pub iou_thr: f64,
    /// Least score that confusions and images count.
    pub score_thr: f64,
    /// Recalls at which precision is given.
    pub recalls: Vec<f64>,
    /// How many of the worst images are listed.
    pub worst: usize,
}

impl MetricsConfig {
    /// Resolves the flags; relative paths are relative to `cwd`.
    ///
    /// # Errors
    /// A [`ConfigError`] that names the flag and what it may be.
    pub fn resolve(flags: &MetricsFlags, cwd: &Path) -> Result<Self, ConfigError> {
        let numbers = |name: &str, text: &Option<String>| -> Result<_, ConfigError> {
            let values = text.as_deref().map(|text| parse_numbers(name, text)).transpose()?;
            values.iter().flatten().try_for_each(|value| unit(name, *value))?;
            Ok(values)
        };
        let max_dets = flags.max_dets.as_deref().map(parse_limits).transpose()?;
        let area_ranges = flags.area_ranges.as_deref().map(parse_ranges).transpose()?;
        let details = DetailsConfig {
            iou_thr: flags.iou_thr.unwrap_or(0.5),
            score_thr: flags.score_thr.unwrap_or(0.5),
            recalls: numbers("--recalls", &flags.recalls)?.unwrap_or_else(|| vec![0.5, 0.9]),
            worst: flags.worst.unwrap_or(20),
        };
        unit("--iou-thr", details.iou_thr)?;
        unit("--score-thr", details.score_thr)?;
        let config = Self {
            gt: cwd.join(&flags.gt),
            dt: flags.dt.iter().map(|path| cwd.join(path)).collect(),
            rules: if flags.lvis { Rules::Lvis } else { Rules::Coco },
            class_agnostic: flags.class_agnostic,
            fixes: flags.fix.unwrap_or_default(),
            iou_thrs: numbers("--iou-thrs", &flags.iou_thrs)?,
            rec_thrs: numbers("--rec-thrs", &flags.rec_thrs)?,
            max_dets,
            area_ranges,
            skip_unknown_images: flags.skip_unknown_images,
            per_class: flags.per_class,
            details: flags.details.then_some(details),
            threads: flags.threads,
            format: flags.format,
            timings: flags.timings,
        };
        check_threads(config.threads)?;
        Ok(config)
    }
}

/// A number of threads that can be started.
pub(super) fn check_threads(threads: Option<usize>) -> Result<(), ConfigError> {
    match threads.filter(|threads| !THREADS.contains(threads)) {
        Some(threads) => Err(range("--threads", &threads.to_string(), THREADS_WORDS)),
        None => Ok(()),
    }
}

fn range(name: &str, value: &str, range: &'static str) -> ConfigError {
    ConfigError::Range { name: name.to_owned(), value: format!("{value:?}"), range }
}

/// `0.5,0.75`, or `0.5:0.95:0.05` for ten numbers.
fn parse_numbers(name: &str, text: &str) -> Result<Vec<f64>, ConfigError> {
    const FORMS: &str = "numbers with commas between, or FIRST:LAST:STEP";
    let wrong = || range(name, text, FORMS);
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite());
    match text.split(':').map(number).collect::<Option<Vec<_>>>().as_deref() {
        Some(&[first, last, step]) => {
            let steps = (last - first) / step;
            let count = steps.round() + 1.0;
            if !(2.0..=1e4).contains(&count) || (steps - steps.round()).abs() > 1e-6 {
                return Err(range(name, text, "FIRST:LAST:STEP with 1 to 9999 whole steps up"));
            }
            Ok(linspace(first, last, count as usize))
        }
        _ => text.split(',').map(|n| number(n).ok_or_else(wrong)).collect(),
    }
}

/// `numpy.linspace(start, stop, count)`, to the last bit: 0.95 is not 0.5 + 9 * 0.05. At least 2.
pub(crate) fn linspace(start: f64, stop: f64, count: usize) -> Vec<f64> {
    let step = (stop - start) / (count - 1) as f64;
    let mut values: Vec<f64> = (0..count).map(|i| i as f64 * step + start).collect();
    values[count - 1] = stop;
    values
}

/// `1,10,100`.
fn parse_limits(text: &str) -> Result<Vec<usize>, ConfigError> {
    let wrong = || range("--max-dets", text, "whole numbers with commas between");
    text.split(',').map(|limit| limit.trim().parse().map_err(|_| wrong())).collect()
}

/// `all:0:1e10,small:0:1024`.
fn parse_ranges(text: &str) -> Result<Vec<(String, f64, f64)>, ConfigError> {
    let wrong = || {
        range("--area-ranges", text, "NAME:SMALLEST:LARGEST in square pixels, with commas between")
    };
    let one = |text: &str| {
        let [name, min, max] = <[&str; 3]>::try_from(text.split(':').collect::<Vec<_>>()).ok()?;
        let area = |text: &str| text.trim().parse().ok().filter(|area: &f64| area.is_finite());
        let (min, max) = (area(min)?, area(max)?);
        (!name.trim().is_empty() && min <= max).then(|| (name.trim().to_owned(), min, max))
    };
    text.split(',').map(|text| one(text).ok_or_else(wrong)).collect()
}
