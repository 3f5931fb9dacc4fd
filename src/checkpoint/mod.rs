//! Finds and reads `.pt` files without Python and without executing anything in them.
//!
//! A checkpoint is what `torch.save` has written since PyTorch 1.6: a zip archive (`archive`) with
//! one pickle, `data.pkl` (`pickle`), whose objects (`value`) are plain data and calls of functions
//! from a closed list (`rebuild`). Tensors (`tensor`) are views of the file's memory map; loading
//! reads the directory and the pickle, not the weights.
//!
//! The file may come from anywhere: every length, index, shape and stride is checked before use,
//! objects and repetition are limited, nothing recurses, and whatever is wrong comes back as a
//! [`CheckpointError`].
//!
//! Of the crates that read these files (`candle-core`, `burn-store` with its `pytorch-reader`,
//! `repugnant-pickle`, `tch` itself), `pytorch-reader` 0.22 comes nearest; but it keeps unknown
//! globals and numpy scalars as opaque values instead of refusing or reading them, and copies each
//! tensor out of the file instead of mapping it, so the reading is done here.
//!
//! Deliberately absent: writing; the format from before PyTorch 1.6; TorchScript, which `model`
//! loads with libtorch; any judgement of whether the tensors make a model, which is `model`'s.

mod archive;
mod contents;
mod error;
#[cfg(test)]
mod object_tests;
mod pickle;
mod rebuild;
mod tensor;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

pub use error::{CheckpointError, ContentsError, ForeignFormat, PickleError};
pub use tensor::{Dtype, StateDict, Tensor, ViewError};

use archive::Archive;

/// Longer than the pickle of any model: a state dict of 300 tensors has 50 kB. It bounds the memory
/// that a hostile pickle can ask for before another limit stops it.
const MAX_PICKLE_BYTES: usize = 128 << 20;

/// A detector's checkpoint.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The file.
    pub path: PathBuf,
    /// Parameters and buffers, without the `module.` that `torch.nn.DataParallel` puts before all
    /// names.
    pub state_dict: StateDict,
    /// What the classes mean; `None` for a bare state dict, which does not say.
    pub classes: Option<ClassMap>,
}

/// The meaning of a detector's class numbers, as the notebook saves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMap {
    /// The names of the classes, in the order in which the model was trained.
    pub target_classes: Vec<String>,
    /// From COCO category ids to the model's labels.
    pub coco_to_internal: BTreeMap<i64, i64>,
    /// From the model's labels to names.
    pub internal_to_name: BTreeMap<i64, String>,
}

/// The newest `best_*.pt` in `dir` by modification time; of several with the same time, the one
/// whose name sorts last.
///
/// # Errors
/// When the folder cannot be listed or holds none.
pub fn newest(dir: &Path) -> Result<PathBuf, CheckpointError> {
    let failed = |source| CheckpointError::Folder {
        dir: dir.to_owned(),
        source,
    };
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // A link that leads nowhere is no checkpoint; one that leads to a file is.
        let Some(metadata) = std::fs::metadata(&path).ok().filter(|m| m.is_file()) else {
            continue;
        };
        if !is_best(&path) {
            continue;
        }
        let candidate = (metadata.modified().map_err(failed)?, path);
        newest = newest.max(Some(candidate));
    }
    newest
        .map(|(_, path)| path)
        .ok_or_else(|| CheckpointError::NoneFound {
            dir: dir.to_owned(),
        })
}

/// Whether the file is named `best_*.pt`.
fn is_best(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.is_some_and(|name| {
        name.strip_prefix("best_")
            .and_then(|rest| rest.strip_suffix(".pt"))
            .is_some()
    })
}

/// Reads a checkpoint. The tensors stay in the file, which must not be changed while they are used.
///
/// Accepted are the notebook's dict (`model_state_dict` and, all or none of them, `target_classes`,
/// `coco_to_internal`, `internal_to_name`; any other key is read past) and a bare state dict.
///
/// # Errors
/// When the file cannot be opened, is in another format, is damaged, names a Python object outside
/// the allow-list, or holds something else than a checkpoint. Each names the file.
pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let archive = Archive::open(path)?;
    let bytes = archive.record("data.pkl").unwrap_or_default();
    let calls = rebuild::Calls::new(&archive, bytes.len());
    let (heap, root) = check_length(bytes)
        .and_then(|()| pickle::load(bytes, calls))
        .map_err(|failure| refused(path, failure))?;
    let (state_dict, classes) =
        contents::interpret(&heap, root).map_err(|reason| CheckpointError::Contents {
            path: path.to_owned(),
            reason,
        })?;
    Ok(Checkpoint {
        path: path.to_owned(),
        state_dict,
        classes,
    })
}

fn check_length(bytes: &[u8]) -> Result<(), pickle::Failure> {
    if bytes.len() <= MAX_PICKLE_BYTES {
        return Ok(());
    }
    let reason = PickleError::TooLong {
        length: bytes.len(),
        limit: MAX_PICKLE_BYTES,
    };
    Err(pickle::Failure {
        offset: 0,
        near: None,
        reason,
    })
}

/// Gives a failure its file. A refused global is told apart: the file is not broken.
fn refused(path: &Path, failure: pickle::Failure) -> CheckpointError {
    let path = path.to_owned();
    match failure.reason {
        PickleError::Global(name) => CheckpointError::Global { path, name },
        reason => {
            let near = failure.near.map_or(String::new(), |near| {
                format!(" (near \"{}\")", error::printable(&near))
            });
            CheckpointError::Pickle {
                path,
                offset: failure.offset,
                near,
                reason,
            }
        }
    }
}
