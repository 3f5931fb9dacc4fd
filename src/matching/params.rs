//! What can be set in the COCO protocol, and the checked settings that matching and accumulation use.
//!
//! Deliberately absent: what the settings do ([`super::coco`], [`crate::metrics::coco`]).

use serde::{Deserialize, Serialize};

use crate::config::{Fix, Fixes, linspace};
use crate::dataset::Category;

/// The class of everything where classes do not matter; pycocotools' number for it.
pub(crate) const ANY_CLASS: i64 = -1;

/// A named range of areas, square pixels; both ends belong to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AreaRange {
    /// `all`, `small`, `medium` and `large` are what the 12 numbers look for.
    pub name: String,
    /// Smallest area.
    pub min: f64,
    /// Largest area.
    pub max: f64,
}

/// What can be set in the COCO protocol; the default is that of pycocotools.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CocoParams {
    /// IoU thresholds; at most 64.
    pub iou_thrs: Vec<f64>,
    /// Recalls at which precision is read off.
    pub rec_thrs: Vec<f64>,
    /// Limits on the detections per image and class.
    pub max_dets: Vec<usize>,
    /// Area ranges; at most 32.
    pub area_ranges: Vec<AreaRange>,
    /// Whether a detection must be of the ground truth's class: `useCats` of pycocotools. Without,
    /// all listed classes are one, and the limits hold for an image, not for an image and class.
    pub use_cats: bool,
    /// Which of pycocotools' traps are mended; none by default.
    pub fixes: Fixes,
}

impl Default for CocoParams {
    fn default() -> Self {
        let range = |name: &str, min: f64, max: f64| AreaRange { name: name.into(), min, max };
        Self {
            iou_thrs: linspace(0.5, 0.95, 10),
            rec_thrs: linspace(0.0, 1.0, 101),
            max_dets: vec![1, 10, 100],
            area_ranges: vec![
                range("all", 0.0, 1e10),
                range("small", 0.0, 1024.0),
                range("medium", 1024.0, 9216.0),
                range("large", 9216.0, 1e10),
            ],
            use_cats: true,
            fixes: Fixes::default(),
        }
    }
}

/// At which detection limits the 12 numbers are taken; `None` where there is no such limit.
pub(crate) struct SummaryLimits {
    /// That of `AP`.
    pub(crate) ap: Option<usize>,
    /// That of `AR1`.
    pub(crate) first: Option<usize>,
    /// That of `AR10`.
    pub(crate) second: Option<usize>,
    /// That of all others.
    pub(crate) others: Option<usize>,
}

impl SummaryLimits {
    /// Of pycocotools, or as [`Fix::MaxDets`] mends them. The limits ascend.
    pub(crate) fn new(max_dets: &[usize], fixes: Fixes) -> Self {
        let limit = |m: usize| max_dets.get(m).copied();
        let (ap, others) = if fixes.contains(Fix::MaxDets) {
            let wanted = max_dets.iter().find(|&&m| m == AP_LIMIT).or(max_dets.last()).copied();
            (wanted, wanted)
        } else {
            (Some(AP_LIMIT), limit(2))
        };
        Self { ap, first: limit(0), second: limit(1), others }
    }
}

/// The limit that `COCOeval.summarize` has AP look for.
const AP_LIMIT: usize = 100;

/// Settings that cannot be evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParamsError {
    /// Outcomes per threshold are kept in the bits of a `u64`.
    #[error("{0} IoU thresholds were given; use at most 64")]
    TooManyThresholds(usize),
    /// Outcomes per area range are kept in the bits of a `u32`.
    #[error("{0} area ranges were given; use at most 32")]
    TooManyAreaRanges(usize),
    /// Nothing to evaluate.
    #[error("{0} is empty; give at least one value")]
    Empty(&'static str),
    /// The numbers look for ranges by name; pycocotools averages those of the same name.
    #[error("the area range {0:?} is there twice; give each its own name")]
    RepeatedRange(String),
    /// NaN or infinite.
    #[error("{0} holds {1}; use finite numbers")]
    NotFinite(&'static str, f64),
}

/// Checked settings and the classes to evaluate, ready for matching and accumulation.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    categories: Vec<Category>,
    /// Ids under which results are kept, ascending: the categories', or [`ANY_CLASS`] alone.
    pub(crate) classes: Vec<i64>,
    pub(crate) iou_thrs: Vec<f64>,
    pub(crate) rec_thrs: Vec<f64>,
    pub(crate) max_dets: Vec<usize>,
    pub(crate) area_ranges: Vec<AreaRange>,
    pub(crate) use_cats: bool,
    pub(crate) fixes: Fixes,
    /// `iou_thrs`, none above `1 - 1e-10`.
    pub(super) match_thrs: Vec<f64>,
    /// The lowest of `match_thrs`: below it a pair of boxes need not be looked at again.
    pub(super) lowest_thr: f64,
}

