//! Registration against real MLflow servers, from the pinned environment that `cargo xtask test`
//! provides in `DETGATE_MLFLOW_PYTHON`. Without it each test says on stderr that it was skipped.
//! Linux only, because whether processes are left behind is read from `/proc`; without libtorch only, which
//! changes nothing here, so that minutes are spent once.

#![cfg(all(feature = "mlflow", not(feature = "torch"), target_os = "linux"))]

mod aliases;
mod browser;
#[path = "../common/chromium.rs"]
mod chromium;
#[path = "../common/mod.rs"]
mod common;
mod databases;
mod faults;
mod http;
mod memory;
mod multipart;
#[path = "../common/mlflow.rs"]
mod mlflow;
mod pages;
mod postgres;
mod processes;
mod project;
mod proxy;
#[path = "../common/random.rs"]
mod random;
mod s3;
mod schedules;
mod sqlite;
mod support;
mod tls;
mod together;
