//! AP of resampled images from matches that are made once: what is matched on an image does not
//! depend on how often the image is drawn.
//!
//! Deliberately not the library's own bootstrap: a simulation that shares the code of what it tests
//! shares its mistakes. `tests/gate_simulation.rs` holds it against `metrics::coco::accumulate` on images
//! that are really there several times.

use detgate::dataset::ImageRecord;
use detgate::detections::Detection;
use detgate::matching::coco::{AreaRange, CocoParams, ImageMatches, Plan, match_image};

use crate::world;

/// Of one detector: AP, AP50 and two classes' AP50; NaN where undefined.
pub(crate) type Metrics = [f64; 4];

/// The classes whose own AP50 is looked at: a less common and a rare one.
pub(crate) const CLASSES: [usize; 2] = [3, 4];

/// The settings: COCO's, of all areas alone; with `only_ap50` at IoU 0.5 alone.
pub(crate) fn plan(only_ap50: bool) -> Plan {
    let coco = CocoParams::default();
    let params = CocoParams {
        area_ranges: vec![AreaRange { name: "all".to_owned(), min: 0.0, max: 1e10 }],
        iou_thrs: if only_ap50 { vec![0.5] } else { coco.iou_thrs },
        ..coco
    };
    Plan::new(&world::categories(), &params).expect("COCO's own settings")
}

/// What became of each image's detections.
pub(crate) fn matches(
    plan: &Plan,
    images: &[ImageRecord],
    detections: &[Vec<Detection>],
) -> Vec<ImageMatches> {
    let pairs = images.iter().zip(detections);
    pairs.map(|(image, dts)| match_image(image.id, &image.ground_truth, dts, plan)).collect()
}

/// One detector's results, ranked.
pub(crate) struct Side {
    classes: Vec<Class>,
    thresholds: usize,
}

#[derive(Default)]
struct Class {
    /// By descending score: the image, and a bit per threshold, set where an object was found.
    ranked: Vec<(u32, u64)>,
    /// Images with objects of the class, and how many.
    objects: Vec<(u32, u32)>,
}

impl Side {
    pub(crate) fn new(images: &[ImageMatches], thresholds: usize) -> Self {
        let mut scored: Vec<Vec<(f64, u32, u64)>> = Vec::new();
        let mut classes: Vec<Class> = Vec::new();
        classes.resize_with(world::categories().len(), Class::default);
        scored.resize_with(classes.len(), Vec::new);
        for (place, image) in (0..).zip(images) {
            let (mut dt, mut hit) = (0, 0);
            for (span, &objects) in image.classes.iter().zip(&image.positives) {
                let class = span.category_id as usize - 1;
                if objects > 0 {
                    classes[class].objects.push((place, objects));
                }
                while dt < span.dts_end {
                    let is_hit = image.hit_dts.get(hit) == Some(&dt);
                    let found = if is_hit { image.hit_found[hit] } else { 0 };
                    scored[class].push((image.scores[dt as usize], place, found));
                    hit += usize::from(is_hit);
                    dt += 1;
                }
            }
        }
        for (class, mut scored) in classes.iter_mut().zip(scored) {
            scored.sort_by(|a, b| b.0.total_cmp(&a.0));
            class.ranked = scored.into_iter().map(|(_, place, found)| (place, found)).collect();
        }
        Self { classes, thresholds }
    }

    /// How many units (groups of `size` neighbouring images) show the class.
    pub(crate) fn units_with(&self, class: usize, size: usize) -> usize {
        let mut units: Vec<usize> =
            self.classes[class].objects.iter().map(|(place, _)| *place as usize / size).collect();
        units.dedup();
        units.len()
    }

    /// With each image as often as `weights` says.
    pub(crate) fn metrics(&self, weights: &[u32]) -> Metrics {
        let by_class: Vec<Option<Vec<f64>>> =
            self.classes.iter().map(|class| class.precisions(weights, self.thresholds)).collect();
        let defined: Vec<&Vec<f64>> = by_class.iter().flatten().collect();
        // No class at all: 0 / 0.
        let mean = |of_class: &dyn Fn(&Vec<f64>) -> f64| {
            defined.iter().map(|class| of_class(class)).sum::<f64>() / defined.len() as f64
        };
        let over_thresholds = |class: &Vec<f64>| class.iter().sum::<f64>() / self.thresholds as f64;
        let [a, b] = CLASSES.map(|k| by_class[k].as_ref().map_or(f64::NAN, |class| class[0]));
        [mean(&over_thresholds), mean(&|class| class[0]), a, b]
    }
}

impl Class {
    /// Average precision by threshold; `None` without objects.
    fn precisions(&self, weights: &[u32], thresholds: usize) -> Option<Vec<f64>> {
        let weight = |place: u32| weights[place as usize];
        let objects: u32 = self.objects.iter().map(|&(place, n)| n * weight(place)).sum();
        let drawn: Vec<(u32, u64)> =
            self.ranked.iter().map(|&(place, found)| (weight(place), found)).collect();
        let mut steps = Vec::new();
        (objects > 0).then(|| {
            let average = |t| average_precision(&drawn, t, objects, &mut steps);
            (0..thresholds).map(average).collect()
        })
    }
}

/// COCO's: at 101 recalls, the best precision at that recall or a higher one. Copies of a detection
/// follow each other and are right or wrong together, so that only the last one matters.
fn average_precision(
    drawn: &[(u32, u64)],
    threshold: usize,
    objects: u32,
    steps: &mut Vec<(u32, f64)>,
) -> f64 {
    steps.clear();
    let (mut right, mut all) = (0, 0);
    for &(weight, found) in drawn {
        all += weight;
        if weight > 0 && found >> threshold & 1 == 1 {
            right += weight;
            steps.push((right, f64::from(right) / f64::from(all)));
        }
    }
    // As COCO's recalls are made; 29 / 100 is not 29 * 0.01.
    let recall_thr = |k: u32| if k == 100 { 1.0 } else { f64::from(k) * 0.01 };
    let (mut sum, mut best, mut recalls) = (0.0, 0.0_f64, 101);
    // From the right: a step's precision holds for the recalls above that of the step before it.
    for place in (0..steps.len()).rev() {
        best = best.max(steps[place].1);
        let recall = f64::from(steps[place].0) / f64::from(objects);
        let before = place.checked_sub(1).map(|p| f64::from(steps[p].0) / f64::from(objects));
        while recalls > 0 && before.is_none_or(|before| recall_thr(recalls - 1) > before) {
            recalls -= 1;
            sum += if recall_thr(recalls) <= recall { best } else { 0.0 };
        }
    }
    sum / 101.0
}
