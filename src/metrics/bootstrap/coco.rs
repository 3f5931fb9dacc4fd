//! The COCO protocol's ranked lists, and the 12 numbers of one class in a block of replicates.
//!
//! Only detections near a ground truth have outcomes; of all others it matters how many rank before
//! each of those ([`super::super::ranking`] rests on the same). Recalls need no ranking at all: a
//! sum of recalls over IoU thresholds is a weighted count of true positives.
//!
//! Deliberately absent: means over classes ([`super::replicates`]).

use rayon::prelude::*;

use super::kernel::{
    Counts, Effect, Entry, LANES, Lanes, Path, Row, Totals, average_precision, cumulate,
};
use super::weights::Drawn;
use crate::dataset::ImageRecord;
use crate::detections::Detection;
use crate::matching::coco::{ImageMatches, Plan, match_image};
use crate::matching::descending_key;

/// Those of the default settings: all, small, medium, large.
const AREAS: usize = 4;
/// 0.5 to 0.95 by 0.05.
const THRESHOLDS: usize = 10;
// The places of 0.5 and 0.75 among them.
const AP50: usize = 0;
const AP75: usize = 5;

/// The numbers, in the order of `COCOeval.stats` and of `CocoSummary::named`.
pub(super) const NAMES: [&str; 12] =
    ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

/// A detection's outcomes, on its way from its image to its class.
struct Ranked {
    class: u32,
    unit: u32,
    /// Ascends where scores descend.
    key: u64,
    /// Number of detections of its class and image that rank before it.
    rank: u8,
    /// A bit per area range, set where the detection is outside.
    outside: u8,
    /// Bits per threshold.
    found: [u16; AREAS],
    /// Bits per threshold.
    ignored: [u16; AREAS],
}

/// Ground truths to be found, of a class on an image.
struct Positives {
    class: u32,
    unit: u32,
    counts: [u32; AREAS],
}

/// Rows of some of the images.
#[derive(Default)]
struct Rows {
    ranked: Vec<Ranked>,
    positives: Vec<Positives>,
}

impl Rows {
    fn push(&mut self, plan: &Plan, image: &ImageMatches, unit: u32) {
        let (mut dts_start, mut hits_start) = (0, 0);
        for (span, positives) in image.classes.iter().zip(image.positives.as_chunks().0) {
            let dts = dts_start..span.dts_end as usize;
            let mut hits = (hits_start..span.hits_end as usize).peekable();
            (dts_start, hits_start) = (span.dts_end as usize, span.hits_end as usize);
            // Matches were made with this plan, so every class is one of its.
            let Some(class) = plan.class_index(span.category_id) else { continue };
            let class = class as u32;
            self.positives.push(Positives { class, unit, counts: *positives });
            for (rank, d) in dts.enumerate() {
                let hit = hits.next_if(|&h| image.hit_dts[h] as usize == d);
                let bits = |of: &[u64]| hit.map_or([0; AREAS], |h| area_bits(of, h));
                self.ranked.push(Ranked {
                    class,
                    unit,
                    key: descending_key(image.scores[d]),
                    rank: rank.min(usize::from(u8::MAX)) as u8,
                    outside: image.outside[d] as u8,
                    found: bits(&image.hit_found),
                    ignored: bits(&image.hit_ignored),
                });
            }
        }
    }
}

/// One hit's bits per threshold, of which there are ten, in every area range.
fn area_bits(of: &[u64], hit: usize) -> [u16; AREAS] {
    std::array::from_fn(|a| of[hit * AREAS + a] as u16)
}

/// Matches the images, which ascend by id, and ranks their detections: `[plan.classes]`, `None` for a
/// class without ground truth, which is absent from every replicate.
///
/// The plan has the default settings.
pub(super) fn rank(
    plan: &Plan,
    images: &[(&ImageRecord, &[Detection], u32)],
) -> Vec<Option<Class>> {
    let parts = images.par_chunks(64).map(|images| {
        let mut rows = Rows::default();
        for (image, dts, unit) in images {
            rows.push(plan, &match_image(image.id, &image.ground_truth, dts, plan), *unit);
        }
        rows
    });
    let parts: Vec<Rows> = parts.collect();
    let mut all = Rows::default();
    all.ranked.reserve_exact(parts.iter().map(|part| part.ranked.len()).sum());
    for mut part in parts {
        all.ranked.append(&mut part.ranked);
        all.positives.append(&mut part.positives);
    }
    // Stable: equal scores keep the order of the images and of the detections on them.
    all.ranked.par_sort_by_key(|row| (row.class, row.key));
    all.positives.sort_by_key(|row| row.class);
    let class = |k: u32| {
        let ranked = of_class(&all.ranked, k, |row| row.class);
        Class::new(ranked, of_class(&all.positives, k, |row| row.class))
    };
    (0..plan.classes.len() as u32).into_par_iter().map(class).collect()
}

/// The rows of one class; classes ascend.
fn of_class<T>(rows: &[T], class: u32, class_of: impl Fn(&T) -> u32) -> &[T] {
    let start = rows.partition_point(|row| class_of(row) < class);
    let length = rows[start..].partition_point(|row| class_of(row) == class);
    &rows[start..start + length]
}

/// One class's detections and ground truth, ranked.
pub(super) struct Class {
    /// `None` without ground truth in the range.
    areas: [Option<Area>; AREAS],
    /// True positives at all thresholds together among the first 1 and 10 detections of an image.
    first: [Counts; 2],
}

