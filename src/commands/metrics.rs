//! `detgate metrics`: ground truth and detections from disk, COCO's numbers to standard output.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, bail};
use detgate::config::{
    DetailsConfig, Fix, Fixes, MetricsConfig, MetricsFlags, OutputFormat, Rules,
};
use detgate::dataset::{self, AnnotationFormat, Dataset, ImageRecord};
use detgate::detections::Detection;
use detgate::detections::coco_results::{self, ByImage, Results};
use detgate::matching::coco::{AreaRange, CocoParams, Plan};
use detgate::metrics::details::{DetailParams, DetailPlan, details};
use detgate::metrics::lvis::{self, LvisParams};
use detgate::metrics::{self, per_image};
use detgate::report::{self, MetricsReport, MetricsSubject, Numbers, metrics_text};
use detgate::shown;

use super::named;
use crate::note;

/// An image, and what was found on it.
pub(crate) type View<'a> = (&'a ImageRecord, &'a [Detection]);

/// Reads, matches, accumulates; returns what to print.
pub(crate) fn run(flags: &MetricsFlags, cwd: &Path) -> anyhow::Result<String> {
    let config = MetricsConfig::resolve(flags, cwd)?;
    // What is wrong with the settings is said before anything is read.
    let (params, wanted) = (coco_params(&config), config.details.as_ref().map(detail_params));
    Plan::new(&[], &params)?;
    wanted.as_ref().map(|wanted| DetailPlan::new(&[], wanted, &params)).transpose()?;
    note_undefined(&config, &params);
    named::require_once(&config.dt)?;
    start_threads(config.threads)?;
    let mut clock = Clock { last: Instant::now(), enabled: config.timings };
    let (dataset, results) = rayon::join(
        || ground_truth(&config.gt, reader_fixes(&config)),
        || coco_results::read_all(&config.dt),
    );
    let (dataset, results) = (dataset?, results?);
    clock.lap("parse");
    let by_image = results.by_image(&dataset.images);
    let files = named::paths(&config.dt);
    require_known_images(&files, config.skip_unknown_images, &by_image)?;
    let views: Vec<View> =
        std::iter::zip(&dataset.images, by_image.images.iter().map(AsRef::as_ref)).collect();
    note_unlisted(&dataset, &[(&files, &views)]);
    if config.rules == Rules::Coco && dataset.federation.is_some() {
        note("the ground truth is an LVIS file; --lvis counts by its rules");
    }
    clock.lap("group");
    let numbers = evaluate(&config, &dataset, &views, &params)?;
    clock.lap("evaluate");
    let details = match &wanted {
        Some(wanted) => Some(details(&dataset.categories, &views, wanted, &params)?),
        None => None,
    };
    clock.lap("details");
    let report = MetricsReport {
        schema: report::METRICS_SCHEMA,
        data: subject(&dataset, &results),
        numbers,
        details: details.as_ref(),
    };
    Ok(match config.format {
        OutputFormat::Json => report.to_json()?,
        OutputFormat::Text => text(&config, &report, &dataset),
    })
}

pub(crate) fn start_threads(threads: Option<usize>) -> anyhow::Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    pool.build_global().context("cannot start so many threads; pass fewer with --threads")
}

pub(crate) fn ground_truth(path: &Path, fixes: Fixes) -> anyhow::Result<Dataset> {
    Ok(match dataset::annotations_format(path)? {
        AnnotationFormat::CocoJson => dataset::read(path, &dataset::Classes::FromFile, fixes)?,
        AnnotationFormat::YoloFolder => dataset::load_yolo(path, None)?,
        AnnotationFormat::VocFolder => dataset::load_voc(path, None)?,
    })
}

/// `lvis` honours an annotation's `ignore` key, which pycocotools overwrites.
fn reader_fixes(config: &MetricsConfig) -> Fixes {
    let lvis = (config.rules == Rules::Lvis).then_some(Fix::IgnoreKey);
    config.fixes.iter().chain(lvis).collect()
}

fn evaluate(
    config: &MetricsConfig,
    dataset: &Dataset,
    views: &[View],
    params: &CocoParams,
) -> anyhow::Result<Numbers> {
    let settings = params.clone();
    if config.rules == Rules::Coco {
        let metrics = metrics::evaluate_coco(&dataset.categories, views, &settings)?;
        return Ok(Numbers::Coco { settings, metrics });
    }
    let Some(federation) = &dataset.federation else {
        bail!(
            "{} has none of LVIS' keys (neg_category_ids, not_exhaustive_category_ids, frequency); \
             leave --lvis out",
            config.gt.display()
        );
    };
    let CocoParams { iou_thrs, rec_thrs, area_ranges, fixes, .. } = settings;
    let settings = LvisParams { iou_thrs, rec_thrs, area_ranges, fixes };
    let metrics = lvis::evaluate(&dataset.categories, federation, views, &settings)?;
    Ok(Numbers::Lvis { settings, metrics })
}