impl Plan {
    /// Checks the settings. Classes are evaluated in ascending order of id, each once; what belongs
    /// to other classes is not evaluated.
    ///
    /// # Errors
    /// [`ParamsError`], where the settings cannot be evaluated.
    pub fn new(categories: &[Category], params: &CocoParams) -> Result<Self, ParamsError> {
        if params.iou_thrs.len() > 64 {
            return Err(ParamsError::TooManyThresholds(params.iou_thrs.len()));
        }
        if params.area_ranges.len() > 32 {
            return Err(ParamsError::TooManyAreaRanges(params.area_ranges.len()));
        }
        let lengths = [
            ("iou_thrs", params.iou_thrs.len()),
            ("rec_thrs", params.rec_thrs.len()),
            ("max_dets", params.max_dets.len()),
            ("area_ranges", params.area_ranges.len()),
        ];
        if let Some((name, _)) = lengths.into_iter().find(|(_, length)| *length == 0) {
            return Err(ParamsError::Empty(name));
        }
        let names = params.area_ranges.iter().map(|range| &range.name);
        for (i, name) in names.clone().enumerate() {
            if names.clone().take(i).any(|earlier| earlier == name) {
                return Err(ParamsError::RepeatedRange(name.clone()));
            }
        }
        finite("iou_thrs", params.iou_thrs.iter().copied())?;
        finite("rec_thrs", params.rec_thrs.iter().copied())?;
        finite("area_ranges", params.area_ranges.iter().flat_map(|r| [r.min, r.max]))?;

        let mut categories = categories.to_vec();
        categories.sort_by_key(|c| c.id);
        categories.dedup_by_key(|c| c.id);
        let mut max_dets = params.max_dets.clone();
        max_dets.sort_unstable();
        let match_thrs: Vec<f64> = params.iou_thrs.iter().map(|t| t.min(1.0 - 1e-10)).collect();
        let ids = categories.iter().map(|c| c.id);
        let classes = if params.use_cats { ids.collect() } else { vec![ANY_CLASS] };
        Ok(Self {
            categories,
            classes,
            lowest_thr: match_thrs.iter().copied().fold(f64::INFINITY, f64::min),
            match_thrs,
            iou_thrs: params.iou_thrs.clone(),
            rec_thrs: params.rec_thrs.clone(),
            max_dets,
            area_ranges: params.area_ranges.clone(),
            use_cats: params.use_cats,
            fixes: params.fixes,
        })
    }

    /// The classes, by ascending id.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Whether a category is to be evaluated.
    pub(super) fn lists(&self, category_id: i64) -> bool {
        self.categories.binary_search_by_key(&category_id, |c| c.id).is_ok()
    }

    /// Place of a class among those under which results are kept.
    pub(crate) fn class_index(&self, category_id: i64) -> Option<usize> {
        self.classes.binary_search(&category_id).ok()
    }

    /// A bit per area range, set where the area is outside.
    pub(super) fn outside(&self, area: f64) -> u32 {
        let mut mask = 0;
        for (a, range) in self.area_ranges.iter().enumerate() {
            mask |= u32::from(area < range.min || area > range.max) << a;
        }
        mask
    }
}

fn finite(name: &'static str, values: impl IntoIterator<Item = f64>) -> Result<(), ParamsError> {
    match values.into_iter().find(|v| !v.is_finite()) {
        Some(value) => Err(ParamsError::NotFinite(name, value)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_thresholds_are_numpys_to_the_last_bit() {
        let params = CocoParams::default();
        // [v.hex() for v in np.linspace(.5, .95, 10)], as bits.
        let expected: [u64; 10] = [
            0x3fe0_0000_0000_0000,
            0x3fe1_9999_9999_999a,
            0x3fe3_3333_3333_3333,
            0x3fe4_cccc_cccc_cccd,
            0x3fe6_6666_6666_6666,
            0x3fe8_0000_0000_0000,
            0x3fe9_9999_9999_999a,
            0x3feb_3333_3333_3333,
            0x3fec_cccc_cccc_cccc,
            0x3fee_6666_6666_6666,
        ];
        assert_eq!(params.iou_thrs.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected);
        // Those of np.linspace(0, 1, 101) that are not the decimal number's nearest double.
        let odd: Vec<usize> =
            (0..101).filter(|&i| params.rec_thrs[i] != i as f64 / 100.0).collect();
        assert_eq!(odd, [35, 41, 47, 57, 69, 70, 82, 83, 94, 95]);
    }

    #[test]
    fn settings_that_cannot_be_evaluated_are_refused() {
        let with = |change: fn(&mut CocoParams)| {
            let mut params = CocoParams::default();
            change(&mut params);
            Plan::new(&[], &params).unwrap_err().to_string()
        };
        assert_eq!(
            with(|p| p.iou_thrs = vec![0.5; 65]),
            "65 IoU thresholds were given; use at most 64"
        );
        assert_eq!(with(|p| p.max_dets.clear()), "max_dets is empty; give at least one value");
        assert_eq!(with(|p| p.rec_thrs[3] = f64::NAN), "rec_thrs holds NaN; use finite numbers");
        assert_eq!(
            with(|p| p.area_ranges[0].max = f64::INFINITY),
            "area_ranges holds inf; use finite numbers"
        );
        assert_eq!(
            with(|p| p.area_ranges = vec![p.area_ranges[0].clone(); 33]),
            "33 area ranges were given; use at most 32"
        );
    }
    #[test]
    fn classes_are_evaluated_by_ascending_id_and_once() {
        let category = |id, name: &str| Category { id, name: name.into() };
        let given = [category(3, "car"), category(1, "person"), category(3, "again")];
        let plan = Plan::new(&given, &CocoParams::default()).unwrap();
        assert_eq!(plan.categories(), [category(1, "person"), category(3, "car")]);
    }
}