/// In one area range.
struct Area {
    positives: Counts,
    /// Units of the detections in range, by descending score, up to the last that is a hit.
    ranked: Vec<u32>,
    /// For every hit, how many of `ranked` there are up to it.
    ends: Vec<u32>,
    /// `[thresholds]`, by descending score.
    entries: [Vec<Entry>; THRESHOLDS],
}

impl Class {
    fn new(ranked: &[Ranked], positives: &[Positives]) -> Option<Self> {
        let areas: [Option<Area>; AREAS] = std::array::from_fn(|a| {
            let counts = positives.iter().map(|row| (row.unit, row.counts[a]));
            let counts = Counts::new(counts);
            (!counts.is_empty()).then(|| Area::new(ranked, a, counts))
        });
        let first = [1, 10].map(|limit| {
            let counted = ranked.iter().filter(|row| row.rank < limit);
            Counts::new(counted.map(|row| (row.unit, row.found[0].count_ones())))
        });
        areas.iter().any(Option::is_some).then_some(Self { areas, first })
    }

    /// The 12 numbers, `[names][replicates]`; NaN where undefined.
    pub(super) fn replicate(&self, weights: &Drawn) -> Vec<Vec<f64>> {
        let blocks = (0..weights.blocks()).into_par_iter();
        let blocks: Vec<[Lanes<f64>; 12]> =
            blocks.map_init(Vec::new, |upto, b| self.block(weights.block(b), upto)).collect();
        (0..12).map(|i| weights.joined(blocks.iter().map(|block| block[i]))).collect()
    }

    /// `upto` is overwritten: a thread uses it again and again.
    fn block(&self, block: &[Row], upto: &mut Vec<Lanes<i32>>) -> [Lanes<f64>; 12] {
        let mut numbers = [[f64::NAN; LANES]; 12];
        for (a, area) in self.areas.iter().enumerate() {
            let Some(area) = area else { continue };
            let positives = area.positives.weigh(block).map(f64::from);
            let (aps, ar) = area.evaluate(block, &positives, upto);
            let ap = mean(&aps);
            let mut set = |place: usize, values: Lanes<f64>| {
                numbers[place] = defined(values, &positives);
            };
            if a == 0 {
                set(0, ap);
                set(1, aps[AP50]);
                set(2, aps[AP75]);
                for (i, first) in self.first.iter().enumerate() {
                    set(6 + i, recall(first.weigh(block), &positives));
                }
                set(8, ar);
            } else {
                set(2 + a, ap);
                set(8 + a, ar);
            }
        }
        numbers
    }
}

/// NaN in replicates without ground truth.
fn defined(values: Lanes<f64>, positives: &Lanes<f64>) -> Lanes<f64> {
    std::array::from_fn(|l| if positives[l] > 0.0 { values[l] } else { f64::NAN })
}

/// Mean recall over the thresholds, of the sum of their true positives.
fn recall(tp: Lanes<i32>, positives: &Lanes<f64>) -> Lanes<f64> {
    std::array::from_fn(|l| f64::from(tp[l]) / (THRESHOLDS as f64 * positives[l]))
}

fn mean(values: &[Lanes<f64>; THRESHOLDS]) -> Lanes<f64> {
    std::array::from_fn(|l| values.iter().map(|row| row[l]).sum::<f64>() / THRESHOLDS as f64)
}

impl Area {
    fn new(rows: &[Ranked], a: usize, positives: Counts) -> Self {
        let mut ranked = Vec::new();
        let mut ends: Vec<u32> = Vec::new();
        let mut entries: [Vec<Entry>; THRESHOLDS] = Default::default();
        for row in rows {
            let inside = row.outside >> a & 1 == 0;
            if inside {
                ranked.push(row.unit);
            }
            let found = row.found[a];
            let ignored = if inside { row.ignored[a] } else { 0 };
            if found | ignored == 0 {
                continue;
            }
            let hit = ends.len() as u32;
            ends.push(ranked.len() as u32);
            for (t, entries) in entries.iter_mut().enumerate() {
                let effect = match (found >> t & 1 == 1, ignored >> t & 1 == 1) {
                    (true, _) if inside => Effect::Found,
                    (true, _) => Effect::FoundOutside,
                    (false, true) => Effect::Ignored,
                    (false, false) => continue,
                };
                entries.push(Entry { hit, unit: row.unit, effect });
            }
        }
        ranked.truncate(ends.last().map_or(0, |&end| end as usize));
        ranked.shrink_to_fit();
        entries.iter_mut().for_each(Vec::shrink_to_fit);
        Self { positives, ranked, ends, entries }
    }

    /// AP at every threshold, and mean recall.
    fn evaluate(
        &self,
        block: &[Row],
        positives: &Lanes<f64>,
        upto: &mut Vec<Lanes<i32>>,
    ) -> ([Lanes<f64>; THRESHOLDS], Lanes<f64>) {
        cumulate(&self.ranked, &self.ends, block, upto);
        let mut tp = [0; LANES];
        let aps = std::array::from_fn(|t| {
            let entries = &self.entries[t][..];
            let totals = Totals::new(entries, block);
            (0..LANES).for_each(|l| tp[l] += totals.tp[l]);
            average_precision(Path { entries, block, upto, positives, totals: &totals })
        });
        (aps, recall(tp, positives))
    }
}
