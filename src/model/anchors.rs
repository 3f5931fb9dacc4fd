//! Anchor boxes: `torchvision.models.detection.anchor_utils.AnchorGenerator`.
//!
//! Anchors are computed when they are asked for: of the 200,000 of an image at most 5,000 survive.
//!
//! Deliberately absent: anything read from a checkpoint. No state dict holds its anchors; they are the
//! architecture's.

use super::boxes::Xyxy;

/// Aspect ratios of Faster R-CNN's anchors, height over width.
const ASPECT_RATIOS: [f32; 3] = [0.5, 1.0, 2.0];

/// Sizes of Faster R-CNN's anchors.
const SIZES: [f32; 5] = [32.0, 64.0, 128.0, 256.0, 512.0];

/// The anchors of a detector: which sizes on which level, and which aspect ratios.
#[derive(Debug, Clone, PartialEq)]
pub struct AnchorShapes {
    /// Of each level: the square roots of the areas, pixels.
    pub sizes: Vec<Vec<f32>>,
    /// Of every level: height over width.
    pub aspect_ratios: Vec<f32>,
}

impl AnchorShapes {
    /// One size per level, 32 to 512: `faster_rcnn._default_anchorgen`.
    pub fn one_size_per_level() -> Self {
        let sizes = SIZES.iter().map(|&size| vec![size]).collect();
        Self { sizes, aspect_ratios: ASPECT_RATIOS.to_vec() }
    }

    /// All five sizes, 32 to 512, on each of three levels: `_fasterrcnn_mobilenet_v3_large_fpn`.
    pub fn all_sizes_on_three_levels() -> Self {
        Self { sizes: vec![SIZES.to_vec(); 3], aspect_ratios: ASPECT_RATIOS.to_vec() }
    }

    /// Three sizes per level, a third of an octave apart, cut to whole pixels: `retinanet._default_anchorgen`.
    pub fn three_sizes_per_level() -> Self {
        let thirds = [1.0_f64, 2.0_f64.powf(1.0 / 3.0), 2.0_f64.powf(2.0 / 3.0)];
        let level = |&size: &f32| thirds.map(|third| (f64::from(size) * third).trunc() as f32);
        let sizes = SIZES.iter().map(|size| level(size).to_vec()).collect();
        Self { sizes, aspect_ratios: ASPECT_RATIOS.to_vec() }
    }

    /// A square of the size of the level's stride: FCOS, which means places and not anchors.
    pub fn one_square_per_place() -> Self {
        let sizes = [8.0, 16.0, 32.0, 64.0, 128.0].map(|size| vec![size]).to_vec();
        Self { sizes, aspect_ratios: vec![1.0] }
    }

    /// Anchors per place of the first level, and so of every level: `num_anchors_per_location`.
    pub fn per_place(&self) -> usize {
        self.sizes.first().map_or(0, Vec::len) * self.aspect_ratios.len()
    }

    /// The anchors of a level whose feature map is `grid` `(h, w)`, of a padded image `image` `(h, w)`.
    ///
    /// # Panics
    /// Where there is no such level.
    pub fn level(&self, level: usize, grid: (usize, usize), image: (usize, usize)) -> LevelAnchors {
        LevelAnchors::new(&self.sizes[level], &self.aspect_ratios, grid, image)
    }
}

/// The anchors of one pyramid level.
#[derive(Debug, Clone)]
pub struct LevelAnchors {
    cell: Vec<Xyxy>,
    stride: [f32; 2],
    grid_width: usize,
}

impl LevelAnchors {
    /// The stride is the quotient of image and grid, rounded down, as in `AnchorGenerator.forward`: for P6
    /// of an 800 pixel high image it is 61, not 64.
    fn new(
        sizes: &[f32],
        aspect_ratios: &[f32],
        grid: (usize, usize),
        image: (usize, usize),
    ) -> Self {
        let stride = [(image.1 / grid.1.max(1)) as f32, (image.0 / grid.0.max(1)) as f32];
        Self { cell: cell_anchors(sizes, aspect_ratios), stride, grid_width: grid.1 }
    }

    /// The anchor of that index: rows, then columns, then aspect ratios, then sizes.
    pub fn get(&self, index: usize) -> Xyxy {
        let (place, shape) = (index / self.cell.len(), index % self.cell.len());
        let x = (place % self.grid_width) as f32 * self.stride[0];
        let y = (place / self.grid_width) as f32 * self.stride[1];
        let [x1, y1, x2, y2] = self.cell[shape];
        [x + x1, y + y1, x + x2, y + y2]
    }
}

/// `AnchorGenerator.generate_anchors`: centred on the origin, rounded half to even.
fn cell_anchors(sizes: &[f32], aspect_ratios: &[f32]) -> Vec<Xyxy> {
    let anchor = |ratio: f32, size: f32| {
        let h_ratio = ratio.sqrt();
        let (w, h) = (1.0 / h_ratio * size, h_ratio * size);
        [-w, -h, w, h].map(|side| (side / 2.0).round_ties_even())
    };
    let of_ratio = |&ratio: &f32| sizes.iter().map(move |&size| anchor(ratio, size));
    aspect_ratios.iter().flat_map(of_ratio).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_anchors_are_torchvisions() {
        let expected =
            [[-23.0, -11.0, 23.0, 11.0], [-16.0, -16.0, 16.0, 16.0], [-11.0, -23.0, 11.0, 23.0]];
        assert_eq!(cell_anchors(&[32.0], &ASPECT_RATIOS), expected);
    }

    #[test]
    fn the_sizes_of_an_aspect_ratio_lie_side_by_side() {
        let shapes = AnchorShapes::all_sizes_on_three_levels();
        assert_eq!(shapes.per_place(), 15);
        let level = shapes.level(2, (4, 4), (128, 128));
        assert_eq!(level.get(5), [-16.0, -16.0, 16.0, 16.0]);
        assert_eq!(level.get(6), [-32.0, -32.0, 32.0, 32.0]);
        assert_eq!(level.get(15 * 5 + 5), [16.0, 16.0, 48.0, 48.0]);
    }

    #[test]
    fn the_stride_is_the_rounded_down_quotient() {
        let p6 = AnchorShapes::one_size_per_level().level(4, (13, 17), (800, 1088));
        assert_eq!(p6.get(1), [-256.0, -256.0, 256.0, 256.0]);
        assert_eq!(p6.get(3 + 1), [-256.0 + 64.0, -256.0, 256.0 + 64.0, 256.0]);
        assert_eq!(p6.get(3 * 17 + 1), [-256.0, -256.0 + 61.0, 256.0, 256.0 + 61.0]);
    }
}
