//! Anchor boxes: `torchvision.models.detection.anchor_utils.AnchorGenerator` with the defaults of
//! `faster_rcnn._default_anchorgen`, one size per level (32 to 512) and three aspect ratios.
//!
//! Anchors are computed when they are asked for: of the 200,000 of an image at most 5,000 survive.

use super::boxes::Xyxy;

/// Aspect ratios, height over width.
pub const ASPECT_RATIOS: [f32; 3] = [0.5, 1.0, 2.0];

/// Anchor sizes of the pyramid's levels: the square root of the area, pixels.
pub const SIZES: [f32; 5] = [32.0, 64.0, 128.0, 256.0, 512.0];

/// The anchors of one pyramid level.
#[derive(Debug, Clone)]
pub struct LevelAnchors {
    cell: [Xyxy; 3],
    stride: [f32; 2],
    grid_width: usize,
}

impl LevelAnchors {
    /// For a feature map `grid` `(h, w)` of a padded image `image` `(h, w)`.
    ///
    /// The stride is the quotient of the two, rounded down, as in `AnchorGenerator.forward`: for P6
    /// of an 800 pixel high image it is 61, not 64.
    pub fn new(size: f32, grid: (usize, usize), image: (usize, usize)) -> Self {
        let stride = [
            (image.1 / grid.1.max(1)) as f32,
            (image.0 / grid.0.max(1)) as f32,
        ];
        Self {
            cell: cell_anchors(size),
            stride,
            grid_width: grid.1,
        }
    }

    /// The anchor of that index: rows, then columns, then aspect ratios.
    pub fn get(&self, index: usize) -> Xyxy {
        let (cell, ratio) = (index / ASPECT_RATIOS.len(), index % ASPECT_RATIOS.len());
        let x = (cell % self.grid_width) as f32 * self.stride[0];
        let y = (cell / self.grid_width) as f32 * self.stride[1];
        let [x1, y1, x2, y2] = self.cell[ratio];
        [x + x1, y + y1, x + x2, y + y2]
    }
}

/// `AnchorGenerator.generate_anchors`: centred on the origin, rounded half to even.
fn cell_anchors(size: f32) -> [Xyxy; 3] {
    ASPECT_RATIOS.map(|ratio| {
        let h_ratio = ratio.sqrt();
        let (w, h) = (1.0 / h_ratio * size, h_ratio * size);
        [-w, -h, w, h].map(|side| (side / 2.0).round_ties_even())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_anchors_are_torchvisions() {
        let expected = [
            [-23.0, -11.0, 23.0, 11.0],
            [-16.0, -16.0, 16.0, 16.0],
            [-11.0, -23.0, 11.0, 23.0],
        ];
        assert_eq!(cell_anchors(32.0), expected);
    }

    #[test]
    fn the_stride_is_the_rounded_down_quotient() {
        let p6 = LevelAnchors::new(512.0, (13, 17), (800, 1088));
        assert_eq!(p6.get(1), [-256.0, -256.0, 256.0, 256.0]);
        assert_eq!(p6.get(3 + 1), [-256.0 + 64.0, -256.0, 256.0 + 64.0, 256.0]);
        assert_eq!(
            p6.get(3 * 17 + 1),
            [-256.0, -256.0 + 61.0, 256.0, 256.0 + 61.0]
        );
    }
}
