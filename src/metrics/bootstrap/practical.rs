//! The practical protocol's ranked lists, and its numbers in a block of replicates.
//!
//! Deliberately absent: names, and the mean over classes ([`super::replicates`]).

use std::collections::HashMap;

use rayon::prelude::*;

use super::kernel::{Counts, LANES, Lanes, Row, cumulate};
use super::weights::Drawn;
use crate::dataset::{Category, ImageRecord};
use crate::detections::Detection;
use crate::matching::descending_key;
use crate::matching::practical::{ImageMatches, PracticalParams, match_image};
use crate::metrics::practical::Counts as Tally;

/// Precision, recall and F1, in the order of the table.
pub(super) const RATIOS: [&str; 3] = ["precision", "recall", "f1"];

/// All classes.
pub(super) struct Classes {
    /// In the order in which the categories were given.
    pub(super) classes: Vec<Class>,
    found: Counts,
    detections: Counts,
    ground_truths: Counts,
}

/// One class's detections at or above the score threshold, ranked.
#[derive(Default)]
pub(super) struct Class {
    /// Units of the ground truths.
    ground_truths: Counts,
    /// Units of the detections, by descending score.
    ranked: Vec<u32>,
    /// For every true positive, how many of `ranked` there are up to it; and all of them.
    ends: Vec<u32>,
    /// Units of the true positives, by descending score.
    found: Vec<u32>,
}

/// What one class has on the images.
#[derive(Clone, Default)]
struct Rows {
    /// Units.
    ground_truths: Vec<u32>,
    /// Key that ascends where scores descend, unit, and whether a ground truth was found.
    dts: Vec<(u64, u32, bool)>,
}

/// Matches the images, in their order, and ranks their detections.
pub(super) fn rank(
    categories: &[Category],
    images: &[(&ImageRecord, &[Detection], u32)],
    params: &PracticalParams,
) -> Classes {
    let matches = |(image, dts, _): &(&ImageRecord, &[Detection], u32)| {
        match_image(0, &image.ground_truth, dts, params)
    };
    let matches: Vec<ImageMatches> = images.par_iter().map(matches).collect();
    let units = images.iter().map(|&(_, _, unit)| unit);
    let rows = deal(categories, matches.iter().zip(units));
    let all = |f: fn(&Rows) -> Vec<u32>| Counts::new(rows.iter().flat_map(f).map(|unit| (unit, 1)));
    let found = |rows: &Rows| rows.dts.iter().filter(|dt| dt.2).map(|dt| dt.1).collect();
    Classes {
        found: all(found),
        detections: all(|rows| rows.dts.iter().map(|dt| dt.1).collect()),
        ground_truths: all(|rows| rows.ground_truths.clone()),
        classes: rows.into_par_iter().map(Class::new).collect(),
    }
}

/// Sorts what belongs to each class out of the images; other classes are not evaluated.
fn deal<'i>(
    categories: &[Category],
    images: impl Iterator<Item = (&'i ImageMatches, u32)>,
) -> Vec<Rows> {
    let places: HashMap<i64, usize> = categories.iter().map(|c| c.id).zip(0..).collect();
    let mut rows = vec![Rows::default(); categories.len()];
    for (image, unit) in images {
        for &k in image.gt_category_ids.iter().filter_map(|id| places.get(id)) {
            rows[k].ground_truths.push(unit);
        }
        for ((id, &score), found) in image.category_ids.iter().zip(&image.scores).zip(&image.found)
        {
            if let Some(&k) = places.get(id) {
                rows[k].dts.push((descending_key(score), unit, found.is_some()));
            }
        }
    }
    rows
}

/// In one block of replicates.
struct Block {
    /// [`RATIOS`].
    ratios: [Lanes<f64>; 3],
    ap50_approx: Lanes<f64>,
}

