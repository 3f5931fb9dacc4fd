//! `detgate cache`: what is kept of earlier runs, and how it goes.

use anyhow::Context;
use detgate::config::{ByteSize, CacheCommand, Environment};
use detgate::inference::cache::{gc, list};
use detgate::report::cache_text;

/// Lists or removes; returns what to print.
pub(crate) fn run(command: CacheCommand, environment: &Environment) -> anyhow::Result<String> {
    let folder = environment.cache.as_ref();
    let folder = folder.context("cannot tell where your cache folder is: set DETGATE_CACHE_DIR")?;
    let folder = folder.join("predictions");
    let failed = || format!("cannot read the cache {}", folder.display());
    match command {
        CacheCommand::Ls => Ok(cache_text::list(&folder, &list(&folder).with_context(failed)?)),
        CacheCommand::Gc { max_size, all } => {
            let ByteSize(limit) = if all { ByteSize(0) } else { max_size.unwrap_or_default() };
            Ok(cache_text::removed(&gc(&folder, limit, None).with_context(failed)?))
        }
    }
}
