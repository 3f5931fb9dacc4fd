//! TIDE's reading of one image: for every detection that found nothing, which one mistake it made,
//! and for every ground truth that was not found, whether mending a detection would find it.
//!
//! Source: Bolya et al., TIDE: A General Toolbox for Identifying Object Detection Errors, ECCV 2020,
//! as `TIDEExample` and `TIDERun._eval_image` of `tidecv` 1.0.1 (`quantify.py`) implement it for
//! boxes. What differs there from COCO's matching, and is kept because it changes numbers:
//! - **The limit is per image**, over all classes together, not per image and class.
//! - **Of equal IoUs the first** ground truth is taken; COCO takes the last.
//! - **Crowds** are no partners in matching. Afterwards a detection that found nothing is ignored if
//!   *more* than `pos_thr` of its area is inside one of its own class. Any number can be.
//! - **Ignored detections are classified** and counted as errors like all others. Mending one adds a
//!   true positive where there was nothing.
//! - **Both ends of "poorly localised" are included**: a duplicate whose IoU is exactly `pos_thr` is
//!   [`Fate::Loc`], not [`Fate::Dupe`].
//! - **An object is mended once**, by the detection of highest score among all that are `Cls` or
//!   `Loc` because of it. Mending `Loc` alone therefore mends nothing where a `Cls` one scores higher.
//!
//! Deliberately absent: AP ([`crate::metrics::tide`]); masks; `tidecv`'s class -1, which there stands
//! for any class in an ignore region, and here is an id like any other; boxes so small that their
//! overlap is not a number (here they overlap nothing).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::descending_key;
use super::iou::{Region, overlap};
use crate::dataset::GroundTruth;
use crate::detections::Detection;

/// What can be set in TIDE; the default is that of `tidecv`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TideParams {
    /// A detection has found an object from this IoU on.
    pub pos_thr: f64,
    /// At most this IoU is background. Above 0, at most `pos_thr`.
    pub bg_thr: f64,
    /// Detections per image, all classes together; those of highest score are kept.
    pub max_dets: usize,
}

impl Default for TideParams {
    fn default() -> Self {
        Self { pos_thr: 0.5, bg_thr: 0.1, max_dets: 100 }
    }
}

/// What became of a detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It found a ground truth.
    Found,
    /// Well on an object of another class.
    Cls {
        /// The object's class, where mending this detection is what finds the object.
        mended: Option<i64>,
    },
    /// Near an object of its class, with an IoU from `bg_thr` to `pos_thr`.
    Loc {
        /// Whether mending this detection is what finds the object.
        mended: bool,
    },
    /// Near an object of another class: wrong in both ways.
    Both,
    /// On an object of its class that a detection of higher score has found.
    Dupe,
    /// Near no object.
    Bkg,
}

/// One detection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// Its class.
    pub category_id: i64,
    /// Its score.
    pub score: f64,
    /// What became of it.
    pub fate: Fate,
    /// It found nothing, but lies in a crowd and costs nothing.
    pub ignored: bool,
}

/// What became of a ground truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// A detection found it.
    Found,
    /// None did, but one would if its class or its box were right.
    Mendable,
    /// None came near.
    Missed,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ImageErrors {
    /// COCO's image id.
    pub image_id: i64,
    /// By descending score, at most the limit of them.
    pub dts: Vec<Judged>,
    /// Class and whereabouts of those that are to be found, in file order.
    pub gts: Vec<(i64, Whereabouts)>,
}

/// Judges one image's detections (in the order of the results file) by its ground truth (in the
/// order of the annotation file). Crowds and ignored ground truth are regions where nothing costs.
///
/// `classes` are the category ids that are evaluated, ascending; what is of another class does not
/// exist.
pub fn judge_image(
    image_id: i64,
    gts: &[GroundTruth],
    dts: &[Detection],
    classes: &[i64],
    params: &TideParams,
) -> ImageErrors {
    let listed = |id: i64| classes.binary_search(&id).is_ok();
    let (regions, gts): (Vec<&GroundTruth>, Vec<&GroundTruth>) =
        gts.iter().filter(|gt| listed(gt.category_id)).partition(|gt| gt.is_crowd || gt.ignore);
    let mut dts: Vec<&Detection> = dts.iter().filter(|dt| listed(dt.category_id)).collect();
    dts.sort_by_key(|dt| descending_key(dt.score));
    dts.truncate(params.max_dets);

    let mut image = Image::new(gts, dts, *params);
    image.find();
    let fates: Vec<Fate> = (0..image.dts.len()).map(|d| image.fate(d)).collect();
    let dts = image.dts.iter().zip(fates).enumerate().map(|(d, (dt, fate))| Judged {
        category_id: dt.category_id,
        score: dt.score,
        fate: image.mend(d, fate),
        ignored: fate != Fate::Found && regions.iter().any(|region| inside(dt, region, params)),
    });
    let dts = dts.collect();
    let gts = image.gts.iter().enumerate();
    let gts = gts.map(|(g, gt)| (gt.category_id, image.whereabouts(g))).collect();
    ImageErrors { image_id, dts, gts }
}

