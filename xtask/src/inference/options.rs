//! The flags of `cargo xtask bench-inference`.

use std::ffi::OsString;

use anyhow::{Context, Result, bail, ensure};

use super::{ENGINES, FEW};

pub(crate) const HELP: &str = "\
cargo xtask bench-inference [--images N] [--rounds N] [--threads N] [--engines NAME,NAME]

Times whole processes, from JPEG files of 640x480 to a results file, on the same Faster R-CNN ResNet-50-FPN with seeded
weights: torchvision eager (the yardstick) and channels_last, ONNX Runtime, OpenVINO with one stream and with one per
thread, and detgate, one after the other in every round. Prints a table in Markdown, with the largest difference
between each one's boxes and eager's. The peers' environment takes 5 GB of the cache; run nothing beside it.

  --images   photographs of each run (default 12); a second run on 2 tells what starting costs
  --rounds   runs of each engine (default 3)
  --threads  threads, workers or streams of each engine (default: as many as there are)
  --engines  only these: eager, channels-last, onnxruntime, openvino, openvino-streams, detgate
";

/// What to measure.
#[derive(Debug, PartialEq)]
pub(crate) struct Options {
    pub(crate) images: usize,
    pub(crate) rounds: usize,
    pub(crate) threads: usize,
    pub(crate) engines: Vec<&'static str>,
}

/// `None` when help was asked for.
///
/// # Errors
/// For an unknown flag, a missing value or a wrong one.
pub(crate) fn parse(args: &[OsString]) -> Result<Option<Options>> {
    let mut options = Options {
        images: 12,
        rounds: 3,
        threads: crate::peers::machine::threads(),
        engines: ENGINES.map(|(name, _)| name).to_vec(),
    };
    let mut args = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(flag) = args.next() {
        let mut value = || args.next().with_context(|| format!("`{flag}` lacks its value"));
        match flag.as_ref() {
            "--help" | "-h" => return Ok(None),
            "--images" => options.images = number(&flag, &value()?, FEW + 1)?,
            "--rounds" => options.rounds = number(&flag, &value()?, 1)?,
            "--threads" => options.threads = number(&flag, &value()?, 1)?,
            "--engines" => options.engines = engines(&value()?)?,
            _ => bail!("`bench-inference` has no flag `{flag}`\n\n{HELP}"),
        }
    }
    Ok(Some(options))
}

fn number(flag: &str, word: &str, least: usize) -> Result<usize> {
    let number = word.parse().ok().filter(|&number| number >= least);
    number.with_context(|| format!("`{flag}` is a number from {least}, not `{word}`"))
}

fn engines(words: &str) -> Result<Vec<&'static str>> {
    let names = ENGINES.map(|(name, _)| name);
    let find = |word: &str| {
        let known = names.into_iter().find(|name| *name == word.trim());
        known.with_context(|| format!("there is no engine `{word}`, only {}", names.join(", ")))
    };
    let chosen: Vec<_> = words.split(',').map(find).collect::<Result<_>>()?;
    ensure!(!chosen.is_empty(), "`--engines` names none");
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Option<Options>> {
        parse(&words.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn every_flag_is_read() {
        let words = "--images 20 --rounds 2 --threads 4 --engines eager,detgate";
        let options = parsed(&words.split(' ').collect::<Vec<_>>()).unwrap().unwrap();
        let expected =
            Options { images: 20, rounds: 2, threads: 4, engines: vec!["eager", "detgate"] };
        assert_eq!(options, expected);
        assert_eq!(parsed(&[]).unwrap().unwrap().engines.len(), ENGINES.len());
        assert_eq!(parsed(&["-h"]).unwrap(), None);
    }

    #[test]
    fn a_wrong_word_is_named() {
        for words in
            [["--images", "2"], ["--rounds", "0"], ["--engines", "eagre"], ["--fast", "yes"]]
        {
            let error = parsed(&words).unwrap_err().to_string();
            assert!(words.iter().any(|word| error.contains(word)), "{error}");
        }
    }
}
