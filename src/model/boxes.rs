//! Box arithmetic in float32, operation by operation as torchvision does it.

/// Corners `[x1, y1, x2, y2]`, pixels.
pub type Xyxy = [f32; 4];

/// Box regression: `torchvision.models.detection._utils.BoxCoder`.
#[derive(Debug, Clone, Copy)]
pub struct BoxCoder {
    /// What the four deltas (x, y, w, h) were multiplied by in training.
    pub weights: [f32; 4],
}

impl BoxCoder {
    /// The largest logarithm of a size ratio: `log(1000 / 16)`.
    pub fn clip() -> f32 {
        (1000.0_f64 / 16.0).ln() as f32
    }

    /// A box from its deltas relative to `reference`: `BoxCoder.decode_single`.
    pub fn decode(&self, deltas: [f32; 4], reference: Xyxy) -> Xyxy {
        let [x1, y1, x2, y2] = reference;
        let (width, height) = (x2 - x1, y2 - y1);
        let (center_x, center_y) = (x1 + 0.5 * width, y1 + 0.5 * height);
        let [wx, wy, ww, wh] = self.weights;
        let [dx, dy, dw, dh] = deltas;
        // `min` alone would turn NaN into the clip; NaN must stay visible.
        let limit = |d: f32| if d > Self::clip() { Self::clip() } else { d };
        let (dw, dh) = (limit(dw / ww), limit(dh / wh));
        let x = dx / wx * width + center_x;
        let y = dy / wy * height + center_y;
        let (half_w, half_h) = (0.5 * (dw.exp() * width), 0.5 * (dh.exp() * height));
        [x - half_w, y - half_h, x + half_w, y + half_h]
    }

    /// The deltas that [`decode`](Self::decode) turns into `target`: `_utils.encode_boxes`.
    pub fn encode(&self, target: Xyxy, reference: Xyxy) -> [f32; 4] {
        let parts = |[x1, y1, x2, y2]: Xyxy| {
            let (w, h) = (x2 - x1, y2 - y1);
            [x1 + 0.5 * w, y1 + 0.5 * h, w, h]
        };
        let ([tx, ty, tw, th], [rx, ry, rw, rh]) = (parts(target), parts(reference));
        let [wx, wy, ww, wh] = self.weights;
        [wx * (tx - rx) / rw, wy * (ty - ry) / rh, ww * (tw / rw).ln(), wh * (th / rh).ln()]
    }
}

/// A box from the distances of its sides (left, top, right, bottom) to the centre of `reference`, in units of
/// its size: `torchvision.models.detection._utils.BoxLinearCoder.decode`.
pub fn decode_linear([left, top, right, bottom]: [f32; 4], reference: Xyxy) -> Xyxy {
    let [x1, y1, x2, y2] = reference;
    let (center_x, center_y) = (0.5 * (x1 + x2), 0.5 * (y1 + y2));
    let (width, height) = (x2 - x1, y2 - y1);
    [
        center_x - left * width,
        center_y - top * height,
        center_x + right * width,
        center_y + bottom * height,
    ]
}

/// The box, cut to an image of `(height, width)`: `torchvision.ops.clip_boxes_to_image`.
pub fn clip_to_image([x1, y1, x2, y2]: Xyxy, (height, width): (usize, usize)) -> Xyxy {
    let (h, w) = (height as f32, width as f32);
    [x1.clamp(0.0, w), y1.clamp(0.0, h), x2.clamp(0.0, w), y2.clamp(0.0, h)]
}

/// Whether both sides are at least `min_size` long: `torchvision.ops.remove_small_boxes`.
pub fn is_large(&[x1, y1, x2, y2]: &Xyxy, min_size: f32) -> bool {
    x2 - x1 >= min_size && y2 - y1 >= min_size
}

/// Width times height, square pixels.
pub fn area(&[x1, y1, x2, y2]: &Xyxy) -> f32 {
    (x2 - x1) * (y2 - y1)
}

/// The rows of a flat list of boxes or deltas.
pub fn rows(values: &[f32]) -> &[[f32; 4]] {
    values.as_chunks().0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_box() -> impl Strategy<Value = Xyxy> {
        (0f32..1000.0, 0f32..1000.0, 1f32..500.0, 1f32..500.0)
            .prop_map(|(x, y, w, h)| [x, y, x + w, y + h])
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(target in any_box(), reference in any_box()) {
            let ratio = |side: usize| (target[side + 2] - target[side]) / (reference[side + 2] - reference[side]);
            prop_assume!(ratio(0) < 60.0 && ratio(1) < 60.0);
            let coder = BoxCoder { weights: [10.0, 10.0, 5.0, 5.0] };
            let decoded = coder.decode(coder.encode(target, reference), reference);
            for (a, b) in decoded.iter().zip(target) {
                prop_assert!((a - b).abs() <= 2e-6 * 1500.0, "{decoded:?} {target:?}");
            }
        }

        #[test]
        fn a_clipped_box_lies_in_the_image(corners in proptest::array::uniform4(-2000f32..2000.0)) {
            let [x1, y1, x2, y2] = clip_to_image(corners, (300, 400));
            prop_assert!([x1, x2].iter().all(|x| (0.0..=400.0).contains(x)));
            prop_assert!([y1, y2].iter().all(|y| (0.0..=300.0).contains(y)));
        }
    }

    #[test]
    fn huge_size_deltas_are_clipped_and_nan_is_not_hidden() {
        let coder = BoxCoder { weights: [1.0; 4] };
        let [x1, _, x2, _] = coder.decode([0.0, 0.0, 50.0, 0.0], [0.0, 0.0, 16.0, 16.0]);
        assert!((x2 - x1 - 1000.0).abs() < 1e-2, "{x1} {x2}");
        assert!(coder.decode([0.0, 0.0, f32::NAN, 0.0], [0.0, 0.0, 16.0, 16.0])[0].is_nan());
    }
}
