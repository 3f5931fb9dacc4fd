//! What can be wrong with a checkpoint, in sentences that name the file and what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::tensor::ViewError;

/// Why no checkpoint was found or read.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// No file matches.
    #[error("no checkpoint best_*.pt in {}; save one there, or name one with `--checkpoint FILE`", .dir.display())]
    NoneFound {
        /// The folder searched.
        dir: PathBuf,
    },
    /// The folder cannot be listed.
    #[error("cannot look for checkpoints (best_*.pt) in {}; create the folder, or name a file with `--checkpoint FILE`", .dir.display())]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be opened or mapped.
    #[error("cannot open the checkpoint {}", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is in a format that is recognised and not read.
    #[error("{} {format}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        format: ForeignFormat,
    },
    /// The zip archive is damaged.
    #[error("the checkpoint {} is damaged: {reason}; copy or save it again", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with the archive.
        reason: String,
    },
    /// The pickle asks for a Python function or class that is not on the allow-list.
    #[error(
        "the checkpoint {} asks for the Python object `{name}`, which is not among those that tensors \
         and plain values need; it was refused and nothing was executed; save only those, as in \
         torch.save({{\"model_state_dict\": model.state_dict(), ...}})",
        .path.display()
    )]
    Global {
        /// The file.
        path: PathBuf,
        /// Module and name, for example `os.system`.
        name: String,
    },
    /// The pickle cannot be read.
    #[error("cannot read the checkpoint {}: at byte {offset} of its data.pkl{near}, {reason}; save it again", .path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
        /// Where in `data.pkl`.
        offset: usize,
        /// ` (near "name")`, the dict key that was being filled, or nothing.
        near: String,
        /// What is wrong there.
        reason: PickleError,
    },
    /// The objects are well formed, but are not a detector's checkpoint.
    #[error("the checkpoint {} {reason}", .path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: ContentsError,
    },
}

/// A format that is recognised in order to say what to do, and not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ForeignFormat {
    /// A sequence of pickles.
    #[error(
        "was saved in the format from before PyTorch 1.6, which is not read; load it in Python and \
         save it again: torch.save(torch.load(path, map_location=\"cpu\"), path)"
    )]
    Legacy,
    /// A tar archive, older still.
    #[error(
        "is a tar archive, as PyTorch before 0.1.10 saved, which is not read; load it in Python and \
         save it again with torch.save"
    )]
    Tar,
    /// A compiled model.
    #[error(
        "is a TorchScript archive, not a checkpoint of parameters; evaluate it with `--torchscript FILE`"
    )]
    TorchScript,
    /// Written on a big-endian machine.
    #[error(
        "was saved with big-endian numbers, which are not read; save it on a little-endian machine"
    )]
    BigEndian,
    /// What git checks out when LFS is not installed.
    #[error("is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")]
    LfsPointer,
    /// Nothing.
    #[error("is empty; copy or save the checkpoint again")]
    Empty,
    /// None of those.
    #[error(
        "is not a PyTorch checkpoint: it is no zip archive as torch.save writes since PyTorch 1.6"
    )]
    Unknown,
}

/// What is wrong with a pickle.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PickleError {
    /// The data ends before the pickle does.
    #[error("the data ends in the middle of a pickle")]
    UnexpectedEnd,
    /// An instruction that torch.save does not write.
    #[error("the pickle instruction 0x{0:02x} is not one that torch.save writes")]
    Opcode(u8),
    /// A pickle protocol of the future.
    #[error("pickle protocol {0} is not known")]
    Protocol(u8),
    /// A function or class outside the allow-list.
    #[error("the Python object `{0}` is not allowed")]
    Global(String),
    /// An instruction finds fewer or other operands than it needs.
    #[error("the pickle is malformed: {0}")]
    Malformed(&'static str),
    /// A function of the allow-list with other arguments than torch.save writes.
    #[error("{0} was given other arguments than torch.save writes")]
    Arguments(&'static str),
    /// A tensor's bytes are not in the archive.
    #[error("the archive holds no record data/{0}")]
    MissingRecord(String),
    /// A tensor's bytes are fewer than the pickle says.
    #[error("the record data/{key} should hold {expected} bytes but holds {found}")]
    ShortRecord {
        /// The storage's key.
        key: String,
        /// Bytes that the pickle speaks of.
        expected: usize,
        /// Bytes in the archive.
        found: usize,
    },
    /// A tensor does not fit its storage.
    #[error("a tensor is impossible: {0}")]
    View(#[from] ViewError),
    /// More objects than a checkpoint needs.
    #[error("there are more than {limit} objects")]
    TooManyObjects {
        /// The limit.
        limit: usize,
    },
    /// A pickle that is longer than the pickle of any model.
    #[error("it has {length} bytes, where {limit} are more than any model needs")]
    TooLong {
        /// Bytes.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A small file that expands into a large one.
    #[error("its objects repeat more data than the file holds")]
    Expansion,
}

/// What is wrong with a checkpoint whose objects could be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ContentsError {
    /// The outermost object is not a dict.
    #[error(
        "holds a {0}, not a dict; save it as torch.save({{\"model_state_dict\": model.state_dict(), ...}})"
    )]
    NotADict(&'static str),
    /// A dict in which no state dict is found.
    #[error(
        "holds neither the key \"model_state_dict\" nor a bare state dict (names to tensors); its keys \
         are: {keys}"
    )]
    NoStateDict {
        /// The keys found.
        keys: String,
    },
    /// A parameter that is none.
    #[error("holds a {kind} where the tensor \"{name}\" of its state dict should be")]
    NotATensor {
        /// The key.
        name: String,
        /// The Python type found.
        kind: &'static str,
    },
    /// A state dict whose keys are not names.
    #[error("has a {0} among the names of its state dict, where only str are parameter names")]
    NotAName(&'static str),
    /// A parameter name of absurd length.
    #[error("has a parameter name of {0} bytes in its state dict")]
    LongName(usize),
    /// Some of the class maps are there, others are not.
    #[error(
        "holds \"model_state_dict\" but not \"{missing}\", which says what its classes mean; its keys \
         are: {keys}"
    )]
    MissingKey {
        /// The key.
        missing: &'static str,
        /// The keys found.
        keys: String,
    },
    /// A class map of another type than the notebook writes.
    #[error("holds \"{key}\" in another form than expected: {expected}")]
    ClassMap {
        /// The key.
        key: &'static str,
        /// What was expected, and what was found.
        expected: String,
    },
}

/// Text from a file as it may stand in a message: on one line, without control characters (which a
/// terminal would obey), and not long.
pub(super) fn printable(text: &str) -> String {
    const LONG: usize = 200;
    let mut shown: String = text
        .chars()
        .take(LONG)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONG).is_some() {
        shown.push_str("...");
    }
    shown
}
