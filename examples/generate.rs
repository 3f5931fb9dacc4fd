//! Writes a generated data set as COCO files: `instances.json` (ground truth) and `results.json` (detections), laid out
//! as Python's `json.dump` lays them out. `cargo xtask bench-peers` measures on such files.
//!
//!     cargo run --release --example generate -- --images 5000 --boxes 36000 --classes 80 --dts-per-image 100 --out DIR
//!
//! One image is in memory at a time. Deliberately absent: `segmentation`, unless `--polygons` asks for it, for files
//! reduced to boxes have none; licences and URLs.

#[path = "../benches/data/mod.rs"]
#[allow(dead_code, reason = "whole data sets in memory are for the benchmarks")]
mod data;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use data::{Size, categories, image, scenes};
use detgate::dataset::{Bbox, GroundTruth};
use detgate::detections::Detection;

/// Writes instances.json and results.json of a generated data set.
#[derive(Parser)]
struct Arguments {
    /// Number of images.
    #[arg(long, default_value_t = 5_000)]
    images: usize,
    /// Number of ground truth boxes over all images, about.
    #[arg(long, default_value_t = 36_000)]
    boxes: usize,
    /// Number of classes.
    #[arg(long, default_value_t = 80)]
    classes: usize,
    /// Detections per image, exactly.
    #[arg(long, default_value_t = 100)]
    dts_per_image: usize,
    /// The same seed gives the same files.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How detections are written.
    #[arg(long, value_enum, default_value_t = Digits::Rounded)]
    digits: Digits,
    /// Give every annotation a polygon of COCO's usual size.
    #[arg(long)]
    polygons: bool,
    /// Also write candidate.json: what another checkpoint of the same detector might say.
    #[arg(long)]
    candidate: bool,
    /// The folder to write to; made if it is not there.
    #[arg(long)]
    out: PathBuf,
}

/// The two ways in which detectors' scripts write numbers.
#[derive(Clone, Copy, ValueEnum)]
enum Digits {
    /// Boxes with 2 decimals, scores with 5.
    Rounded,
    /// float32 as Python prints it after `tensor.tolist()`: as many digits as the float64 of the same value needs.
    Full,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    anyhow::ensure!(arguments.images > 0 && arguments.classes > 0, "no images or no classes");
    fs::create_dir_all(&arguments.out)?;
    println!("{}", write(&arguments)?);
    Ok(())
}

/// Returns what was written, in words.
fn write(arguments: &Arguments) -> io::Result<String> {
    let &Arguments { images, boxes, classes, dts_per_image, seed, .. } = arguments;
    let mut instances = create(&arguments.out, "instances.json")?;
    let mut results = create(&arguments.out, "results.json")?;
    let mut candidate = match arguments.candidate {
        true => Some(create(&arguments.out, "candidate.json")?),
        false => None,
    };
    head(&mut instances, images)?;
    write!(results, "[")?;
    candidate.as_mut().map(|candidate| write!(candidate, "[")).transpose()?;
    let (mut gt_separator, mut dt_separator) = ("", "");
    let (mut gt_count, mut dt_count) = (0, 0);
    for (record, mut dts) in scenes(Size { images, boxes, classes, dts_per_image }, seed) {
        for gt in &record.ground_truth {
            write!(instances, "{gt_separator}")?;
            annotation(&mut instances, record.id, gt, arguments.polygons)?;
            gt_separator = ", ";
        }
        gt_count += record.ground_truth.len();
        dt_count += dts.len();
        // Detectors give the best first.
        dts.sort_by(|a, b| b.score.total_cmp(&a.score));
        for (place, dt) in (dt_count - dts.len()..).zip(&dts) {
            write!(results, "{dt_separator}")?;
            detection(&mut results, record.id, dt, arguments.digits)?;
            if let Some(candidate) = &mut candidate {
                write!(candidate, "{dt_separator}")?;
                detection(candidate, record.id, &otherwise(dt, place), arguments.digits)?;
            }
            dt_separator = ", ";
        }
    }
    write!(results, "]")?;
    if let Some(candidate) = &mut candidate {
        write!(candidate, "]")?;
        candidate.flush()?;
    }
    tail(&mut instances, classes)?;
    instances.flush()?;
    results.flush()?;
    Ok(format!("{images} images, {gt_count} boxes, {classes} classes, {dt_count} detections"))
}

