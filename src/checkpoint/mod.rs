//! Finds and reads `.pt` and `.safetensors` files, without Python and without executing anything in them.
//!
//! What `torch.save` writes is a zip archive with a pickle and one record per storage. The pickle is read by a machine
//! that can only build data (`pickle`), out of names on a list (`rebuild`); tensors are views of the
//! memory-mapped file (`tensor`), as are those of `safetensors`. Deliberately absent: what the tensors mean, which is `model`'s.

mod archive;
mod pickle;
mod rebuild;
mod safetensors;
mod tensor;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, MmapMut};

use crate::config::ModelReference;
use crate::files::failed;

pub use tensor::{Dtype, StateDict, Tensor};

use archive::Archive;
use pickle::{Id, Pickle, Value};
use tensor::Bytes;

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file or folder cannot be read.
    #[error("cannot read {}: {}", path.display(), failed(error))]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The checkpoint of a registered version, which the caller has to download first.
    #[error("{0} was not downloaded")]
    Registered(ModelReference),
    /// There is no checkpoint to choose.
    #[error("no best_*.pt or best_*.safetensors in {}; train a model, or pass --checkpoint", .0.display())]
    None(PathBuf),
    /// It is not what `torch.save` writes, or holds what it must not.
    #[error("{} {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
}

/// A checkpoint's contents, as far as evaluation needs them.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The file.
    pub path: PathBuf,
    /// Parameters and buffers by path. Where every path began with `module.`, as
    /// `DataParallel` saves, that is taken off.
    pub state_dict: StateDict,
    /// The classes it was trained for; `None` for a bare state dict.
    pub classes: Option<ClassMap>,
}

/// The classes a checkpoint was trained for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassMap {
    /// Names in order.
    pub target_classes: Vec<String>,
    /// COCO category id -> the model's label.
    pub coco_to_internal: BTreeMap<i64, i64>,
    /// The model's label -> name.
    pub internal_to_name: BTreeMap<i64, String>,
}

/// The `best_*.pt` or `best_*.safetensors` in `folder` that was modified last; of equally old ones the last by name.
///
/// # Errors
/// [`CheckpointError::None`] when there is none, [`CheckpointError::Read`] when the folder cannot be
/// listed.
pub fn newest(folder: &Path) -> Result<PathBuf, CheckpointError> {
    let read = |error| CheckpointError::Read { path: folder.to_owned(), error };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(CheckpointError::None(folder.to_owned()));
        }
        Err(error) => return Err(read(error)),
    };
    let mut newest = None;
    for entry in entries {
        let path = entry.map_err(read)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_checkpoint = name.ends_with(".pt") || name.ends_with(".safetensors");
        if name.starts_with("best_") && is_checkpoint && path.is_file() {
            let modified = path.metadata().and_then(|m| m.modified()).map_err(read)?;
            newest = newest.max(Some((modified, path)));
        }
    }
    newest.map(|(_, path)| path).ok_or_else(|| CheckpointError::None(folder.to_owned()))
}

/// Reads a checkpoint: a state dict in safetensors' format; or of `torch.save` a dict with `model_state_dict`, `target_classes`, `coco_to_internal` and
/// `internal_to_name`, or a bare state dict. The file is mapped, not copied; other entries are read
/// past.
///
/// # Errors
/// [`CheckpointError`], naming `path` and what is wrong with it.
pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    parsed(path, map, |_| Ok(()))
}

/// As [`load`], with a copy of the whole file in memory: whoever writes to it while the weights are used changes nothing,
/// and who cuts it short does not end this process. The records that `torch.save` wrote must be as their checksums say.
///
/// # Errors
/// As [`load`].
pub fn load_copied(path: &Path) -> Result<Checkpoint, CheckpointError> {
    parsed(path, copied, Archive::verify)
}

/// A file's bytes, or what is wrong with it.
type Content = std::io::Result<Result<Arc<Mmap>, String>>;

fn parsed(
    path: &Path,
    content: fn(&Path) -> Content,
    check: fn(&Archive) -> Result<(), String>,
) -> Result<Checkpoint, CheckpointError> {
    let map =
        content(path).map_err(|error| CheckpointError::Read { path: path.to_owned(), error })?;
    let parsed = map.and_then(|map| match safetensors::recognise(&map) {
        true => Ok((without_wrappers(safetensors::read(&map)?), None)),
        false => {
            let archive = Archive::read(map)?;
            check(&archive)?;
            parse(&archive)
        }
    });
    let (state_dict, classes) =
        parsed.map_err(|what| CheckpointError::Invalid { path: path.to_owned(), what })?;
    Ok(Checkpoint { path: path.to_owned(), state_dict, classes })
}

fn copied(path: &Path) -> Content {
    let mut file = match opened(path)? {
        Ok(file) => file,
        Err(what) => return Ok(Err(what)),
    };
    let mut memory = MmapMut::map_anon(file.metadata()?.len() as usize)?;
    if file.read_exact(&mut memory).is_err() {
        return Ok(Err(
            "became shorter while it was read; evaluate it again when it is complete".to_owned()
        ));
    }
    Ok(Ok(Arc::new(memory.make_read_only()?)))
}

fn map(path: &Path) -> Content {
    let file = match opened(path)? {
        Ok(file) => file,
        Err(what) => return Ok(Err(what)),
    };
    // SAFETY: the map is read only, and short-lived where weights are used ([`load_copied`]). A file that is cut short
    // while its names are read would end the process.
    Ok(Ok(Arc::new(unsafe { Mmap::map(&file)? })))
}

