//! The metric engine: overlaps, reading, matching, accumulation, and the whole, on generated data.
//!
//! `val` is as large as COCO val2017 with the detections of a usual submission, `val_x10` ten times
//! that. Against other engines: `cargo xtask bench-peers`.

mod data;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use data::{DataSet, Size, generate};
use detgate::config::Fixes;
use detgate::dataset::{self, Bbox, Classes, ImageRecord};
use detgate::detections::{Detection, coco_results};
use detgate::matching::coco::{CocoParams, ImageMatches, Plan, match_image};
use detgate::matching::iou::{Region, iou_matrix};
use detgate::matching::practical::{self, PracticalParams};
use detgate::metrics::bootstrap::{Sample, Weights};
use detgate::metrics::details::{DetailParams, DetailPlan, details, match_details};
use detgate::metrics::{coco, evaluate};
use serde_json::json;

const SMALL: Size = Size { images: 120, boxes: 400, classes: 3, dts_per_image: 30 };
const VAL_X10: Size = Size { images: 50_000, boxes: 360_000, classes: 80, dts_per_image: 100 };
const VAL: Size = Size { images: 5_000, boxes: 36_000, classes: 80, dts_per_image: 100 };

const SIZES: [(&str, Size); 3] = [("small", SMALL), ("val", VAL), ("val_x10", VAL_X10)];

/// Few of what takes long.
fn samples(size: Size) -> usize {
    if size.images > 1000 { 10 } else { 100 }
}

fn views(set: &DataSet) -> Vec<(&ImageRecord, &[Detection])> {
    set.images.iter().map(|(image, dts)| (image, dts.as_slice())).collect()
}

fn overlaps(c: &mut Criterion) {
    let set = generate(Size { images: 1, boxes: 100, classes: 1, dts_per_image: 100 }, 1);
    let (image, dts) = &set.images[0];
    let dts: Vec<Bbox> = dts.iter().map(|dt| dt.bbox).collect();
    let gts = image.ground_truth.iter().map(|gt| Region { bbox: gt.bbox, is_crowd: gt.is_crowd });
    let gts: Vec<Region> = gts.collect();
    let mut group = c.benchmark_group("iou_matrix");
    group.throughput(Throughput::Elements((dts.len() * gts.len()) as u64));
    group.bench_function(format!("{}x{}", dts.len(), gts.len()), |b| {
        b.iter(|| iou_matrix(black_box(&dts), black_box(&gts)))
    });
}

/// From files, which the page cache holds, to what matching works on.
fn reading(c: &mut Criterion) {
    let folder = tempfile::tempdir().unwrap();
    let (gt, dt) = (folder.path().join("gt.json"), folder.path().join("dt.json"));
    let mut group = c.benchmark_group("read");
    group.sample_size(10);
    for (name, size) in SIZES {
        let set = generate(size, 1);
        std::fs::write(&gt, annotations(&set)).unwrap();
        coco_results::write(&dt, set.images.iter().map(|(i, dts)| (i.id, &dts[..]))).unwrap();
        drop(set);
        group.throughput(Throughput::Bytes(gt.metadata().unwrap().len()));
        group.bench_function(format!("annotations_{name}"), |b| {
            b.iter(|| dataset::read(&gt, &Classes::FromFile, Fixes::default()).unwrap())
        });
        group.throughput(Throughput::Bytes(dt.metadata().unwrap().len()));
        group.bench_function(format!("results_{name}"), |b| {
            b.iter(|| coco_results::read(&dt).unwrap())
        });
    }
}

fn annotations(set: &DataSet) -> String {
    let images = set.images.iter().map(|(image, _)| json!({"id": image.id})).collect::<Vec<_>>();
    let annotations = set.images.iter().flat_map(|(image, _)| {
        image.ground_truth.iter().map(|gt| {
            json!({"id": gt.id, "image_id": image.id, "category_id": gt.category_id, "bbox": gt.bbox,
                   "area": gt.area, "iscrowd": u8::from(gt.is_crowd)})
        })
    });
    let annotations: Vec<_> = annotations.collect();
    let categories: Vec<_> =
        set.categories.iter().map(|c| json!({"id": c.id, "name": c.name})).collect();
    json!({"images": images, "annotations": annotations, "categories": categories}).to_string()
}

