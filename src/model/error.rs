//! What can stop a model from being built or run, as sentences.

use std::path::PathBuf;

use tch::TchError;

use super::architecture::Architecture;
use crate::detections::DetectError;

/// How many parameter names an error lists before it counts the rest.
const NAMES_SHOWN: usize = 8;

/// Why a model could not be built or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The state dict does not hold exactly the parameters that its own shapes imply.
    #[error("{}; is it the whole state dict of a torchvision detector, and of one with torchvision's layers?", names(.missing, .surplus))]
    Parameters {
        /// Needed, but not there.
        missing: Vec<String>,
        /// There, but used by nothing.
        surplus: Vec<String>,
    },
    /// No name says that this is a detector that detgate computes.
    #[error(
        "the state dict is of none of the detectors that detgate computes (torchvision's Faster R-CNN, RetinaNet, FCOS, \
         ssd300_vgg16 and ssdlite320_mobilenet_v3_large), its names are those of {resembles}; evaluate what it \
         found with --detections, or a TorchScript of it with --torchscript"
    )]
    Unknown {
        /// What it looks like, with an article.
        resembles: &'static str,
    },
    /// The size of the images is set, and the architecture's is fixed.
    #[error(
        "{architecture} takes images of {size}x{size} pixels and no others; remove min_size and max_size from the \
         settings and flags"
    )]
    FixedSize {
        /// Which.
        architecture: Architecture,
        /// Both sides, pixels.
        size: u32,
    },
    /// bfloat16 was asked for.
    #[error(
        "this processor has no AVX512_BF16, which precision bf16 needs, or ATEN_CPU_CAPABILITY does not allow it; evaluate with --precision f32"
    )]
    NoBf16,
    /// bfloat16 was asked for where detgate does not compute.
    #[error(
        "precision bf16 is for checkpoints: a TorchScript file decides itself in what it computes; leave the precision at f32"
    )]
    TorchScriptPrecision,
    /// A parameter has another shape than the rest of the state dict implies.
    #[error("parameter {name} has the shape {found:?}, expected {expected}")]
    Shape {
        /// The parameter's path.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// Its shape as the other parameters imply it, `*` where any size will do.
        expected: String,
    },
    /// A parameter that holds NaN or infinity.
    #[error(
        "parameter {name} holds numbers that are not finite; the training run probably diverged"
    )]
    NonFinite {
        /// The parameter's path.
        name: String,
    },
    /// The number of residual blocks per stage is that of no ResNet.
    #[error(
        "the backbone has {found:?} {block} blocks in layer1 to layer4; ResNet-18/34 have [2, 2, 2, 2] or [3, 4, 6, 3] \
         basic ones, ResNet-50/101/152 [3, 4, 6, 3], [3, 4, 23, 3] or [3, 8, 36, 3] bottlenecks"
    )]
    Depth {
        /// Blocks of layer1..layer4.
        found: [usize; 4],
        /// `basic` or `bottleneck`.
        block: &'static str,
    },
    /// The number of feature blocks is not that of MobileNetV3-Large.
    #[error(
        "the backbone has {found} feature blocks, MobileNetV3-Large has {expected}; evaluate what others \
         found with --detections"
    )]
    MobileNet {
        /// Of `backbone.body`.
        found: usize,
        /// What the architecture has.
        expected: usize,
    },
    /// The feature pyramid has another number of levels than the backbone has outputs.
    #[error(
        "the feature pyramid has {found} levels, expected {expected}; a pyramid of other levels (returned_layers) has \
         anchors that no state dict holds: evaluate what it found with --detections"
    )]
    Levels {
        /// Of the checkpoint.
        found: usize,
        /// Of the architecture.
        expected: usize,
    },
    /// The checkpoint was made for another number of classes than its class map names.
    #[error(
        "the weights are for {found} classes, the class map names {expected} (background included); correct the class map \
         (labelmap.json, where the checkpoint holds none), or pass --all-categories"
    )]
    ClassCount {
        /// Classes of the box predictor, background included.
        found: usize,
        /// Classes that the class map names, background included.
        expected: usize,
    },
    /// The class map names a class that the model cannot predict.
    #[error(
        "the class map maps the label {label}, but the weights are for the labels 1 to {last} \
         (0 is the background)"
    )]
    Label {
        /// The label.
        label: i64,
        /// The model's last label.
        last: usize,
    },
    /// A setting outside of its range.
    #[error("{name} is {value}, expected {expected}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A TorchScript file that libtorch cannot load.
    #[error(
        "cannot load {} as a TorchScript module ({reason}); torch.jit.save writes those, a checkpoint goes with \
         --checkpoint",
        path.display()
    )]
    TorchScript {
        /// The file.
        path: PathBuf,
        /// What libtorch says, its first sentence.
        reason: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(String),
}

impl From<TchError> for ModelError {
    fn from(error: TchError) -> Self {
        Self::Torch(first_line(&error))
    }
}

impl From<TchError> for DetectError {
    fn from(error: TchError) -> Self {
        Self(format!("libtorch: {}", first_line(&error)))
    }
}

/// The sentence of a libtorch error, without the C++ stack trace that follows it.
pub(super) fn first_line(error: &TchError) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("Internal torch error: ").unwrap_or(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown error").to_owned()
}

fn names(missing: &[String], surplus: &[String]) -> String {
    let parts: Vec<String> = [("misses", missing), ("has a surplus of", surplus)]
        .iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(verb, names)| format!("{verb} {}", list(names)))
        .collect();
    format!("the state dict {}", parts.join(" and "))
}

fn list(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
    let noun = if names.len() == 1 { "parameter" } else { "parameters" };
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => format!("the {noun} {shown}"),
        rest => format!("the {noun} {shown} and {rest} more"),
    }
}
