//! TIDE: by how much AP50 would rise if one kind of mistake were mended.
//!
//! Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020,
//! equal to `tidecv` 1.0.1 (`TIDERun.fix_main_errors` with `progressive=False`,
//! `fix_special_errors`, `count_errors`, `APDataObject.get_ap`), except that values are 0..1, not
//! percent. [`crate::matching::tide`] says which detection makes which mistake. Each of the six main
//! kinds is mended alone:
//! - `Cls`, `Loc`: the detection that mends an object becomes a true positive (of the object's
//!   class), the others of the kind disappear.
//! - `Both`, `Dupe`, `Bkg`: the detections disappear.
//! - `Miss`: the ground truths that no mending finds need not be found.
//!
//! and beside them `FalsePos` (every false positive ranks behind every true one) and `FalseNeg`
//! (every ground truth that was not found need not be). The changes do not add up to `1 - AP`.
//!
//! This is `tidecv`'s AP, not pycocotools' AP50, although they are usually close. What differs:
//! - **A class without ground truth counts**, with AP 0, as long as it has a detection; where mending
//!   removes its last detection it leaves the mean, which then rises.
//! - **Precision has no epsilon**, and the 101 recalls are `i / 100`.
//! - **Equal scores** rank in the order of the images given. In every mended version mistakes rank
//!   before true positives of equal score, so with ties even a kind that never occurs can change
//!   AP. For main kinds a fall is reported as 0, as `tidecv` does; for the special ones as it is.
//!
//! Deliberately absent: ranges of thresholds, qualifiers, progressive mending, plots.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MergeError, check_unique};
use crate::dataset::{Category, ImageRecord};
use crate::detections::Detection;
use crate::matching::descending_key;
pub use crate::matching::tide::TideParams;
use crate::matching::tide::{Fate, ImageErrors, Judged, Whereabouts, judge_image};

/// One value for each kind of mistake, by `tidecv`'s short names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "KindsOf{T}")]
pub struct Kinds<T> {
    /// Right box, wrong class.
    #[serde(rename = "Cls")]
    pub cls: T,
    /// Right class, poor box.
    #[serde(rename = "Loc")]
    pub loc: T,
    /// Wrong class and poor box.
    #[serde(rename = "Both")]
    pub both: T,
    /// An object found again.
    #[serde(rename = "Dupe")]
    pub dupe: T,
    /// Background taken for an object.
    #[serde(rename = "Bkg")]
    pub bkg: T,
    /// An object that no other mistake explains.
    #[serde(rename = "Miss")]
    pub miss: T,
    /// All false positives.
    #[serde(rename = "FalsePos")]
    pub false_pos: T,
    /// All objects that were not found.
    #[serde(rename = "FalseNeg")]
    pub false_neg: T,
}

impl<T: Copy> Kinds<T> {
    /// In `tidecv`'s order: the six main kinds, then the special ones.
    pub fn named(&self) -> [(&'static str, T); 8] {
        [
            ("Cls", self.cls),
            ("Loc", self.loc),
            ("Both", self.both),
            ("Dupe", self.dupe),
            ("Bkg", self.bkg),
            ("Miss", self.miss),
            ("FalsePos", self.false_pos),
            ("FalseNeg", self.false_neg),
        ]
    }

    fn of(value: impl Fn(usize) -> T) -> Self {
        Self {
            cls: value(CLS),
            loc: value(LOC),
            both: value(BOTH),
            dupe: value(DUPE),
            bkg: value(BKG),
            miss: value(MISS),
            false_pos: value(FALSE_POS),
            false_neg: value(FALSE_NEG),
        }
    }
}

/// The mistakes of a detector. Undefined values are `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tide {
    /// What it was computed at.
    pub params: TideParams,
    /// `tidecv`'s AP at `pos_thr`, 0..1; `None` without ground truth and detections.
    pub ap: Option<f64>,
    /// The change of `ap` when the kind is mended; `None` where nothing would be left to measure.
    pub dap: Kinds<Option<f64>>,
    /// How many mistakes there are. Those of the main kinds include detections in crowds, as in
    /// `tidecv`, those of the special kinds, which it does not count, do not.
    pub counts: Kinds<u64>,
    /// Every class, by ascending id.
    pub per_class: Vec<ClassTide>,
}

/// One class. The global numbers are means over the classes that have an AP, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClassTide {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
    /// 0 with detections and no ground truth; `None` without both.
    pub ap: Option<f64>,
    /// The change of `ap`; `None` where mending leaves nothing of the class. Main kinds are at
    /// least 0.
    pub dap: Kinds<Option<f64>>,
    /// Mistakes of its detections, and its ground truths that were missed.
    pub counts: Kinds<u64>,
}