fn inside(dt: &Detection, region: &GroundTruth, params: &TideParams) -> bool {
    let share = overlap(&dt.bbox, &Region { bbox: region.bbox, is_crowd: true });
    dt.category_id == region.category_id && share > params.pos_thr
}

struct Image<'i> {
    gts: Vec<&'i GroundTruth>,
    dts: Vec<&'i Detection>,
    params: TideParams,
    /// `[dts, gts]`.
    overlaps: Vec<f64>,
    /// `[dts]`.
    found: Vec<bool>,
    /// `[gts]`.
    taken: Vec<bool>,
    /// `[gts]`: the detection that finds it once mended.
    mender: Vec<Option<usize>>,
}

impl<'i> Image<'i> {
    fn new(gts: Vec<&'i GroundTruth>, dts: Vec<&'i Detection>, params: TideParams) -> Self {
        let overlap = |dt: &Detection, gt: &GroundTruth| {
            let overlap = overlap(&dt.bbox, &Region { bbox: gt.bbox, is_crowd: false });
            if overlap.is_nan() { 0.0 } else { overlap }
        };
        let overlaps = dts.iter().flat_map(|dt| gts.iter().map(move |gt| overlap(dt, gt)));
        Self {
            overlaps: overlaps.collect(),
            found: vec![false; dts.len()],
            taken: vec![false; gts.len()],
            mender: vec![None; gts.len()],
            gts,
            dts,
            params,
        }
    }

    /// Each detection takes the free ground truth of its class with the highest IoU.
    fn find(&mut self) {
        for d in 0..self.dts.len() {
            let free = self.best(d, |g| self.same_class(d, g) && !self.taken[g]);
            if let Some((g, overlap)) = free
                && overlap >= self.params.pos_thr
            {
                (self.found[d], self.taken[g]) = (true, true);
            }
        }
    }

    fn same_class(&self, d: usize, g: usize) -> bool {
        self.dts[d].category_id == self.gts[g].category_id
    }

    /// The highest overlap above 0 among those wanted, of equals the first.
    fn best(&self, d: usize, wanted: impl Fn(usize) -> bool) -> Option<(usize, f64)> {
        let row = &self.overlaps[d * self.gts.len()..][..self.gts.len()];
        let mut best: Option<(usize, f64)> = None;
        for (g, &overlap) in row.iter().enumerate() {
            if overlap > best.map_or(0.0, |(_, least)| least) && wanted(g) {
                best = Some((g, overlap));
            }
        }
        best
    }

    /// The first of TIDE's questions that is answered yes. Who mends which object is known only
    /// when all detections have been asked.
    fn fate(&mut self, d: usize) -> Fate {
        if self.found[d] {
            return Fate::Found;
        }
        let TideParams { pos_thr, bg_thr, .. } = self.params;
        let own = self.best(d, |g| self.same_class(d, g));
        if let Some((g, overlap)) = own
            && (bg_thr..=pos_thr).contains(&overlap)
        {
            self.offer(d, g);
            return Fate::Loc { mended: false };
        }
        if let Some((g, overlap)) = self.best(d, |g| !self.same_class(d, g))
            && overlap >= pos_thr
        {
            self.offer(d, g);
            return Fate::Cls { mended: None };
        }
        let taken = self.best(d, |g| self.same_class(d, g) && self.taken[g]);
        if taken.is_some_and(|(_, overlap)| overlap >= pos_thr) {
            return Fate::Dupe;
        }
        match self.best(d, |_| true) {
            Some((_, overlap)) if overlap > bg_thr => Fate::Both,
            _ => Fate::Bkg,
        }
    }

    /// Detections come by descending score, and only a higher score would replace a mender.
    fn offer(&mut self, d: usize, g: usize) {
        if !self.taken[g] {
            self.mender[g].get_or_insert(d);
        }
    }

