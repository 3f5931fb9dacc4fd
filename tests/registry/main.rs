//! Registration against real MLflow servers, from the pinned environment that `cargo xtask test` provides in
//! `DETGATE_MLFLOW_PYTHON`. Without it each test says on stderr that it was skipped.

#![cfg(feature = "mlflow")]

mod databases;
mod faults;
mod http;
mod processes;
mod sqlite;
mod support;
