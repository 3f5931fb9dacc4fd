//! `detgate metrics`: ground truth and detections from disk, COCO's numbers to standard output.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use detgate::config::{MetricsFlags, OutputFormat};
use detgate::dataset;
use detgate::detections::coco_results;
use detgate::matching::coco::CocoParams;
use detgate::metrics;
use detgate::report::metrics_text;

/// Reads, matches, accumulates, prints.
pub(crate) fn run(flags: &MetricsFlags, cwd: &Path) -> anyhow::Result<String> {
    let mut clock = Clock { last: Instant::now(), enabled: flags.timings };
    if let Some(threads) = flags.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .context("cannot start threads")?;
    }
    let (dataset, results) = rayon::join(
        || dataset::read(&cwd.join(&flags.gt), &dataset::Classes::FromFile),
        || coco_results::read(&cwd.join(&flags.dt)),
    );
    let (dataset, results) = (dataset?, results?);
    clock.lap("parse");
    let by_image = results.by_image(dataset.images.iter().map(|image| image.id));
    let views: Vec<_> =
        std::iter::zip(&dataset.images, by_image.images.iter().map(AsRef::as_ref)).collect();
    clock.lap("group");
    let metrics = metrics::evaluate_coco(&dataset.categories, &views, &CocoParams::default())?;
    clock.lap("evaluate");
    Ok(match flags.format {
        OutputFormat::Text => metrics_text::coco_lines(&metrics.summary, &CocoParams::default()),
        OutputFormat::Json => serde_json::to_string_pretty(&metrics)? + "\n",
    })
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
