//! AP50 of resampled images, in few lines: the library's bootstrap computes some two hundred numbers,
//! which without optimisation takes minutes here. `main.rs` holds the two against each other.

use detgate::matching::coco::{CocoParams, Plan, match_image};
use detgate::metrics::bootstrap::Weights;

use crate::world::{self, Sample};

/// One detector's results by class, ranked.
pub(crate) struct Side(Vec<Class>);

#[derive(Default)]
struct Class {
    /// By descending score: the unit, and whether an object was found.
    ranked: Vec<(usize, bool)>,
    /// The unit of every object.
    objects: Vec<usize>,
}

/// Both detectors' results, where `size` neighbouring images are a unit.
pub(crate) fn sides(sample: &Sample, size: usize) -> [Side; 2] {
    let params = CocoParams { iou_thrs: vec![0.5], ..CocoParams::default() };
    let plan = Plan::new(&world::categories(), &params).unwrap();
    [0, 1].map(|side| Side::new(sample, side, size, &plan))
}

impl Side {
    fn new(sample: &Sample, side: usize, size: usize, plan: &Plan) -> Self {
        let mut classes = world::categories().iter().map(|_| Class::default()).collect::<Vec<_>>();
        let mut scored = vec![Vec::new(); classes.len()];
        for (place, (image, dts)) in sample.images.iter().zip(&sample.sides[side]).enumerate() {
            let unit = place / size;
            for gt in &image.ground_truth {
                classes[gt.category_id as usize - 1].objects.push(unit);
            }
            let matches = match_image(image.id, &image.ground_truth, dts, plan);
            let areas = matches.hit_found.len() / matches.hit_dts.len().max(1);
            let mut hits =
                matches.hit_dts.iter().zip(matches.hit_found.chunks(areas.max(1))).peekable();
            let mut first = 0;
            for span in &matches.classes {
                for dt in first..span.dts_end {
                    let found =
                        hits.next_if(|(hit, _)| **hit == dt).is_some_and(|(_, all)| all[0] == 1);
                    let score = matches.scores[dt as usize];
                    scored[span.category_id as usize - 1].push((score, unit, found));
                }
                first = span.dts_end;
            }
        }
        for (class, mut scored) in classes.iter_mut().zip(scored) {
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            class.ranked = scored.into_iter().map(|(_, unit, found)| (unit, found)).collect();
        }
        Self(classes)
    }

    /// Over all classes, in each replicate.
    pub(crate) fn ap50(&self, weights: &Weights) -> Vec<f64> {
        let replicate = |replicate: usize| {
            let drawn = weights.replicate(replicate);
            let defined: Vec<f64> = self.0.iter().filter_map(|class| class.ap50(&drawn)).collect();
            defined.iter().sum::<f64>() / defined.len() as f64
        };
        (0..weights.replicates()).map(replicate).collect()
    }
}

impl Class {
    /// COCO's: at 101 recalls, the best precision at that recall or a higher one; `None` without
    /// objects. Copies of a detection follow each other and are right or wrong together, so that only
    /// the last one matters.
    fn ap50(&self, drawn: &[u32]) -> Option<f64> {
        let objects: u32 = self.objects.iter().map(|&unit| drawn[unit]).sum();
        let (mut right, mut all, mut steps) = (0, 0, vec![(0.0, 0.0)]);
        for &(unit, found) in &self.ranked {
            all += drawn[unit];
            if found && drawn[unit] > 0 {
                right += drawn[unit];
                let recall = f64::from(right) / f64::from(objects);
                steps.push((recall, f64::from(right) / f64::from(all)));
            }
        }
        // As numpy's linspace: 29 * 0.01 is not 29 / 100.
        let recall_thr = |k: u32| if k == 100 { 1.0 } else { f64::from(k) * 0.01 };
        let (mut sum, mut best, mut k) = (0.0, 0.0_f64, 101);
        while let Some((recall, precision)) = steps.pop() {
            let before = steps.last().map_or(-1.0, |step| step.0);
            best = best.max(precision);
            while k > 0 && recall_thr(k - 1) > before {
                k -= 1;
                sum += if recall_thr(k) <= recall { best } else { 0.0 };
            }
        }
        (objects > 0).then_some(sum / 101.0)
    }
}
