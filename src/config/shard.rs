//! Which share of the images a machine evaluates: what the user says, or what the engine that started it says.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ConfigError;

/// More shares than that are a mistake of whoever wrote the number.
const MOST: u32 = 100_000;

/// One of `count` shares of the images, counted from 1; written `3/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    count: u32,
}

impl Shard {
    /// `None` unless `1 <= index <= count <= 100000`.
    pub fn new(index: u32, count: u32) -> Option<Self> {
        ((1..=count).contains(&index) && count <= MOST).then_some(Self { index, count })
    }

    /// Which it is, from 1.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Where the files of `count` shares are in the project, unless the user says otherwise. `merge` takes a
    /// folder, so shares of another number, from an earlier evaluation, are in another one.
    pub fn usual_folder(count: u32) -> PathBuf {
        format!("reports/shards/of-{count}").into()
    }

    /// Where its file is in the project, unless the user says otherwise.
    pub fn usual_file(self) -> PathBuf {
        Self::usual_folder(self.count).join(format!("{}-of-{}.shard", self.index, self.count))
    }

    /// Which share a file has the usual name of.
    pub fn of_file(path: &Path) -> Option<Self> {
        let (index, count) = path.file_stem()?.to_str()?.split_once("-of-")?;
        Self::new(index.parse().ok()?, count.parse().ok()?)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let (index, count) = text.split_once('/')?;
            Self::new(index.trim().parse().ok()?, count.trim().parse().ok()?)
        };
        parsed().ok_or_else(|| "it must be I/N with I from 1 to N, such as 3/8, or auto".to_owned())
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

/// `--shard` as it was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardFlag {
    /// `I/N`.
    Named(Shard),
    /// `auto`: the variables of the engine say it.
    Auto,
}

impl FromStr for ShardFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text.parse().map(Self::Named),
        }
    }
}

/// A share of the images, and where what was found on it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardConfig {
    /// Which.
    pub shard: Shard,
    /// The file that is written.
    pub file: PathBuf,
}

