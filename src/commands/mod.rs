//! The commands that are more than a call into the library.

mod baseline;
pub(crate) mod bless;
pub(crate) mod cache;
pub(crate) mod compare;
pub(crate) mod eval;
pub(crate) mod interrupt;
pub(crate) mod launch;
pub(crate) mod manual;
pub(crate) mod merge;
pub(crate) mod metrics;
mod named;
mod origin;
mod page;
mod partial;
mod predictions;
mod register;
mod registered;
pub(crate) mod registry;
pub(crate) mod report;
mod shard;
mod target;
