//! An evaluation in shares, each on a machine of its own, put together again.
//!
//! Which images a share has ([`share`]) depends on the set of images and nothing else. What was found on it
//! is one file ([`ShardFile`]), which says what it depends on and holds a checksum. [`merge`] takes files only
//! if they are of one evaluation and cover every image once; what follows is what follows inference on one
//! machine. Deliberately absent: who starts the shares, and where; queues, and anything that waits.

mod facts;
mod file;
mod merge;
mod partition;

pub use facts::{CHECKPOINT, CHECKPOINT_BLAKE3, FORM, Facts, PROCESSOR, facts_of_project};
pub use file::{ShardError, ShardFile};
pub use merge::{MergeError, Merged, merge};
pub use partition::share;
