//! TorchScript detectors: any exported model that keeps this contract,
//!
//! `forward(image: float32 [3, H, W], RGB 0..1) -> (boxes [n, 4] xyxy pixels, scores [n], labels [n])`
//!
//! The module runs on CPU, in evaluation mode, one image per call. One module serves all threads:
//! `forward` reads its parameters only, and libtorch locks its plan cache.
//!
//! Deliberately absent: thresholds, NMS and limits, which are the exported model's business; and
//! torchvision's C++ operators, which libtorch does not have (a model that calls them does not load).

use std::collections::BTreeMap;
use std::path::Path;

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::error::{ModelError, first_line};
use super::threads::init_thread;
use super::transform::to_tensor;
use crate::dataset::{Bbox, image::RgbImage};
use crate::detections::{DetectError, Detection, Detector};

/// A TorchScript module as a [`Detector`].
#[derive(Debug)]
pub struct TorchScriptDetector {
    module: CModule,
    label_to_category: Option<BTreeMap<i64, i64>>,
}

impl TorchScriptDetector {
    /// Loads a file that `torch.jit.save` wrote. `label_to_category` maps the model's labels to
    /// category ids and drops the labels that it does not have; without it labels are category ids.
    ///
    /// # Errors
    /// [`ModelError::TorchScript`] where libtorch cannot load the file.
    pub fn load(
        path: &Path,
        label_to_category: Option<BTreeMap<i64, i64>>,
    ) -> Result<Self, ModelError> {
        init_thread()?;
        let load = || {
            let mut module = CModule::load_on_device(path, Device::Cpu)?;
            module.f_set_eval()?;
            Ok(module)
        };
        let module = load().map_err(|error| ModelError::TorchScript {
            path: path.to_owned(),
            // The rest is libtorch's guesses at what may have gone wrong.
            reason: first_line(&error).split(". ").next().unwrap_or_default().to_owned(),
        })?;
        Ok(Self { module, label_to_category })
    }

    fn category(&self, label: i64) -> Option<i64> {
        match &self.label_to_category {
            Some(map) => map.get(&label).copied(),
            None => Some(label),
        }
    }
}

impl Detector for TorchScriptDetector {
    fn detect(&self, image: &RgbImage) -> Result<Vec<Detection>, DetectError> {
        init_thread()?;
        let _no_grad = tch::no_grad_guard();
        let output = self.module.forward_is(&[IValue::Tensor(to_tensor(image)?)])?;
        let output = Output::read(output)?;
        let mut found = Vec::new();
        for index in 0..output.scores.len() {
            if let Some(category_id) = self.category(output.labels[index]) {
                found.push(output.detection(index, category_id)?);
            }
        }
        // The contract does not promise an order; `Detector` does.
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        Ok(found)
    }
}

/// A module's output, its shapes and types checked.
struct Output {
    boxes: Vec<f64>,
    scores: Vec<f64>,
    labels: Vec<i64>,
}

impl Output {
    fn read(value: IValue) -> Result<Self, DetectError> {
        let parts = match value {
            IValue::Tuple(parts) => parts,
            other => return Err(contract(&format!("returned {}", kind_of(&other)))),
        };
        let count = parts.len();
        let Ok([IValue::Tensor(boxes), IValue::Tensor(scores), IValue::Tensor(labels)]) =
            <[IValue; 3]>::try_from(parts)
        else {
            return Err(contract(&format!(
                "returned a tuple of {count} values that are not three tensors"
            )));
        };
        let count = scores.size().first().copied().unwrap_or(0);
        let expect = |name: &str, tensor: &Tensor, shape: &[i64], integers: bool| {
            let (size, kind) = (tensor.size(), tensor.f_kind()?);
            let is_integer =
                matches!(kind, Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Int8 | Kind::Uint8);
            let is_float = matches!(kind, Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16);
            if size == shape && (if integers { is_integer } else { is_float }) {
                return Ok(());
            }
            Err(contract(&format!("returned {name} of shape {size:?} and type {kind:?}")))
        };
        expect("scores", &scores, &[count], false)?;
        expect("boxes", &boxes, &[count, 4], false)?;
        expect("labels", &labels, &[count], true)?;
        Ok(Self {
            boxes: Vec::try_from(boxes.f_to_kind(Kind::Double)?.f_reshape([-1])?)?,
            scores: Vec::try_from(scores.f_to_kind(Kind::Double)?)?,
            labels: Vec::try_from(labels.f_to_kind(Kind::Int64)?)?,
        })
    }

