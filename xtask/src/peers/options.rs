//! The flags of `cargo xtask bench-peers`.

use std::ffi::OsString;

use anyhow::{Context, Result, bail, ensure};

use super::data::{Digits, SMALL, Size, TENFOLD, VAL};
use super::engines::ENGINES;

pub(crate) const HELP: &str = "\
cargo xtask bench-peers [--size small|val|10x|both] [--rounds N] [--peers NAME,NAME] [--digits rounded|full]
                        [--polygons] [--all] | --bootstrap [--rounds N]

Times whole processes, from two JSON files on disk to COCO's 12 numbers: detgate and the other engines, each in an
environment of its own in the cache, one after the other in every round. Prints a table in Markdown.
The environments take 1 GB of the cache, the files of 10x half a gigabyte.

  --size      small: 500 images with 50,000 detections, to try it out; val: 5,000 images with 500,000, like COCO's;
              10x: 50,000 images with 5,000,000; both (the default): val and 10x
  --rounds    timed runs of each engine (default 5); an engine whose first run takes longer than 20 s has that one only
  --peers     only these, beside detgate (default: all)
  --digits    how detections are written; rounded (the default): boxes with 2 decimals, scores with 5; full: every digit
  --polygons  with polygons in the ground truth, which box metrics only have to skip
  --bootstrap instead of all this: `detgate compare` with 1,000 paired replicates at val, against hotcoco's; 6 minutes
  --all       at 10x also the engines that take minutes and tens of gigabytes there
";

/// What to measure.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) sizes: Vec<Size>,
    pub(crate) rounds: usize,
    /// Names in [`ENGINES`]; detgate is always measured.
    pub(crate) peers: Vec<String>,
    pub(crate) digits: Digits,
    pub(crate) polygons: bool,
    pub(crate) all: bool,
    pub(crate) bootstrap: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            sizes: vec![VAL, TENFOLD],
            rounds: 5,
            peers: ENGINES.iter().map(|engine| engine.name.to_owned()).collect(),
            digits: Digits::Rounded,
            polygons: false,
            all: false,
            bootstrap: false,
        }
    }
}

/// `None` when help was asked for.
///
/// # Errors
/// For an unknown flag, a missing value or a wrong one.
pub(crate) fn parse(args: &[OsString]) -> Result<Option<Options>> {
    let mut options = Options::default();
    let mut args = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(flag) = args.next() {
        let mut value = || args.next().with_context(|| format!("`{flag}` lacks its value"));
        match flag.as_ref() {
            "--help" | "-h" => return Ok(None),
            "--polygons" => options.polygons = true,
            "--all" => options.all = true,
            "--bootstrap" => options.bootstrap = true,
            "--size" => options.sizes = sizes(&value()?)?,
            "--rounds" => options.rounds = rounds(&value()?)?,
            "--peers" => options.peers = peers(&value()?)?,
            "--digits" => options.digits = digits(&value()?)?,
            _ => bail!("`bench-peers` has no flag `{flag}`\n\n{HELP}"),
        }
    }
    Ok(Some(options))
}

fn sizes(word: &str) -> Result<Vec<Size>> {
    Ok(match word {
        "small" => vec![SMALL],
        "val" => vec![VAL],
        "10x" => vec![TENFOLD],
        "both" => vec![VAL, TENFOLD],
        _ => bail!("`--size` is small, val, 10x or both, not `{word}`"),
    })
}

fn rounds(word: &str) -> Result<usize> {
    let count = word.parse().ok().filter(|&count| count > 0);
    count.with_context(|| format!("`--rounds` is a number from 1, not `{word}`"))
}

fn peers(words: &str) -> Result<Vec<String>> {
    let names: Vec<String> = words.split(',').map(|name| name.trim().to_owned()).collect();
    for name in &names {
        let known: Vec<&str> = ENGINES.iter().map(|engine| engine.name).collect();
        ensure!(
            known.contains(&name.as_str()),
            "there is no peer `{name}`, only {}",
            known.join(", ")
        );
    }
    Ok(names)
}

fn digits(word: &str) -> Result<Digits> {
    Ok(match word {
        "rounded" => Digits::Rounded,
        "full" => Digits::Full,
        _ => bail!("`--digits` is rounded or full, not `{word}`"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Options>> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn every_flag_is_read() {
        let words = "--size 10x --rounds 2 --peers hotcoco,vernier-cli --digits full --polygons --all \
             --bootstrap";
        let options = parsed(&words.split(' ').collect::<Vec<_>>()).unwrap().unwrap();
        let expected = Options {
            sizes: vec![TENFOLD],
            rounds: 2,
            peers: vec!["hotcoco".into(), "vernier-cli".into()],
            digits: Digits::Full,
            polygons: true,
            all: true,
            bootstrap: true,
        };
        assert_eq!(options, expected);
        assert_eq!(parsed(&[]).unwrap(), Some(Options::default()));
        assert_eq!(parsed(&["--rounds", "2", "-h"]).unwrap(), None);
    }

    #[test]
    fn a_wrong_word_is_named() {
        for words in [
            ["--rounds", "0"],
            ["--peers", "hotcocoa"],
            ["--size", "huge"],
            ["--digits", "three"],
            ["--frobnicate", "yes"],
        ] {
            let error = parsed(&words).unwrap_err().to_string();
            assert!(words.iter().any(|word| error.contains(word)), "{error}");
        }
        assert!(parsed(&["--peers"]).unwrap_err().to_string().contains("--peers"));
    }
}
