//! SSD's default boxes: `torchvision.models.detection.anchor_utils.DefaultBoxGenerator`.
//!
//! Unlike [`AnchorShapes`](crate::model::anchors::AnchorShapes) they are fractions of the image, and there
//! are few of them: all are made at once.

use crate::model::boxes::Xyxy;

/// Which boxes lie at a place of each level.
#[derive(Debug, Clone, PartialEq)]
pub struct DefaultBoxes {
    /// Width and height of each box of each level, fractions of the image, cut to 1.
    sizes: Vec<Vec<[f32; 2]>>,
    /// Image pixels per place of a level; `None` where a level's places divide the image evenly.
    steps: Option<Vec<f64>>,
}

impl DefaultBoxes {
    /// `ssd300_vgg16`'s.
    pub fn ssd300() -> Self {
        let ratios: [&[f64]; 6] = [&[2.0], &[2.0, 3.0], &[2.0, 3.0], &[2.0, 3.0], &[2.0], &[2.0]];
        let scales = [0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05];
        Self {
            sizes: sizes(&ratios, &scales),
            steps: Some(vec![8.0, 16.0, 32.0, 64.0, 100.0, 300.0]),
        }
    }

    /// `ssdlite320_mobilenet_v3_large`'s: `min_ratio` 0.2, `max_ratio` 0.95.
    pub fn ssdlite320() -> Self {
        let (min_ratio, max_ratio) = (0.2, 0.95);
        let range = max_ratio - min_ratio;
        let mut scales: Vec<f64> =
            (0..6).map(|k| min_ratio + range * f64::from(k) / (6.0 - 1.0)).collect();
        scales.push(1.0);
        Self { sizes: sizes(&[&[2.0, 3.0] as &[f64]; 6], &scales), steps: None }
    }

    /// How many levels there are.
    pub fn levels(&self) -> usize {
        self.sizes.len()
    }

    /// Boxes per place of a level.
    ///
    /// # Panics
    /// Where there is no such level.
    pub fn per_place(&self, level: usize) -> usize {
        self.sizes[level].len()
    }

    /// The boxes of feature maps of the sizes `grids` `(h, w)`, the largest first, in pixels of an image of
    /// `side` times `side`: levels, then rows, then columns, then shapes.
    pub fn boxes(&self, grids: &[(usize, usize)], side: usize) -> Vec<Xyxy> {
        let mut all = Vec::new();
        for (level, (&(height, width), sizes)) in grids.iter().zip(&self.sizes).enumerate() {
            let step = self.steps.as_ref().map(|steps| (side as f64 / steps[level]) as f32);
            let center =
                |place: usize, count: usize| (place as f32 + 0.5) / step.unwrap_or(count as f32);
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                let at = [center(x, width), center(y, height)];
                all.extend(sizes.iter().map(|&size| corners(at, size, side as f32)));
            }
        }
        all
    }
}

/// `DefaultBoxGenerator._generate_wh_pairs`: two squares, then each aspect ratio lying and standing.
fn sizes(ratios: &[&[f64]], scales: &[f64]) -> Vec<Vec<[f32; 2]>> {
    let level = |(k, ratios): (usize, &&[f64])| {
        let (scale, between) = (scales[k], (scales[k] * scales[k + 1]).sqrt());
        let mut sizes = vec![[scale, scale], [between, between]];
        for ratio in *ratios {
            let (long, short) = (scale * ratio.sqrt(), scale / ratio.sqrt());
            sizes.extend([[long, short], [short, long]]);
        }
        sizes.into_iter().map(|size| size.map(|side| (side as f32).clamp(0.0, 1.0))).collect()
    };
    ratios.iter().enumerate().map(level).collect()
}

fn corners([x, y]: [f32; 2], [width, height]: [f32; 2], side: f32) -> Xyxy {
    let (half_w, half_h) = (0.5 * width, 0.5 * height);
    [(x - half_w) * side, (y - half_h) * side, (x + half_w) * side, (y + half_h) * side]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ssd300_has_8732_boxes() {
        let boxes = DefaultBoxes::ssd300();
        let grids = [38, 19, 10, 5, 3, 1].map(|side| (side, side));
        let all = boxes.boxes(&grids, 300);
        assert_eq!(all.len(), 8732);
        // The first place is centred at half a step of eight pixels, 0.07 of the image wide.
        assert!(all[0].iter().zip([-6.5, -6.5, 14.5, 14.5]).all(|(a, b)| (a - b).abs() < 1e-4));
        // The last level's oblong boxes would be 1.23 times as long as the image: they are cut to it.
        let oblong = [0.0, 57.7, 300.0, 242.3];
        assert!(all[8730].iter().zip(oblong).all(|(a, b)| (a - b).abs() < 0.1), "{:?}", all[8730]);
    }
}
