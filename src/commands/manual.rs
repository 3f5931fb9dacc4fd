//! `detgate completions` and `detgate man`: the command line told to a shell, and to `man`.

use std::path::Path;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use detgate::config::{Cli, ManFlags};
use detgate::report;

/// A shell's script.
pub(crate) fn completions(shell: Shell) -> anyhow::Result<String> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "detgate", &mut script);
    Ok(String::from_utf8(script)?)
}

/// Writes the pages of all commands, or gives back that of `detgate`.
pub(crate) fn man(flags: &ManFlags, cwd: &Path) -> anyhow::Result<String> {
    // There is a page for each command; `help` would only list them again.
    let mut command = Cli::command().disable_help_subcommand(true);
    if let Some(exit_codes) = command.get_after_help().map(ToString::to_string) {
        // `man` breaks lines itself.
        let lines: Vec<&str> = exit_codes.lines().map(str::trim).collect();
        command = command.after_help(lines.join(" "));
    }
    command.build();
    let Some(folder) = &flags.folder else { return Ok(page(command)?.1) };
    for command in with_those_below(command) {
        let (name, text) = page(command)?;
        let path = cwd.join(folder).join(name);
        report::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(String::new())
}

fn with_those_below(command: clap::Command) -> Vec<clap::Command> {
    let below: Vec<clap::Command> = command.get_subcommands().cloned().collect();
    let below = below.into_iter().flat_map(with_those_below);
    std::iter::once(command.clone()).chain(below).collect()
}

/// The name of the file and what stands in it.
fn page(command: clap::Command) -> anyhow::Result<(String, String)> {
    let page = Man::new(command).source(concat!("detgate ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    page.render(&mut text)?;
    Ok((page.get_filename(), String::from_utf8(text)?))
}
