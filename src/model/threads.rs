//! What every thread that runs a model needs, so that results do not depend on how many there are.

use std::cell::Cell;

use tch::{TchError, jit};

thread_local! {
    static READY: Cell<bool> = const { Cell::new(false) };
}

/// Prepares the calling thread: one intra-op thread, and TorchScript without its profiling executor,
/// which would run a model's first calls by other code than its later ones.
///
/// Detectors call this themselves; it costs nothing from the second time on.
///
/// # Errors
/// libtorch's.
pub fn init_thread() -> Result<(), TchError> {
    if READY.get() {
        return Ok(());
    }
    // OpenMP keeps its thread count per calling thread: once per process is not enough.
    tch::set_num_threads(1);
    // This is per process, ...
    jit::f_set_profiling_mode(false)?;
    // ... and this per thread.
    jit::f_set_graph_executor_optimize(false)?;
    READY.set(true);
    Ok(())
}
