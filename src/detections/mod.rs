//! One image's boxes, scores and labels, and whatever can produce them.
//!
//! Deliberately absent: thresholds and metrics; a detection here is what the detector said.

pub mod coco_results;

use crate::config::Precision;
use crate::dataset::{Bbox, image::RgbImage};

/// One box that a detector reports. All numbers are finite.
#[derive(
    Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct Detection {
    /// Where.
    pub bbox: Bbox,
    /// How sure the detector is, 0..1.
    pub score: f64,
    /// Which class, by the ground truth's category id.
    pub category_id: i64,
}

/// A detector: image in, detections out, in the order in which it ranks them.
///
/// Results must not depend on which thread calls, how many call at once, or in which order.
pub trait Detector: Send + Sync {
    /// Runs the detector on one image.
    ///
    /// # Errors
    /// What stopped it, as a sentence; the caller adds the image's path.
    fn detect(&self, image: &RgbImage) -> Result<Vec<Detection>, DetectError>;
}

/// What kind of detector it is and how images are given to it, as far as that is known.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelForm {
    /// As in `torchvision.FasterRCNN`: what the weights are of; `torchscript`; empty where it is not known.
    pub format: String,
    /// `min_size` and `max_size` that images are resized to, pixels; `None` where they are given as they are.
    pub input_size: Option<(usize, usize)>,
    /// Epsilon of batch normalisation, where it is not in the file.
    pub norm_eps: Option<f64>,
    /// In which numbers its products are computed.
    pub precision: Precision,
}

impl std::fmt::Display for ModelForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format)?;
        if let Some((min, max)) = self.input_size {
            write!(f, ", {min} to {max} px")?;
        }
        if let Some(eps) = self.norm_eps {
            write!(f, ", eps {eps:?}")?;
        }
        f.write_str(match self.precision {
            Precision::F32 => "",
            Precision::Bf16 => ", bf16",
        })
    }
}

/// Why a detector could not run on an image.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DetectError(pub String);
