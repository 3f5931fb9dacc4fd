//! The images of a page: what is on them, what each side found, and what changed.

use std::collections::HashMap;

use serde::Serialize;

use super::{Pictures, base64};
use crate::detections::Detection;
use crate::gate::{Analysis, ChangedImage, GalleryImage, TruthBox};
use crate::metrics::losses::FlipKind;
use crate::report::Report;
use crate::report::why_text;
use crate::shown;

/// One image.
#[derive(Debug, Serialize)]
pub(super) struct Image {
    name: String,
    /// Of the picture where it is known, else of the annotation file, pixels.
    width: u32,
    height: u32,
    /// `worse`, `better`, or `alone` without a baseline.
    kind: &'static str,
    /// `3 more errors`
    change: Option<String>,
    flips: Vec<Flip>,
    /// `[x, y, w, h, class, flags]`: 1 for a crowd, 2 for what need not be found, 4 for the annotation that
    /// pycocotools cannot find.
    truth: Vec<[f64; 6]>,
    /// `[x, y, w, h, class, score]`
    baseline: Option<Vec<[f64; 6]>>,
    candidate: Vec<[f64; 6]>,
    floor: f64,
    /// As a data URI.
    picture: Option<String>,
    /// Why there is none.
    missing: Option<String>,
}

/// What differs between the sides.
#[derive(Debug, Serialize)]
struct Flip {
    text: String,
    class: f64,
    /// It is a loss.
    worse: bool,
    /// It is about an object, not about a false positive.
    of_object: bool,
    score: f64,
    bbox: [f64; 4],
}

/// The images in the order of the analysis; `classes` are category ids, and their places are what the
/// page knows them by.
pub(super) fn of(
    report: &Report,
    analysis: &Analysis,
    classes: &[i64],
    pictures: &Pictures,
) -> Vec<Image> {
    let view = View { report, classes, pictures, names: why_text::class_names(report) };
    analysis.gallery.iter().map(|image| view.image(image)).collect()
}

struct View<'v> {
    report: &'v Report,
    classes: &'v [i64],
    pictures: &'v Pictures,
    names: HashMap<i64, String>,
}

impl View<'_> {
    fn image(&self, image: &GalleryImage) -> Image {
        let (kind, changed) = self.change(image.image_id);
        let picture = self.pictures.get(&image.image_id);
        let shown = picture.and_then(|picture| picture.as_ref().ok());
        let no_picture = || "pictures were not at hand when the page was made".to_owned();
        let missing = match picture {
            Some(Ok(_)) => None,
            Some(Err(reason)) => Some(shown::line(reason)),
            None => Some(no_picture()),
        };
        Image {
            name: shown::name(&image.file_name),
            width: shown.map_or(image.width, |picture| picture.width),
            height: shown.map_or(image.height, |picture| picture.height),
            kind,
            change: changed.map(|changed| why_text::errors(&changed.loss)),
            flips: changed.map(|changed| self.flips(changed)).unwrap_or_default(),
            truth: image.ground_truth.iter().map(|gt| self.truth(gt)).collect(),
            baseline: image.baseline.as_deref().map(|side| self.side(side)),
            candidate: self.side(&image.candidate),
            floor: image.score_floor,
            picture: shown.map(|picture| {
                format!("data:image/jpeg;base64,{}", base64::encoded(&picture.jpeg))
            }),
            missing,
        }
    }

    fn change(&self, image_id: i64) -> (&'static str, Option<&ChangedImage>) {
        let Some(why) = &self.report.why else { return ("alone", None) };
        let find = |images: &'_ [ChangedImage]| {
            images.iter().position(|image| image.loss.image_id == image_id)
        };
        match (find(&why.worst), find(&why.improved)) {
            (Some(i), _) => ("worse", Some(&why.worst[i])),
            (None, Some(i)) => ("better", Some(&why.improved[i])),
            (None, None) => ("alone", None),
        }
    }

    fn flips(&self, changed: &ChangedImage) -> Vec<Flip> {
        let flip = |flip: &crate::metrics::losses::Flip| Flip {
            text: why_text::flip(flip, &self.names),
            class: self.place(flip.category_id),
            worse: matches!(
                flip.kind,
                FlipKind::Missed | FlipKind::Mislabelled | FlipKind::NewFalsePositive
            ),
            of_object: !matches!(
                flip.kind,
                FlipKind::NewFalsePositive | FlipKind::FalsePositiveGone
            ),
            score: flip.score,
            bbox: flip.bbox.into(),
        };
        changed.loss.flips.iter().map(flip).collect()
    }

    fn truth(&self, gt: &TruthBox) -> [f64; 6] {
        let [x, y, w, h] = gt.bbox.into();
        let flags = u8::from(gt.is_crowd) + 2 * u8::from(gt.ignore) + 4 * u8::from(gt.id == 0);
        [x, y, w, h, self.place(gt.category_id), f64::from(flags)]
    }

    fn side(&self, side: &[Detection]) -> Vec<[f64; 6]> {
        let found = |dt: &Detection| {
            let [x, y, w, h] = dt.bbox.into();
            [x, y, w, h, self.place(dt.category_id), dt.score]
        };
        side.iter().map(found).collect()
    }

    fn place(&self, category_id: i64) -> f64 {
        let place = self.classes.iter().position(|&id| id == category_id);
        place.map_or(-1.0, |place| place as f64)
    }
}