impl Class {
    fn new(rows: Rows) -> Self {
        let Rows { ground_truths, mut dts } = rows;
        // Stable: equal scores keep the order of the images.
        dts.sort_by_key(|dt| dt.0);
        let found_at = (1..).zip(&dts).filter(|(_, dt)| dt.2).map(|(end, _)| end);
        Self {
            ground_truths: Counts::new(ground_truths.into_iter().map(|unit| (unit, 1))),
            ends: found_at.chain([dts.len() as u32]).collect(),
            found: dts.iter().filter(|dt| dt.2).map(|dt| dt.1).collect(),
            ranked: dts.iter().map(|dt| dt.1).collect(),
        }
    }

    /// Precision, recall, F1 and `ap50_approx`, `[4][replicates]`.
    pub(super) fn replicate(&self, weights: &Drawn) -> Vec<Vec<f64>> {
        let blocks = (0..weights.blocks()).into_par_iter();
        let blocks: Vec<Block> =
            blocks.map_init(Vec::new, |upto, b| self.block(weights.block(b), upto)).collect();
        let mut rows: Vec<Vec<f64>> =
            (0..3).map(|i| weights.joined(blocks.iter().map(|block| block.ratios[i]))).collect();
        rows.push(weights.joined(blocks.iter().map(|block| block.ap50_approx)));
        rows
    }

    fn block(&self, block: &[Row], upto: &mut Vec<Lanes<i32>>) -> Block {
        cumulate(&self.ranked, &self.ends, block, upto);
        let ground_truths = self.ground_truths.weigh(block);
        let (tp, area) = area_below(&self.found, block, upto);
        let detections = upto.last().copied().unwrap_or_default();
        let ap50_approx = std::array::from_fn(|l| match ground_truths[l] {
            0 => 0.0,
            ground_truths => area[l] / f64::from(ground_truths),
        });
        Block { ratios: ratios(&tp, &detections, &ground_truths), ap50_approx }
    }
}

/// True positives, and the sum of precision at each of them. One that is drawn w times has w
/// neighbouring ranks, all of them true positives.
fn area_below(found: &[u32], block: &[Row], upto: &[Lanes<i32>]) -> (Lanes<i32>, Lanes<f64>) {
    let (mut tp, mut area) = ([0; LANES], [0.0; LANES]);
    for (&unit, upto) in found.iter().zip(upto) {
        let weights = block[unit as usize].map(i32::from);
        let most = weights.iter().copied().max().unwrap_or(0);
        for i in 1..=most {
            for l in 0..LANES {
                let rank = upto[l] - weights[l] + i;
                let precision = f64::from(tp[l] + i) / f64::from(rank.max(1));
                area[l] += if i <= weights[l] { precision } else { 0.0 };
            }
        }
        (0..LANES).for_each(|l| tp[l] += weights[l]);
    }
    (tp, area)
}

fn ratios(tp: &Lanes<i32>, detections: &Lanes<i32>, ground_truths: &Lanes<i32>) -> [Lanes<f64>; 3] {
    let mut ratios = [[0.0; LANES]; 3];
    for l in 0..LANES {
        let (fp, fn_) = (detections[l] - tp[l], ground_truths[l] - tp[l]);
        let tally = Tally::new(tp[l] as u64, fp as u64, fn_ as u64);
        for (row, value) in ratios.iter_mut().zip([tally.precision, tally.recall, tally.f1]) {
            row[l] = value;
        }
    }
    ratios
}

impl Classes {
    /// Precision, recall and F1 over all classes (micro), `[3][replicates]`.
    pub(super) fn replicate_global(&self, weights: &Drawn) -> Vec<Vec<f64>> {
        let block = |b: usize| {
            let block = weights.block(b);
            let weigh = |counts: &Counts| counts.weigh(block);
            ratios(&weigh(&self.found), &weigh(&self.detections), &weigh(&self.ground_truths))
        };
        let blocks: Vec<_> = (0..weights.blocks()).into_par_iter().map(block).collect();
        (0..3).map(|i| weights.joined(blocks.iter().map(|block| block[i]))).collect()
    }
}