fn matching(c: &mut Criterion) {
    let params = PracticalParams::default();
    let mut group = c.benchmark_group("matching_one_thread");
    for (name, size) in SIZES {
        let set = generate(size, 1);
        let plan = Plan::new(&set.categories, &CocoParams::default()).unwrap();
        group.throughput(Throughput::Elements((size.images * size.dts_per_image) as u64));
        group.sample_size(samples(size));
        group.bench_function(format!("coco_{name}"), |b| b.iter(|| matches(&set, &plan)));
        group.bench_function(format!("practical_{name}"), |b| {
            b.iter(|| {
                let images = set.images.iter();
                images
                    .map(|(i, dts)| practical::match_image(0, &i.ground_truth, dts, &params))
                    .collect::<Vec<_>>()
            })
        });
    }
}

fn matches(set: &DataSet, plan: &Plan) -> Vec<ImageMatches> {
    let images = set.images.iter();
    images.map(|(i, dts)| match_image(i.id, &i.ground_truth, dts, plan)).collect()
}

fn accumulation(c: &mut Criterion) {
    let mut group = c.benchmark_group("accumulate");
    for (name, size) in SIZES {
        let set = generate(size, 1);
        let plan = Plan::new(&set.categories, &CocoParams::default()).unwrap();
        let matches = matches(&set, &plan);
        drop(set);
        group.throughput(Throughput::Elements((size.images * size.dts_per_image) as u64));
        group.sample_size(samples(size));
        group.bench_function(format!("coco_{name}"), |b| {
            b.iter_batched(
                || matches.clone(),
                |matches| coco::accumulate(&plan, matches).unwrap(),
                BatchSize::PerIteration,
            )
        });
    }
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("evaluate");
    for (name, size) in SIZES {
        let set = generate(size, 1);
        let views = views(&set);
        let (practical, coco) = (PracticalParams::default(), CocoParams::default());
        group.throughput(Throughput::Elements((size.images * size.dts_per_image) as u64));
        group.sample_size(samples(size));
        group.bench_function(name, |b| {
            b.iter(|| evaluate(&set.categories, &views, &practical, &coco).unwrap())
        });
    }
}

/// What is only computed when asked for; compare with `evaluate/val`.
fn beyond_the_numbers(c: &mut Criterion) {
    let set = generate(VAL, 1);
    let views = views(&set);
    let (params, coco) = (DetailParams::default(), CocoParams::default());
    let plan = DetailPlan::new(&set.categories, &params, &coco).unwrap();
    let shard = match_details(&views, &plan);
    let mut group = c.benchmark_group("details");
    group.sample_size(10).throughput(Throughput::Elements(500_000));
    group.bench_function("val", |b| {
        b.iter(|| details(&set.categories, &views, &params, &coco).unwrap())
    });
    group.bench_function("val_merge_only", |b| {
        b.iter_batched(
            || shard.clone(),
            |shard| shard.evaluate(&plan).unwrap(),
            BatchSize::PerIteration,
        )
    });
}

/// One side: 1,000 replicates of every metric, over all classes and for each.
fn bootstrap(c: &mut Criterion) {
    let set = generate(VAL, 1);
    let categories = set.categories.clone();
    let units: Vec<u32> = (0..set.images.len() as u32).collect();
    let images = views(&set);
    let params = PracticalParams::default();
    let new = || Sample::new(&categories, &images, &units, &params).unwrap();
    let mut group = c.benchmark_group("bootstrap");
    group.sample_size(10);
    group.bench_function("sample_val", |b| b.iter(new));
    let sample = new();
    for replicates in [100, 1000] {
        let weights = Weights::bootstrap(units.len(), replicates, 0);
        group.bench_function(format!("replicate_val_{replicates}"), |b| {
            b.iter(|| sample.replicate(black_box(&weights)).unwrap())
        });
    }
}

criterion_group!(
    benches,
    overlaps,
    reading,
    matching,
    accumulation,
    whole,
    beyond_the_numbers,
    bootstrap
);
criterion_main!(benches);
