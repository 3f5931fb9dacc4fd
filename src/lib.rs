//! detgate tells a team whether a change broke their object detector.
//!
//! Data flows through the modules in the order in which they are listed; a module may use those
//! above it, never those below it. See `ARCHITECTURE.md` for the map.

mod files;
mod json;
mod nearest;
pub mod shown;

pub mod config;
pub mod dataset;
pub mod detections;
pub mod checkpoint;
#[cfg(feature = "torch")]
pub mod model;
pub mod inference;
pub mod matching;
pub mod metrics;
pub mod gate;
#[cfg(feature = "mlflow")]
pub mod registry;
pub mod report;
#[cfg(feature = "harness")]
pub mod harness;

/// The README's Rust is compiled and run.
#[cfg(all(doctest, feature = "harness"))]
#[doc = include_str!("../README.md")]
struct Readme;