    /// The fate, now that it is known who mends which object.
    fn mend(&self, d: usize, fate: Fate) -> Fate {
        let mended = || self.mender.iter().position(|mender| *mender == Some(d));
        match fate {
            Fate::Loc { .. } => Fate::Loc { mended: mended().is_some() },
            Fate::Cls { .. } => Fate::Cls { mended: mended().map(|g| self.gts[g].category_id) },
            other => other,
        }
    }

    fn whereabouts(&self, g: usize) -> Whereabouts {
        match (self.taken[g], self.mender[g]) {
            (true, _) => Whereabouts::Found,
            (false, Some(_)) => Whereabouts::Mendable,
            (false, None) => Whereabouts::Missed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Whereabouts::{Found, Mendable, Missed};
    use super::*;

    fn gt(category_id: i64, x: f64) -> GroundTruth {
        let bbox = [x, 0., 10., 10.].into();
        GroundTruth { id: 1, category_id, bbox, area: 100., is_crowd: false, ignore: false }
    }

    fn dt(category_id: i64, x: f64, score: f64) -> Detection {
        Detection { bbox: [x, 0., 10., 10.].into(), score, category_id }
    }

    fn judge(gts: &[GroundTruth], dts: &[Detection]) -> ImageErrors {
        judge_image(1, gts, dts, &[1, 2], &TideParams::default())
    }

    fn fates(gts: &[GroundTruth], dts: &[Detection]) -> Vec<Fate> {
        judge(gts, dts).dts.iter().map(|dt| dt.fate).collect()
    }

    #[test]
    fn each_mistake_has_its_name() {
        let gts = [gt(1, 0.), gt(1, 100.), gt(1, 200.), gt(1, 300.), gt(1, 400.)];
        let dts = [
            dt(1, 0., 0.9),
            dt(1, 1., 0.8),
            dt(2, 100., 0.7),
            dt(1, 206., 0.6),
            dt(2, 306., 0.5),
            dt(2, 500., 0.4),
        ];
        let image = judge(&gts, &dts);
        let expected = [
            Fate::Found,
            Fate::Dupe,
            Fate::Cls { mended: Some(1) },
            Fate::Loc { mended: true },
            Fate::Both,
            Fate::Bkg,
        ];
        assert_eq!(image.dts.iter().map(|dt| dt.fate).collect::<Vec<_>>(), expected);
        let whereabouts: Vec<_> = image.gts.iter().map(|gt| gt.1).collect();
        assert_eq!(whereabouts, [Found, Mendable, Mendable, Missed, Missed]);
    }

    #[test]
    fn an_object_is_mended_once_by_the_highest_score_whatever_its_mistake() {
        let (loc, cls) = (dt(1, 6., 0.6), dt(2, 0., 0.9));
        let expected = [Fate::Cls { mended: Some(1) }, Fate::Loc { mended: false }];
        assert_eq!(fates(&[gt(1, 0.)], &[loc, cls]), expected);
    }

    #[test]
    fn an_object_that_was_found_is_not_mended() {
        let dts = [dt(1, 0., 0.9), dt(2, 0., 0.8)];
        assert_eq!(fates(&[gt(1, 0.)], &dts), [Fate::Found, Fate::Cls { mended: None }]);
    }

    #[test]
    fn more_than_half_inside_a_crowd_of_its_class_costs_nothing_and_is_a_mistake_all_the_same() {
        let crowd = GroundTruth { is_crowd: true, ..gt(1, 0.) };
        let dts = [dt(1, 4., 0.9), dt(1, 5., 0.8), dt(2, 0., 0.7)];
        let image = judge(&[crowd], &dts);
        let ignored: Vec<_> = image.dts.iter().map(|dt| (dt.ignored, dt.fate)).collect();
        assert_eq!(ignored, [(true, Fate::Bkg), (false, Fate::Bkg), (false, Fate::Bkg)]);
        assert_eq!(image.gts, []);
    }

    #[test]
    fn the_limit_is_for_the_image_and_other_classes_do_not_exist() {
        let params = TideParams { max_dets: 2, ..TideParams::default() };
        let dts = [dt(1, 0., 0.1), dt(9, 0., 0.9), dt(2, 0., 0.8), dt(1, 0., 0.7)];
        let image = judge_image(1, &[gt(9, 0.), gt(1, 0.)], &dts, &[1, 2], &params);
        assert_eq!(image.dts.iter().map(|dt| dt.score).collect::<Vec<_>>(), [0.8, 0.7]);
        assert_eq!(image.gts, [(1, Found)]);
    }

    #[test]
    fn an_image_without_detections_misses_everything() {
        assert_eq!(judge(&[gt(1, 0.), gt(2, 0.)], &[]).gts, [(1, Missed), (2, Missed)]);
    }
}