/// Why there is no decomposition.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TideError {
    /// Thresholds that contradict each other or are no IoU.
    #[error("bg_thr is {bg_thr} and pos_thr {pos_thr}; use 0 < bg_thr <= pos_thr <= 1")]
    Thresholds {
        /// At most this is background.
        bg_thr: f64,
        /// From this on it is found.
        pos_thr: f64,
    },
    /// Images that cannot be merged.
    #[error(transparent)]
    Merge(#[from] MergeError),
}

/// Computes the decomposition of the images, in the order of the annotation file.
///
/// Classes that are not among `categories` are not evaluated. Runs on rayon's current pool; the
/// result does not depend on how many threads it has.
///
/// # Errors
/// [`TideError`], where the thresholds make no sense or two images share an id.
pub fn tide(
    categories: &[Category],
    images: &[(&ImageRecord, &[Detection])],
    params: &TideParams,
) -> Result<Tide, TideError> {
    let TideParams { pos_thr, bg_thr, .. } = *params;
    if !(bg_thr > 0.0 && bg_thr <= pos_thr && pos_thr <= 1.0) {
        return Err(TideError::Thresholds { bg_thr, pos_thr });
    }
    let mut ids: Vec<i64> = images.iter().map(|(image, _)| image.id).collect();
    ids.sort_unstable();
    check_unique("id", ids.into_iter())?;
    let mut categories: Vec<&Category> = categories.iter().collect();
    categories.sort_by_key(|category| category.id);
    categories.dedup_by_key(|category| category.id);
    let classes: Vec<i64> = categories.iter().map(|category| category.id).collect();
    let judged: Vec<ImageErrors> = images
        .par_iter()
        .map(|(image, dts)| judge_image(image.id, &image.ground_truth, dts, &classes, params))
        .collect();

    let parts = deal(&classes, &judged);
    let aps: Vec<[Option<f64>; VERSIONS]> = parts.par_iter().map(Class::aps).collect();
    let means: [Option<f64>; VERSIONS] = std::array::from_fn(|version| mean(&aps, version));
    let per_class = categories.into_iter().zip(&parts).zip(&aps);
    Ok(Tide {
        params: *params,
        ap: means[AS_IS],
        dap: changes(&means),
        counts: Kinds::of(|kind| parts.iter().map(|class| class.counts[kind]).sum()),
        per_class: per_class
            .map(|((category, class), aps)| ClassTide {
                category_id: category.id,
                name: category.name.clone(),
                ap: aps[AS_IS],
                dap: changes(aps),
                counts: Kinds::of(|kind| class.counts[kind]),
            })
            .collect(),
    })
}

// The versions of a data set of which AP is taken: as it is, and with one kind mended.
const CLS: usize = 0;
const LOC: usize = 1;
const BOTH: usize = 2;
const DUPE: usize = 3;
const BKG: usize = 4;
const MISS: usize = 5;
const FALSE_POS: usize = 6;
const FALSE_NEG: usize = 7;
const AS_IS: usize = 8;
const VERSIONS: usize = 9;
const EVERY: u16 = (1 << VERSIONS) - 1;

fn changes(aps: &[Option<f64>; VERSIONS]) -> Kinds<Option<f64>> {
    Kinds::of(|kind| {
        let change = aps[kind]? - aps[AS_IS]?;
        Some(if kind < FALSE_POS { change.max(0.0) } else { change })
    })
}

fn mean(aps: &[[Option<f64>; VERSIONS]], version: usize) -> Option<f64> {
    let defined: Vec<f64> = aps.iter().filter_map(|class| class[version]).collect();
    super::sum::mean(&defined)
}

/// A point of a class's ranking, in those versions where it exists.
#[derive(Clone, Copy)]
struct Point {
    /// Ascends as the score descends.
    key: u64,
    /// Place among all detections.
    place: u64,
    /// A bit per version, set where it is a true positive.
    tp: u16,
    /// A bit per version, set where it is a false positive.
    fp: u16,
}

/// One class over all images.
#[derive(Default)]
struct Class {
    positives: u64,
    counts: [u64; 8],
    points: Vec<Point>,
}

/// Gives every class what concerns it. `classes` ascend.
fn deal(classes: &[i64], images: &[ImageErrors]) -> Vec<Class> {
    let mut parts: Vec<Class> = classes.iter().map(|_| Class::default()).collect();
    let place_of = |id: i64| classes.binary_search(&id).ok();
    let mut place = 0;
    for image in images {
        for dt in &image.dts {
            place += 1;
            let Some(own) = place_of(dt.category_id) else { continue };
            parts[own].add_detection(dt, place);
            if let Fate::Cls { mended: Some(other) } = dt.fate
                && let Some(other) = place_of(other)
            {
                parts[other].push(dt, place, 1 << CLS, 0);
            }
        }
        for &(category_id, whereabouts) in &image.gts {
            if let Some(class) = place_of(category_id) {
                parts[class].add_ground_truth(whereabouts);
            }
        }
    }
    parts
}

