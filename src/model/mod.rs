//! Faster R-CNN with a ResNet or MobileNetV3 FPN on libtorch, from pixels to boxes, numerically equal to torchvision
//! 0.28 eager; and TorchScript detectors. The only home of `tch`.
//!
//! One file per stage, in the order in which an image passes through them: [`transform`],
//! [`backbone`], [`fpn`], [`rpn`] (with [`anchors`], [`boxes`] and [`nms`]), [`roi_align`],
//! [`roi_heads`]. Each stage is public so that it can be compared with torchvision's own output for
//! its own input (`tests/parity.rs`). Their convolutions and products are computed by [`kernels`].
//!
//! Deliberately absent: training, GPUs, batches of several images, and any architecture setting: what
//! a state dict holds is read from its names and shapes.

pub mod anchors;
pub mod architecture;
pub mod backbone;
mod box_head;
pub mod boxes;
mod buffers;
mod error;
mod faster_rcnn;
pub mod fpn;
pub mod kernels;
mod layers;
mod load;
pub mod nms;
pub mod one_stage;
pub mod roi_align;
pub mod roi_heads;
pub mod rpn;
mod threads;
mod torchscript;
pub mod transform;
pub mod weights;

pub use architecture::Architecture;
pub use error::ModelError;
pub use faster_rcnn::{FasterRcnn, FasterRcnnSettings};
pub use layers::channels_last;
pub use load::{LABELS, LoadError, Opened, load, open};
pub use one_stage::{OneStage, OneStageSettings};
pub use threads::init_thread;
pub use torchscript::TorchScriptDetector;
