//! The Python that the tests of registration need.

use std::io::Write;
use std::path::PathBuf;

/// A Python with MLflow, or `None` after saying that the test is skipped.
pub(crate) fn mlflow_python() -> Option<PathBuf> {
    let python = std::env::var_os("DETGATE_MLFLOW_PYTHON").filter(|python| !python.is_empty());
    if python.is_none() {
        // Not eprintln!, which the test harness swallows when a test passes.
        let name = std::thread::current().name().unwrap_or("test").to_owned();
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {name} needs DETGATE_MLFLOW_PYTHON, a Python with MLflow"
        );
    }
    python.map(PathBuf::from)
}
