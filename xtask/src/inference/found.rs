//! What an engine found, and how far that is from what another one found.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A box of a COCO results file.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub(super) struct Detection {
    image_id: i64,
    category_id: i64,
    /// x, y, width, height.
    bbox: [f64; 4],
    score: f64,
}

/// All boxes, by image.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found(BTreeMap<i64, Vec<Detection>>);

impl Found {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let all: Vec<Detection> = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not COCO results", path.display()))?;
        Ok(Self::of(all))
    }

    fn of(all: Vec<Detection>) -> Self {
        let mut images: BTreeMap<i64, Vec<Detection>> = BTreeMap::new();
        all.into_iter().for_each(|found| images.entry(found.image_id).or_default().push(found));
        Self(images)
    }
}

/// The distance of one engine's boxes from the yardstick's.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Difference {
    /// Of the yardstick.
    pub(super) boxes: usize,
    /// Of these, without a partner: another class, or further away than [`NEAR`].
    pub(super) unmatched: usize,
    /// Largest difference of a side, of those with one.
    pub(super) pixels: f64,
    /// Largest difference of a score.
    pub(super) score: f64,
}

/// Boxes whose sides are further apart are not the same, pixels.
const NEAR: f64 = 2.0;

impl Difference {
    pub(super) fn of(yardstick: &Found, other: &Found) -> Self {
        let mut difference = Self::default();
        for (image, boxes) in &yardstick.0 {
            let mut left = other.0.get(image).cloned().unwrap_or_default();
            for wanted in boxes {
                difference.boxes += 1;
                let nearest = left
                    .iter()
                    .enumerate()
                    .filter(|(_, found)| found.category_id == wanted.category_id)
                    .map(|(place, found)| (place, apart(wanted, found)))
                    .min_by(|(_, a), (_, b)| a.total_cmp(b));
                match nearest {
                    Some((place, pixels)) if pixels <= NEAR => {
                        let found = left.swap_remove(place);
                        difference.pixels = difference.pixels.max(pixels);
                        difference.score = difference.score.max((found.score - wanted.score).abs());
                    }
                    _ => difference.unmatched += 1,
                }
            }
        }
        difference
    }
}

/// The largest distance of two sides.
fn apart(a: &Detection, b: &Detection) -> f64 {
    let sides =
        |d: &Detection| [d.bbox[0], d.bbox[1], d.bbox[0] + d.bbox[2], d.bbox[1] + d.bbox[3]];
    sides(a).into_iter().zip(sides(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(image_id: i64, category_id: i64, x: f64, score: f64) -> Detection {
        Detection { image_id, category_id, bbox: [x, 0.0, 10.0, 10.0], score }
    }

    #[test]
    fn boxes_find_their_nearest_partner_of_the_same_class() {
        let yardstick = Found::of(vec![
            detection(1, 1, 0.0, 0.9),
            detection(1, 1, 50.0, 0.8),
            detection(1, 2, 50.0, 0.7),
            detection(2, 1, 0.0, 0.9),
        ]);
        let other = Found::of(vec![
            detection(1, 1, 50.25, 0.8),
            detection(1, 1, 0.0, 0.5),
            detection(1, 3, 50.0, 0.7),
            detection(2, 1, 3.0, 0.9),
        ]);
        let difference = Difference::of(&yardstick, &other);
        assert_eq!((difference.boxes, difference.unmatched), (4, 2));
        assert!((difference.pixels - 0.25).abs() < 1e-12 && (difference.score - 0.4).abs() < 1e-12);
        assert_eq!(
            Difference::of(&yardstick, &yardstick),
            Difference { boxes: 4, ..Default::default() }
        );
    }
}
