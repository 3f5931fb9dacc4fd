//! Completions and man pages as their users have them: in a shell, and through `man`'s own formatter.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use clap::CommandFactory;
use detgate::config::Cli;

fn detgate(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_detgate"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a program of this machine says; `None` after saying that the test is skipped without it.
fn ran(program: &str, arguments: &[&str], folder: &Path) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            use std::io::Write;
            let name = std::thread::current().name().unwrap_or("test").to_owned();
            let _ = writeln!(std::io::stderr(), "skipped: {name} needs {program}");
            None
        }
        output => Some(output.unwrap()),
    }
}

/// Asks the function that bash would ask at the tabulator key.
const ASK: &str = r#"
source ./detgate.bash
set -- $(complete -p detgate)
while [ "$1" != -F ]; do shift; done
answer() {
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
    "$function" detgate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
    echo "${COMPREPLY[*]}"
}
function=$2
answer detgate comp
answer detgate report --form
answer detgate report --format ju
answer detgate registry s
answer detgate completions z
"#;

#[test]
fn bash_completes_commands_flags_and_their_values() {
    let folder = tempfile::tempdir().unwrap();
    let script = detgate(&["completions", "bash"], folder.path());
    std::fs::write(folder.path().join("detgate.bash"), script).unwrap();
    let Some(output) = ran("bash", &["--norc", "-euc", ASK], folder.path()) else { return };
    let said = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((errors.as_str(), output.status.code()), ("", Some(0)));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines, ["compare completions", "--format", "junit", "show", "zsh"]);
}

#[test]
fn every_shell_has_a_script_that_names_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let commands: Vec<String> =
        Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
    assert!(commands.len() >= 12, "{commands:?}");
    let scripts = ["bash", "zsh", "fish", "powershell", "elvish"].map(|shell| {
        let script = detgate(&["completions", shell], folder.path());
        for command in &commands {
            assert!(script.contains(command), "{shell} lacks {command}");
        }
        (shell, script)
    });
    // Those shells that are there read their scripts without a word.
    for (shell, script) in scripts {
        std::fs::write(folder.path().join(shell), script).unwrap();
        if ["bash", "zsh", "fish"].contains(&shell)
            && let Some(output) = ran(shell, &["-n", shell], folder.path())
        {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.is_empty(), "{shell}: {said}");
        }
    }
}

/// The names of a command and all below it, as `man` knows them: `detgate-cache-gc`.
fn names(command: &clap::Command, above: &str, found: &mut Vec<String>) {
    let name = match above {
        "" => command.get_name().to_owned(),
        above => format!("{above}-{}", command.get_name()),
    };
    command.get_subcommands().for_each(|below| names(below, &name, found));
    found.push(name);
}

fn pages(folder: &Path) -> Vec<String> {
    let entries = folder.read_dir().unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_command_has_a_page_and_equal_programs_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(detgate(&["man", "share/man1"], folder.path()), "");
    let written = folder.path().join("share/man1");
    let mut wanted = Vec::new();
    names(&Cli::command(), "", &mut wanted);
    let mut wanted: Vec<String> = wanted.iter().map(|name| format!("{name}.1")).collect();
    wanted.sort();
    assert!(wanted.len() >= 20, "{wanted:?}");
    assert_eq!(pages(&written), wanted);
    let main = std::fs::read_to_string(written.join("detgate.1")).unwrap();
    assert_eq!(detgate(&["man"], folder.path()), main);
    let read = || pages(&written).iter().map(|n| std::fs::read(written.join(n)).unwrap()).collect();
    let before: Vec<Vec<u8>> = read();
    detgate(&["man", "share/man1"], folder.path());
    assert!(before == read());
}

#[test]
fn man_renders_every_page_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    detgate(&["man", "."], folder.path());
    for page in pages(folder.path()) {
        let arguments = ["-man", "-ww", "-Tutf8", "-P-cbou", &page];
        let Some(output) = ran("groff", &arguments, folder.path()) else { return };
        let warnings = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && warnings.is_empty(), "{page}: {warnings}");
        // As one line, and words that are broken at its end made whole.
        let text = String::from_utf8(output.stdout).unwrap().replace("\u{2010}\n", "\u{2010}");
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("\u{2010} ", "");
        let name = page.strip_suffix(".1").unwrap();
        assert!(text.contains("NAME") && text.contains(name), "{page}: {text}");
        if name == "detgate" {
            assert!(text.contains("Exit codes: 0 passed, 1 regressed, 2 could"), "{text}");
            assert!(text.contains("comparable with it, 70 a bug"), "{text}");
        }
    }
}