/// An engine that starts the same command many times and tells each which it is.
struct Engine {
    name: &'static str,
    /// The variable with the index, and that with the count.
    variables: [&'static str; 2],
    /// What the first index is.
    first: u32,
}

/// Slurm's are read by [`slurm`]. Kubernetes tells an indexed job's pod its index only; the manifest has to
/// say the count. GitHub has no variables: its workflow says `--shard` itself.
const ENGINES: [Engine; 4] = [
    Engine { name: "Kubernetes", variables: ["JOB_COMPLETION_INDEX", "DETGATE_SHARDS"], first: 0 },
    Engine { name: "GitLab", variables: ["CI_NODE_INDEX", "CI_NODE_TOTAL"], first: 1 },
    Engine {
        name: "Buildkite",
        variables: ["BUILDKITE_PARALLEL_JOB", "BUILDKITE_PARALLEL_JOB_COUNT"],
        first: 0,
    },
    Engine { name: "CircleCI", variables: ["CIRCLE_NODE_INDEX", "CIRCLE_NODE_TOTAL"], first: 0 },
];

const SLURM_ID: &str = "SLURM_ARRAY_TASK_ID";
const SLURM: [&str; 4] = [
    "SLURM_ARRAY_TASK_COUNT",
    "SLURM_ARRAY_TASK_MIN",
    "SLURM_ARRAY_TASK_MAX",
    "SLURM_ARRAY_TASK_STEP",
];

/// The variables by which engines tell a process which one it is; those that are set.
pub(super) fn variables(get: impl Fn(&str) -> Option<String>) -> Vec<(&'static str, String)> {
    let names = ENGINES.iter().flat_map(|engine| engine.variables);
    let names = names.chain([SLURM_ID]).chain(SLURM);
    names.filter_map(|name| Some((name, get(name)?))).collect()
}

/// What the engine that started this process says.
///
/// # Errors
/// [`ConfigError::Shard`], where none says something, several say different things, or what one says makes no sense.
pub(super) fn of_engine(variables: &[(&'static str, String)]) -> Result<Shard, ConfigError> {
    let get = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    };
    let mut said = Vec::new();
    if get(SLURM_ID).is_some() {
        said.push(("Slurm", slurm(get)?));
    }
    for engine in ENGINES.iter().filter(|engine| get(engine.variables[0]).is_some()) {
        said.push((engine.name, engine.shard(get)?));
    }
    // Services say 1/1 of every job, and schedulers hand on what the submitting job was told.
    if said.iter().any(|(_, shard)| shard.count() > 1) {
        said.retain(|(_, shard)| shard.count() > 1);
    }
    said.dedup_by_key(|(_, shard)| *shard);
    match said[..] {
        [] => Err(ConfigError::Shard(
            "no variable of Slurm, Kubernetes, GitLab, Buildkite or CircleCI says which share this is: pass --shard I/N"
                .to_owned(),
        )),
        [(_, shard)] => Ok(shard),
        [(one, first), (other, second), ..] => Err(ConfigError::Shard(format!(
            "the variables of {one} say {first}, those of {other} {second}: pass --shard I/N"
        ))),
    }
}

impl Engine {
    fn shard<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> Result<Shard, ConfigError> {
        let [index, count] = self.variables.map(|name| (name, get(name)));
        let shard = || {
            let index = index.1?.parse::<u32>().ok()?.checked_sub(self.first)?;
            Shard::new(index.checked_add(1)?, count.1?.parse().ok()?)
        };
        shard().ok_or_else(|| senseless(self.name, [index, count].into_iter()))
    }
}

/// Tasks of an array are numbered as its user likes, in equal steps.
fn slurm<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Shard, ConfigError> {
    let shard = || {
        let number = |name: &str| get(name)?.parse::<u32>().ok();
        let [count, min, max, step] = SLURM.map(number);
        let (min, step) = (min?, step.unwrap_or(1).max(1));
        let steps = number(SLURM_ID)?.checked_sub(min)?;
        // A list such as 1,2,7 has no order that its tasks could know.
        let last = max?.checked_sub(min)? / step;
        let is_even = last.checked_add(1)? == count? && steps.is_multiple_of(step);
        Shard::new((steps / step).checked_add(1)?, count?).filter(|_| is_even)
    };
    let all = std::iter::once(SLURM_ID).chain(SLURM);
    shard().ok_or_else(|| senseless("Slurm", all.map(|name| (name, get(name)))))
}

fn senseless<'a>(
    engine: &str,
    variables: impl Iterator<Item = (&'static str, Option<&'a str>)>,
) -> ConfigError {
    let said = variables.map(|(name, value)| match value {
        Some(value) => format!("{name}={value}"),
        None => format!("no {name}"),
    });
    let said = said.collect::<Vec<_>>().join(", ");
    ConfigError::Shard(format!(
        "{engine} does not say which of how many equal shares this is ({said}): pass --shard I/N"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&str, &str)]) -> Result<String, String> {
        let get = |name: &str| {
            pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        of_engine(&variables(get)).map(|shard| shard.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_share_is_written_from_one() {
        assert_eq!("3/8".parse(), Ok(Shard { index: 3, count: 8 }));
        for odd in ["0/8", "9/8", "3", "a/b", "-1/2", "1/0", ""] {
            assert!(odd.parse::<Shard>().unwrap_err().contains("I from 1 to N"), "{odd}");
        }
        assert_eq!("auto".parse(), Ok(ShardFlag::Auto));
    }

    #[test]
    fn a_file_of_the_usual_name_tells_its_share() {
        let shard = Shard { index: 3, count: 8 };
        assert_eq!(Shard::of_file(&shard.usual_file()), Some(shard));
        for odd in ["x.shard", "9-of-8.shard", "3-of-8-of-9.shard", "a-of-b.shard", ""] {
            assert_eq!(Shard::of_file(Path::new(odd)), None, "{odd}");
        }
    }

    #[test]
    fn engines_that_agree_or_say_one_of_one_are_no_contradiction() {
        let circle = [("CIRCLE_NODE_INDEX", "0"), ("CIRCLE_NODE_TOTAL", "1")];
        let gitlab = [("CI_NODE_INDEX", "3"), ("CI_NODE_TOTAL", "5")];
        let pod = [("JOB_COMPLETION_INDEX", "2"), ("DETGATE_SHARDS", "5")];
        assert_eq!(said(&[circle, gitlab].concat()), Ok("3/5".into()));
        assert_eq!(said(&[gitlab, pod].concat()), Ok("3/5".into()));
        assert_eq!(said(&[circle, gitlab, pod].concat()), Ok("3/5".into()));
        assert_eq!(said(&circle), Ok("1/1".into()));
        let huge = [
            ("SLURM_ARRAY_TASK_ID", "4294967295"),
            ("SLURM_ARRAY_TASK_MIN", "0"),
            ("SLURM_ARRAY_TASK_MAX", "4294967295"),
            ("SLURM_ARRAY_TASK_COUNT", "1"),
        ];
        assert!(said(&huge).unwrap_err().contains("Slurm does not say"));
    }

    #[test]
    fn every_engine_is_understood() {
        let slurm = |id, min, max, step, count| {
            said(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_MAX", max),
                ("SLURM_ARRAY_TASK_STEP", step),
                ("SLURM_ARRAY_TASK_COUNT", count),
            ])
        };
        assert_eq!(slurm("0", "0", "7", "1", "8"), Ok("1/8".into()));
        assert_eq!(slurm("15", "1", "15", "2", "8"), Ok("8/8".into()));
        assert_eq!(
            said(&[("JOB_COMPLETION_INDEX", "2"), ("DETGATE_SHARDS", "5")]),
            Ok("3/5".into())
        );
        assert_eq!(said(&[("CI_NODE_INDEX", "2"), ("CI_NODE_TOTAL", "5")]), Ok("2/5".into()));
        let buildkite = [("BUILDKITE_PARALLEL_JOB", "4"), ("BUILDKITE_PARALLEL_JOB_COUNT", "5")];
        assert_eq!(said(&buildkite), Ok("5/5".into()));
        assert_eq!(
            said(&[("CIRCLE_NODE_INDEX", "0"), ("CIRCLE_NODE_TOTAL", "1")]),
            Ok("1/1".into())
        );
        let uneven = slurm("7", "1", "7", "1", "3").unwrap_err();
        assert!(uneven.contains("SLURM_ARRAY_TASK_MAX=7"), "{uneven}");
    }

    #[test]
    fn what_makes_no_sense_is_said_with_the_variables() {
        let text = said(&[("JOB_COMPLETION_INDEX", "2")]).unwrap_err();
        assert!(text.contains("JOB_COMPLETION_INDEX=2, no DETGATE_SHARDS"), "{text}");
        let text = said(&[("CI_NODE_INDEX", "6"), ("CI_NODE_TOTAL", "5")]).unwrap_err();
        assert!(text.contains("CI_NODE_INDEX=6"), "{text}");
        assert!(said(&[]).unwrap_err().contains("pass --shard I/N"));
        let both = [
            ("CI_NODE_INDEX", "1"),
            ("CI_NODE_TOTAL", "5"),
            ("JOB_COMPLETION_INDEX", "2"),
            ("DETGATE_SHARDS", "5"),
        ];
        assert!(said(&both).unwrap_err().contains("Kubernetes say 3/5, those of GitLab 1/5"));
    }
}
