//! Ground truth from folders: YOLO labels and Pascal VOC annotations.

mod formats;
mod mutations;
mod support;
mod voc;
mod yolo;
