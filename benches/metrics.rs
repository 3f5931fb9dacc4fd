//! The metric engine: overlaps, matching, accumulation, and the whole, on generated data.
//!
//! `val` is as large as COCO val2017 with the detections of a usual submission.

mod data;

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use data::{DataSet, Size, generate};
use detgate::dataset::{Bbox, ImageRecord};
use detgate::detections::Detection;
use detgate::matching::coco::{CocoParams, Plan, match_image};
use detgate::matching::iou::{Region, iou_matrix};
use detgate::matching::practical::{self, PracticalParams};
use detgate::metrics::details::{DetailParams, DetailPlan, details, match_details};
use detgate::metrics::{coco, evaluate};

const SMALL: Size = Size { images: 120, boxes: 400, classes: 3, dts_per_image: 30 };
const VAL: Size = Size { images: 5_000, boxes: 36_000, classes: 80, dts_per_image: 100 };

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

fn matching(c: &mut Criterion) {
    let set = generate(VAL, 1);
    let plan = Plan::new(&set.categories, &CocoParams::default()).unwrap();
    let mut group = c.benchmark_group("matching_one_thread");
    group.sample_size(10).throughput(Throughput::Elements(500_000));
    group.bench_function("coco_val", |b| {
        b.iter(|| {
            let images = set.images.iter();
            images
                .map(|(i, dts)| match_image(i.id, &i.ground_truth, dts, &plan))
                .collect::<Vec<_>>()
        })
    });
    let params = PracticalParams::default();
    group.bench_function("practical_val", |b| {
        b.iter(|| {
            let images = set.images.iter();
            images
                .map(|(i, dts)| practical::match_image(0, &i.ground_truth, dts, &params))
                .collect::<Vec<_>>()
        })
    });
}

fn accumulation(c: &mut Criterion) {
    let set = generate(VAL, 1);
    let plan = Plan::new(&set.categories, &CocoParams::default()).unwrap();
    let images = set.images.iter();
    let matches: Vec<_> =
        images.map(|(i, dts)| match_image(i.id, &i.ground_truth, dts, &plan)).collect();
    let mut group = c.benchmark_group("accumulate");
    group.sample_size(10).throughput(Throughput::Elements(500_000));
    group.bench_function("coco_val", |b| {
        b.iter_batched(
            || matches.clone(),
            |matches| coco::accumulate(&plan, matches).unwrap(),
            BatchSize::PerIteration,
        )
    });
}

fn whole(c: &mut Criterion) {
    let mut group = c.benchmark_group("evaluate");
    for (name, size) in [("small", SMALL), ("val", VAL)] {
        let set = generate(size, 1);
        let views = views(&set);
        let (practical, coco) = (PracticalParams::default(), CocoParams::default());
        group.throughput(Throughput::Elements((size.images * size.dts_per_image) as u64));
        group.sample_size(if size.images > 1000 { 10 } else { 100 });
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

criterion_group!(benches, overlaps, matching, accumulation, whole, beyond_the_numbers);
criterion_main!(benches);
