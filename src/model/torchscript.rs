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
            reason: first_line(&error),
        })?;
        Ok(Self {
            module,
            label_to_category,
        })
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
        let output = self
            .module
            .forward_is(&[IValue::Tensor(to_tensor(image)?)])?;
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
        let Ok(
            [
                IValue::Tensor(boxes),
                IValue::Tensor(scores),
                IValue::Tensor(labels),
            ],
        ) = <[IValue; 3]>::try_from(parts)
        else {
            return Err(contract(&format!(
                "returned a tuple of {count} values that are not three tensors"
            )));
        };
        let count = scores.size().first().copied().unwrap_or(0);
        let expect = |name: &str, tensor: &Tensor, shape: &[i64], integers: bool| {
            let (size, kind) = (tensor.size(), tensor.f_kind()?);
            let is_integer = matches!(
                kind,
                Kind::Int64 | Kind::Int | Kind::Int16 | Kind::Int8 | Kind::Uint8
            );
            let is_float = matches!(
                kind,
                Kind::Float | Kind::Double | Kind::Half | Kind::BFloat16
            );
            if size == shape && (if integers { is_integer } else { is_float }) {
                return Ok(());
            }
            Err(contract(&format!(
                "returned {name} of shape {size:?} and type {kind:?}"
            )))
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
        Ok(Detection {
            bbox: Bbox::from_xyxy(corners),
            score,
            category_id,
        })
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
