//! The flags of the commands that tell of detgate itself: schemas, completions, man pages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use clap_complete::Shell;

/// `detgate schema`.
#[derive(Debug, Args)]
pub struct SchemaFlags {
    /// Of which file
    #[arg(value_name = "FILE")]
    pub of: SchemaOf,
}

/// What has a JSON Schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// detgate.toml.
    Config,
    /// The JSON report of eval, merge and compare.
    Report,
}

/// `detgate completions`.
#[derive(Debug, Args)]
pub struct CompletionsFlags {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// `detgate man`.
#[derive(Debug, Args)]
pub struct ManFlags {
    /// Write a page for detgate and one for each of its commands there, such as ~/.local/share/man/man1 [default:
    /// print that of detgate]
    #[arg(value_name = "DIR")]
    pub folder: Option<PathBuf>,
}