impl Class {
    fn add_ground_truth(&mut self, whereabouts: Whereabouts) {
        self.positives += 1;
        self.counts[MISS] += u64::from(whereabouts == Whereabouts::Missed);
        self.counts[FALSE_NEG] += u64::from(whereabouts != Whereabouts::Found);
    }

    fn add_detection(&mut self, dt: &Judged, place: u64) {
        let kind = match dt.fate {
            Fate::Found => return self.push(dt, place, EVERY, 0),
            Fate::Cls { .. } => CLS,
            Fate::Loc { .. } => LOC,
            Fate::Both => BOTH,
            Fate::Dupe => DUPE,
            Fate::Bkg => BKG,
        };
        self.counts[kind] += 1;
        self.counts[FALSE_POS] += u64::from(!dt.ignored);
        let tp = if dt.fate == (Fate::Loc { mended: true }) { 1 << LOC } else { 0 };
        let fp = if dt.ignored { 0 } else { EVERY & !(1 << kind) };
        self.push(dt, place, tp, fp);
    }

    fn push(&mut self, dt: &Judged, place: u64, tp: u16, fp: u16) {
        if tp | fp != 0 {
            self.points.push(Point { key: descending_key(dt.score), place, tp, fp });
        }
    }

    /// AP of every version; `None` where nothing of the class is left.
    fn aps(&self) -> [Option<f64>; VERSIONS] {
        let mut ranking = self.points.clone();
        ranking.sort_unstable_by_key(|point| (point.key, point.place));
        let mut aps = [None; VERSIONS];
        aps[AS_IS] = self.ap(&ranking, AS_IS);
        ranking.sort_unstable_by_key(|point| (point.key, point.tp == EVERY, point.place));
        for (version, ap) in aps.iter_mut().enumerate().take(AS_IS) {
            *ap = self.ap(&ranking, version);
        }
        aps
    }

    fn ap(&self, ranking: &[Point], version: usize) -> Option<f64> {
        let left_out = match version {
            MISS => self.counts[MISS],
            FALSE_NEG => self.counts[FALSE_NEG],
            _ => 0,
        };
        let positives = self.positives - left_out;
        let (mut precisions, mut points, mut fp) = (Vec::new(), 0u64, 0u64);
        for point in ranking {
            if point.tp >> version & 1 == 1 {
                points += 1;
                let tp = precisions.len() as u64 + 1;
                precisions.push(tp as f64 / (tp + fp) as f64);
            } else if point.fp >> version & 1 == 1 {
                points += 1;
                // There they rank behind all true positives.
                fp += u64::from(version != FALSE_POS);
            }
        }
        (points > 0 || positives > 0).then(|| interpolated(precisions, positives))
    }
}

/// The mean over the recalls 0, 0.01, ..., 1 of the best precision at that recall or a higher one.
///
/// `precisions` are those at the true positives: a false positive never has a better one than the
/// true positive before it.
fn interpolated(mut precisions: Vec<f64>, positives: u64) -> f64 {
    for i in (1..precisions.len()).rev() {
        precisions[i - 1] = precisions[i - 1].max(precisions[i]);
    }
    let (mut sum, mut rank) = (0.0, 0);
    if positives > 0 {
        for i in 0..=100u8 {
            let wanted = f64::from(i) / 100.0;
            while rank < precisions.len() && ((rank + 1) as f64 / positives as f64) < wanted {
                rank += 1;
            }
            sum += precisions.get(rank).copied().unwrap_or(0.0);
        }
    }
    sum / 101.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ap_is_the_mean_over_101_recalls() {
        assert_eq!(interpolated(vec![1.0], 1), 1.0);
        // Recalls 0 to 0.5.
        assert_eq!(interpolated(vec![1.0], 2), 51.0 / 101.0);
        assert_eq!(interpolated(vec![0.5, 1.0], 2), 1.0);
        assert_eq!(interpolated(vec![], 3), 0.0);
        assert_eq!(interpolated(vec![1.0], 0), 0.0);
    }

    #[test]
    fn thresholds_that_make_no_sense_are_refused() {
        for (bg_thr, pos_thr) in [(0.0, 0.5), (0.6, 0.5), (0.1, 1.1), (f64::NAN, 0.5)] {
            let params = TideParams { bg_thr, pos_thr, max_dets: 100 };
            let error = tide(&[], &[], &params).unwrap_err();
            assert!(error.to_string().contains("use 0 < bg_thr <= pos_thr <= 1"), "{error}");
        }
    }

    #[test]
    fn without_anything_nothing_is_defined() {
        let category = Category { id: 4, name: "car".into() };
        let tide = tide(&[category], &[], &TideParams::default()).unwrap();
        assert_eq!((tide.ap, tide.dap), (None, Kinds::default()));
        assert_eq!(tide.per_class[0].ap, None);
    }
}
