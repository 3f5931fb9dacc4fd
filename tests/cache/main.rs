//! The prediction cache: nothing is computed twice, nothing is lost, and no result is ever wrong.

mod faults;
mod files;
mod predictions;
mod support;