/// The file, if it is one and holds something.
fn opened(path: &Path) -> std::io::Result<Result<File, String>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(Err("is not a file; name the .pt file itself".to_owned()));
    }
    if metadata.len() == 0 {
        return Ok(Err("is empty; copy it again".to_owned()));
    }
    Ok(Ok(file))
}

impl rebuild::Storages for Archive {
    fn storage(&self, key: &str) -> Option<Bytes> {
        self.record(&format!("data/{key}"))
    }
}

fn parse(archive: &Archive) -> Result<(StateDict, Option<ClassMap>), String> {
    let data = archive.record("data.pkl").ok_or("holds no data.pkl")?;
    let pickle = Pickle::read(data.get(), archive)?;
    let Value::Dict(entries) = pickle.value(pickle.root) else {
        return Err("holds no dict; save model.state_dict(), not the model".to_owned());
    };
    for key in WEIGHT_KEYS {
        let Some(weights) = pickle.get(pickle.root, key) else { continue };
        let Value::Dict(entries) = pickle.value(weights) else {
            return Err(format!("has a {key:?} that is no dict"));
        };
        return Ok((state_dict(&pickle, entries)?, class_map(&pickle)?));
    }
    let is_tensor = |&(_, value): &(Id, Id)| matches!(pickle.value(value), Value::Tensor(_));
    if entries.is_empty() || !entries.iter().all(is_tensor) {
        let keys: Vec<&str> = entries.iter().filter_map(|(key, _)| pickle.str(*key)).collect();
        return Err(format!(
            "is neither a state dict nor a dict with \"model_state_dict\"; its keys are {keys:?}"
        ));
    }
    Ok((state_dict(&pickle, entries)?, None))
}

fn state_dict(pickle: &Pickle, entries: &[(Id, Id)]) -> Result<StateDict, String> {
    let mut tensors = StateDict::new();
    for &(key, value) in entries {
        let name = pickle.str(key).ok_or("has a parameter whose name is no text")?;
        let Value::Tensor(tensor) = pickle.value(value) else {
            return Err(format!("has a parameter {name} that is no tensor"));
        };
        tensors.insert(name.to_owned(), tensor.clone());
    }
    Ok(without_wrappers(tensors))
}

/// Takes off what stands before every name: `DataParallel`'s and `torch.compile`'s, and the attribute of a Lightning
/// module.
fn without_wrappers(mut tensors: StateDict) -> StateDict {
    let wrapper = |tensors: &StateDict| {
        let all = |prefix: &&str| tensors.keys().all(|name| name.starts_with(*prefix));
        ["module.", "_orig_mod.", "model."].into_iter().find(all).filter(|_| !tensors.is_empty())
    };
    while let Some(prefix) = wrapper(&tensors) {
        let named = tensors.into_iter();
        tensors = named.map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
    }
    tensors
}

/// Under which key a checkpoint has its weights: the notebook's, that of torchvision's training script, Lightning's.
const WEIGHT_KEYS: [&str; 3] = ["model_state_dict", "model", "state_dict"];

const CLASS_KEYS: [&str; 3] = ["target_classes", "coco_to_internal", "internal_to_name"];

/// All three entries or none: a checkpoint with some of them is damaged.
fn class_map(pickle: &Pickle) -> Result<Option<ClassMap>, String> {
    let found = CLASS_KEYS.map(|key| pickle.get(pickle.root, key));
    let [Some(targets), Some(to_internal), Some(to_name)] = found else {
        let missing = std::iter::zip(CLASS_KEYS, found).find(|(_, id)| id.is_none());
        return match (missing, found.iter().flatten().next()) {
            (Some((key, _)), Some(_)) => {
                Err(format!("has no {key:?} beside its other class entries"))
            }
            _ => Ok(None),
        };
    };
    let text = |id: Id| pickle.str(id).map(str::to_owned);
    let names = match pickle.value(targets) {
        Value::Sequence(items) => items.iter().map(|&id| text(id)).collect(),
        _ => None,
    };
    let wrong = |key: &str, what: &str| format!("has a {key:?} that is not {what}");
    Ok(Some(ClassMap {
        target_classes: names.ok_or_else(|| wrong(CLASS_KEYS[0], "a list of names"))?,
        coco_to_internal: int_keyed(pickle, to_internal, |id| int(pickle, id))
            .ok_or_else(|| wrong(CLASS_KEYS[1], "a dict from category ids to labels"))?,
        internal_to_name: int_keyed(pickle, to_name, text)
            .ok_or_else(|| wrong(CLASS_KEYS[2], "a dict from labels to names"))?,
    }))
}

/// A dict whose keys are integers or, as after a journey through JSON, their decimal text.
fn int_keyed<T>(
    pickle: &Pickle,
    dict: Id,
    value: impl Fn(Id) -> Option<T>,
) -> Option<BTreeMap<i64, T>> {
    let Value::Dict(entries) = pickle.value(dict) else {
        return None;
    };
    entries.iter().map(|&(k, v)| Some((int(pickle, k)?, value(v)?))).collect()
}

fn int(pickle: &Pickle, id: Id) -> Option<i64> {
    match pickle.value(id) {
        Value::Int(n) => Some(*n),
        Value::Str(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrappers_put_before_every_name_is_taken_off() {
        let of = |names: &[&str]| {
            let one = Tensor::from_f32(&[1], vec![1.0]);
            let all = names.iter().map(|name| (name.to_string(), one.clone())).collect();
            without_wrappers(all).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(of(&["module.a", "module.b.c"]), ["a", "b.c"]);
        assert_eq!(of(&["model._orig_mod.a", "model._orig_mod.b"]), ["a", "b"]);
        // A model with a part of that name keeps it.
        assert_eq!(of(&["model.a", "b"]), ["b", "model.a"]);
        assert!(of(&[]).is_empty());
    }
}