/// The same box with another score, up to a twentieth more or less.
fn otherwise(dt: &Detection, place: usize) -> Detection {
    /// The golden ratio: neighbours get scores far apart.
    const STEP: f64 = 0.618_033_988_749_894_9;
    let shift = (place as f64 * STEP).fract() - 0.5;
    Detection { score: (dt.score + shift / 10.0).clamp(0.0, 1.0), ..*dt }
}

fn create(folder: &Path, name: &str) -> io::Result<BufWriter<File>> {
    Ok(BufWriter::with_capacity(1 << 20, File::create(folder.join(name))?))
}

fn head(to: &mut impl Write, images: usize) -> io::Result<()> {
    write!(to, r#"{{"info": {{"description": "generated, not photographed"}}, "images": ["#)?;
    for i in 0..images {
        let separator = if i == 0 { "" } else { ", " };
        let record = image(i);
        write!(
            to,
            r#"{separator}{{"id": {}, "file_name": "{}", "width": {}, "height": {}}}"#,
            record.id, record.file_name, record.width, record.height
        )?;
    }
    write!(to, r#"], "annotations": ["#)
}

fn tail(to: &mut impl Write, classes: usize) -> io::Result<()> {
    write!(to, r#"], "categories": ["#)?;
    for (k, category) in categories(classes).iter().enumerate() {
        let separator = if k == 0 { "" } else { ", " };
        let (id, name) = (category.id, &category.name);
        write!(to, r#"{separator}{{"id": {id}, "name": "{name}", "supercategory": "none"}}"#)?;
    }
    write!(to, "]}}")
}

fn annotation(
    to: &mut impl Write,
    image_id: i64,
    gt: &GroundTruth,
    polygons: bool,
) -> io::Result<()> {
    write!(to, r#"{{"#)?;
    if polygons {
        polygon(to, gt)?;
    }
    let sides = [gt.bbox.x, gt.bbox.y, gt.bbox.w, gt.bbox.h].map(|side| rounded(side, 2));
    let [x, y, w, h] = sides.map(python_float);
    write!(
        to,
        r#""area": {}, "iscrowd": {}, "image_id": {image_id}, "bbox": [{x}, {y}, {w}, {h}], "category_id": {}, "id": {}}}"#,
        python_float(gt.area),
        i32::from(gt.is_crowd),
        gt.category_id,
        gt.id,
    )
}

/// An ellipse in the box, of 12 to 51 corners: COCO's polygons have 25 on average.
fn polygon(to: &mut impl Write, gt: &GroundTruth) -> io::Result<()> {
    write!(to, r#""segmentation": [["#)?;
    let Bbox { x, y, w, h } = gt.bbox;
    let corners = 12 + gt.id % 40;
    for k in 0..corners {
        let separator = if k == 0 { "" } else { ", " };
        let (sin, cos) = (k as f64 / corners as f64 * std::f64::consts::TAU).sin_cos();
        let px = python_float(rounded(x + w * (1.0 + cos) / 2.0, 2));
        let py = python_float(rounded(y + h * (1.0 + sin) / 2.0, 2));
        write!(to, "{separator}{px}, {py}")?;
    }
    write!(to, "]], ")
}

fn detection(to: &mut impl Write, image_id: i64, dt: &Detection, digits: Digits) -> io::Result<()> {
    let shortened = |value: f64, decimals: i32| match digits {
        Digits::Rounded => python_float(rounded(value, decimals)),
        Digits::Full => python_float(f64::from(value as f32)),
    };
    let [x, y, w, h] = [dt.bbox.x, dt.bbox.y, dt.bbox.w, dt.bbox.h].map(|side| shortened(side, 2));
    write!(
        to,
        r#"{{"image_id": {image_id}, "category_id": {}, "bbox": [{x}, {y}, {w}, {h}], "score": {}}}"#,
        dt.category_id,
        shortened(dt.score, 5),
    )
}

fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// `repr(value)` in Python, which takes to the exponent below 1e-4. (Where two decimals are equally short and near, Rust
/// may choose the other one.)
fn python_float(value: f64) -> String {
    if value == 0.0 || value.abs() >= 1e-4 {
        return format!("{value:?}");
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once("e-").unwrap_or((&text, "0"));
    format!("{digits}e-{exponent:0>2}")
}