/// pycocotools stops there too: results and ground truth that do not belong together are a mistake.
pub(crate) fn require_known_images(
    file: &dyn Display,
    skip: bool,
    by_image: &ByImage,
) -> anyhow::Result<()> {
    if let Some(name) = by_image.ambiguous.first() {
        bail!(
            "{}: several images of the ground truth are called {}; name them with their folders, \
             or by their ids",
            file,
            shown::name(&name.to_string())
        );
    }
    let Some(first) = by_image.elsewhere.keys().next() else { return Ok(()) };
    let first = shown::name(&first.to_string());
    let count: usize = by_image.elsewhere.values().sum();
    let what = format!("detections on images that the ground truth does not have: {count}");
    if skip {
        note(&format!("{what}, among others on image {first}; left out"));
        return Ok(());
    }
    bail!(
        "{}: {what}, among others on image {first}; are the two files of the same data set? \
         pass --skip-unknown-images to leave them out",
        file
    )
}

/// Says what is in the files and not counted, which pycocotools passes over in silence. `sides` are the
/// results files with what they hold.
pub(crate) fn note_unlisted(dataset: &Dataset, sides: &[(&dyn Display, &[View])]) {
    let mut listed: Vec<i64> = dataset.categories.iter().map(|category| category.id).collect();
    listed.sort_unstable();
    let tell = |what: &str, ids: Vec<i64>| {
        if let Some(first) = ids.first() {
            note(&format!(
                "{what} of categories that the ground truth does not list: {}, the first of category \
                 {first}; left out",
                ids.len()
            ));
        }
    };
    tell("annotations", dataset.unlisted().map(|truth| truth.category_id).collect());
    for (file, views) in sides {
        let detections = match sides.len() {
            1 => "detections".to_owned(),
            _ => format!("detections in {file}"),
        };
        let dts = views.iter().flat_map(|(_, dts)| dts.iter().map(|dt| dt.category_id));
        tell(&detections, dts.filter(|id| listed.binary_search(id).is_err()).collect());
        if views.iter().all(|(_, dts)| dts.is_empty()) {
            note(&format!("there are no detections in {file}"));
        }
    }
}

/// Settings that pycocotools takes, and then has no number for.
fn note_undefined(config: &MetricsConfig, params: &CocoParams) {
    if !params.area_ranges.iter().any(|range| range.name == "all") {
        note("without an area range `all` most numbers are undefined; add all:0:1e10");
    }
    let limited = config.rules == Rules::Coco && !params.fixes.contains(Fix::MaxDets);
    if limited && !params.max_dets.contains(&100) {
        note("AP is undefined without a limit of 100 detections; --fix max-dets takes the largest");
    }
}

fn coco_params(config: &MetricsConfig) -> CocoParams {
    let default = CocoParams::default();
    let range = |(name, min, max): &(String, f64, f64)| AreaRange {
        name: name.clone(),
        min: *min,
        max: *max,
    };
    let ranges = config.area_ranges.as_ref().map(|ranges| ranges.iter().map(range).collect());
    CocoParams {
        iou_thrs: config.iou_thrs.clone().unwrap_or(default.iou_thrs),
        rec_thrs: config.rec_thrs.clone().unwrap_or(default.rec_thrs),
        max_dets: config.max_dets.clone().unwrap_or(default.max_dets),
        area_ranges: ranges.unwrap_or(default.area_ranges),
        use_cats: !config.class_agnostic,
        fixes: config.fixes,
    }
}

fn detail_params(wanted: &DetailsConfig) -> DetailParams {
    DetailParams {
        iou_thr: wanted.iou_thr,
        score_thr: wanted.score_thr,
        recalls: wanted.recalls.clone(),
    }
}

fn subject(dataset: &Dataset, results: &Results) -> MetricsSubject {
    MetricsSubject {
        ground_truth_blake3: dataset.digest.clone(),
        images: dataset.images.len(),
        ground_truths: dataset.images.iter().map(|image| image.ground_truth.len()).sum(),
        detections: results.len(),
    }
}

fn text(config: &MetricsConfig, report: &MetricsReport, dataset: &Dataset) -> String {
    let (mut text, classes) = match &report.numbers {
        Numbers::Coco { settings, metrics } => {
            (metrics_text::coco_lines(&metrics.summary, settings), metrics_text::per_class(metrics))
        }
        Numbers::Lvis { settings, metrics } => (
            metrics_text::lvis_lines(&metrics.summary, settings),
            metrics_text::lvis_per_class(metrics),
        ),
    };
    if config.per_class {
        text += &format!("\n{classes}");
    }
    if let (Some(details), Some(wanted)) = (report.details, &config.details) {
        let worst = per_image::worst_first(&details.per_image, wanted.worst);
        let names: HashMap<i64, &str> =
            dataset.images.iter().map(|image| (image.id, image.file_name.as_str())).collect();
        let file_name = |id| names.get(&id).copied().filter(|name| !name.is_empty());
        text += &format!("\n{}", metrics_text::details(details, &worst, file_name));
    }
    text
}

/// Says on standard error how long each step took.
struct Clock {
    last: Instant,
    enabled: bool,
}

impl Clock {
    fn lap(&mut self, step: &str) {
        let now = Instant::now();
        if self.enabled {
            eprintln!("{step} {:.4} s", now.duration_since(self.last).as_secs_f64());
        }
        self.last = now;
    }
}
