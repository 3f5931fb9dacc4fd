//! The Pythons that the tests of registration need.

use std::io::Write;
use std::path::PathBuf;

/// A Python with the pinned MLflow, or `None` after saying that the test is skipped.
pub(crate) fn mlflow_python() -> Option<PathBuf> {
    let python = python_of("DETGATE_MLFLOW_PYTHON");
    if python.is_none() {
        skipped("needs DETGATE_MLFLOW_PYTHON, a Python with MLflow");
    }
    python
}

/// The Python that a variable names.
pub(crate) fn python_of(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|python| !python.is_empty()).map(PathBuf::from)
}

/// Says why this test does nothing. Not with eprintln!, which the test harness swallows when a test
/// passes.
pub(crate) fn skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped: {name} {why}");
}