    fn detection(&self, index: usize, category_id: i64) -> Result<Detection, DetectError> {
        let score = self.scores[index];
        let corners = self.boxes.as_chunks().0[index];
        let [x1, y1, x2, y2] = corners;
        if !corners.iter().all(|side| side.is_finite()) || x2 < x1 || y2 < y1 {
            let what = "which is not the finite corners of a box";
            return Err(DetectError(format!(
                "the TorchScript model returned the box {corners:?}, {what}"
            )));
        }
        if !(0.0..=1.0).contains(&score) {
            return Err(DetectError(format!(
                "the TorchScript model returned the score {score}, not in 0..1"
            )));
        }
        Ok(Detection { bbox: Bbox::from_xyxy(corners), score, category_id })
    }
}

fn contract(what: &str) -> DetectError {
    DetectError(format!(
        "the TorchScript model {what}; expected a tuple of boxes [n, 4] (float), scores [n] (float) and labels [n] \
         (integer)"
    ))
}

fn kind_of(value: &IValue) -> String {
    match value {
        IValue::None => "nothing".to_owned(),
        IValue::Tensor(tensor) => format!("one tensor of shape {:?}", tensor.size()),
        IValue::TensorList(list) => format!("a list of {} tensors", list.len()),
        IValue::GenericList(list) => format!("a list of {} values", list.len()),
        IValue::GenericDict(_) => "a dict".to_owned(),
        _ => "a value that is no tensor".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `class Contract` of `fixtures/parity/generate.py` does, by the image's first byte.
    const KEEPS_THE_CONTRACT: u8 = 0;
    const NO_DETECTIONS: u8 = 1;

    fn load(label_to_category: Option<BTreeMap<i64, i64>>) -> TorchScriptDetector {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/parity/contract.torchscript.pt");
        TorchScriptDetector::load(Path::new(path), label_to_category).unwrap()
    }

    /// Two pixels, whose green bytes become the two scores.
    fn image(mode: u8) -> RgbImage {
        RgbImage { width: 2, height: 1, data: vec![mode, 51, 0, 0, 204, 0] }
    }

    #[test]
    fn boxes_scores_and_labels_come_out_by_descending_score() {
        let found = load(None).detect(&image(KEEPS_THE_CONTRACT)).unwrap();
        let score = |byte: u8| f64::from(f32::from(byte) / 255.0);
        let expected =
            [([10.0, 12.0, 5.0, 6.0], score(204), 9), ([0.0, 1.0, 2.0, 2.0], score(51), 7)];
        let expected = expected.map(|(bbox, score, category_id)| Detection {
            bbox: bbox.into(),
            score,
            category_id,
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn labels_are_mapped_and_unmapped_ones_dropped() {
        let detector = load(Some([(9, 90)].into()));
        let found = detector.detect(&image(KEEPS_THE_CONTRACT)).unwrap();
        assert_eq!(found.iter().map(|d| d.category_id).collect::<Vec<_>>(), [90]);
    }

    #[test]
    fn an_image_without_detections_is_fine() {
        assert_eq!(load(None).detect(&image(NO_DETECTIONS)).unwrap(), []);
    }

    #[test]
    fn what_breaks_the_contract_is_an_error_that_says_how() {
        let detector = load(None);
        for (mode, part) in [
            (2, "returned one tensor of shape [2, 4]; expected a tuple of boxes [n, 4]"),
            (3, "returned a tuple of 2 values that are not three tensors"),
            (4, "returned boxes of shape [2, 4] and type Float"),
            (5, "returned labels of shape [2] and type Float"),
            (6, "not the finite corners of a box"),
            (7, "not the finite corners of a box"),
            (8, "returned the score 1.7"),
            (9, "libtorch: "),
            (10, "returned a dict"),
        ] {
            let text = detector.detect(&image(mode)).unwrap_err().to_string();
            assert!(text.contains(part) && !text.contains('\n'), "{mode}: {text}");
        }
    }

    #[test]
    fn the_first_call_equals_the_later_ones_and_those_of_other_threads() {
        let detector = load(None);
        let run = || detector.detect(&image(KEEPS_THE_CONTRACT)).unwrap();
        let first = run();
        assert!((0..4).all(|_| run() == first));
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            assert!(workers.into_iter().all(|worker| worker.join().unwrap() == first));
        });
    }

    #[test]
    fn a_file_that_is_no_torchscript_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a zip").unwrap();
        for path in [file.path(), Path::new("/no/such/model.pt")] {
            let text = TorchScriptDetector::load(path, None).unwrap_err().to_string();
            assert!(text.starts_with(&format!("cannot load {}", path.display())), "{text}");
            assert!(!text.contains('\n'), "{text}");
        }
    }
}
