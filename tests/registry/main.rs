//! Registration against real MLflow servers, from the pinned environment that `cargo xtask test`
//! provides in `DETGATE_MLFLOW_PYTHON`. Without it each test says on stderr that it was skipped.
//! Linux only, because whether processes are left behind is read from `/proc`.

#![cfg(all(feature = "mlflow", target_os = "linux"))]

mod databases;
mod faults;
mod http;
#[path = "../common/mlflow.rs"]
mod mlflow;
mod processes;
mod sqlite;
mod support;
