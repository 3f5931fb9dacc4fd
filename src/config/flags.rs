//! The command line as it was typed; nothing here acts or knows a default.

use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::cache::ByteSize;
use super::gate::{REPLICATES, is_replicates};
use super::metrics::{THREADS, THREADS_WORDS};
use super::self_flags::{CompletionsFlags, ManFlags, SchemaFlags};
use super::{Fixes, Judge, ShardFlag};
use crate::shown;

/// Tells whether a change broke your object detector.
#[derive(Debug, Parser)]
#[command(name = "detgate", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 passed, 1 regressed, 2 could not evaluate, 3 inconclusive,
            4 no baseline or not comparable with it, 70 a bug in detgate,
            130 or 143 interrupted by SIGINT or SIGTERM";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Evaluate the checkpoint, compare with the baseline, register it if the gate passed
    Eval(Box<EvalFlags>),
    /// Judge, report and register what `eval --shard` has found on all shares of the images
    Merge(Box<MergeFlags>),
    /// Start eval --shard for every share on a cluster, and merge behind it
    #[command(subcommand)]
    Launch(LaunchCommand),
    /// Accept the last evaluation as the new baseline
    Bless(BlessFlags),
    /// COCO's numbers for a results file; needs no project and no model
    Metrics(Box<MetricsFlags>),
    /// Judge results files against others, or show two reports side by side; needs no project and no model
    Compare(Box<CompareFlags>),
    /// List, show and compare the registered versions of the model
    Registry(RegistryFlags),
    /// Predictions that are kept, so that a model does not run twice on an image
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Show the result of eval or compare again, in another form; nothing is run
    Report(ReportFlags),
    /// Print the JSON Schema of a file, for editors and other checks
    Schema(SchemaFlags),
    /// Print a script that completes commands and flags in a shell
    Completions(CompletionsFlags),
    /// Print the man page, or write one for each command
    Man(ManFlags),
}

fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| THREADS.contains(number));
    number.ok_or_else(|| format!("it must be {THREADS_WORDS}"))
}

fn pixels(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=16_384).contains(number));
    number.ok_or_else(|| "it must be between 1 and 16384".to_owned())
}

/// A whole number that is not negative; whether it is in its range is asked where it is resolved.
fn whole<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| "it must be a whole number, at least 0".to_owned())
}

fn replicates(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| is_replicates(*number));
    number.ok_or_else(|| format!("it must be {REPLICATES}"))
}

/// Where the project is; shared by all commands.
#[derive(Debug, Default, Clone, PartialEq, Args)]
pub struct ProjectFlags {
    /// The folder that holds data/processed/project_config.json [default: searched upwards]
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// The baseline: a snapshot, or models:/NAME@ALIAS or models:/NAME/VERSION
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
}

/// The flags that were given, as a shell reads them, each behind a blank: advice names the same place.
impl std::fmt::Display for ProjectFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (flag, value) in [("--project", &self.project), ("--baseline", &self.baseline)] {
            if let Some(value) = value {
                write!(f, " {flag} {}", shown::word(value))?;
            }
        }
        Ok(())
    }
}

/// How a change is judged; shared by all commands that judge.
#[derive(Debug, Default, Clone, Args)]
pub struct GateFlags {
    /// What decides: the change on these images, or a test that may be inconclusive
    #[arg(long, value_name = "KIND")]
    pub judge: Option<Judge>,
    /// The confidence of intervals, 0.5..1
    #[arg(long, value_name = "PART", allow_hyphen_values = true)]
    pub confidence: Option<f64>,
    /// Replicates of the bootstrap, 200 to 20000; 0 for no intervals
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = replicates)]
    pub replicates: Option<usize>,
    /// The seed of the bootstrap
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<u64>)]
    pub seed: Option<u64>,
}

/// `detgate eval`. Every flag overrides its key in `detgate.toml`.
#[derive(Debug, Default, Args)]
pub struct EvalFlags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub project: ProjectFlags,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub gate: GateFlags,
    /// Judge by the rules and the baseline of another commit, such as origin/main: what a check on pull requests needs
    #[arg(long, value_name = "COMMIT", conflicts_with = "baseline")]
    pub target: Option<String>,
    /// The checkpoint: a file, or that of a registered version as models:/NAME/VERSION [default: the newest best_*.pt or .safetensors in models/local_checkpoints]
    #[arg(long, value_name = "FILE", conflicts_with = "torchscript")]
    pub checkpoint: Option<PathBuf>,
    /// Evaluate an exported TorchScript detector instead of a checkpoint
    #[arg(long, value_name = "FILE")]
    pub torchscript: Option<PathBuf>,
    /// Evaluate what another framework found: a COCO results file; registered only with --checkpoint
    #[arg(long, value_name = "FILE", conflicts_with = "torchscript")]
    pub detections: Option<PathBuf>,
    /// What the labels of the TorchScript detector are
    #[arg(long, value_name = "KIND")]
    pub torchscript_labels: Option<LabelKind>,
    /// COCO ground truth [default: data/processed/coco_{classes}_val.json]
    #[arg(long, value_name = "FILE")]
    pub ground_truth: Option<PathBuf>,
    /// The folder of the validation images [default: val_dir of project_config.json]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Evaluate every category of the ground truth, not only those of the label map
    #[arg(long)]
    pub all_categories: bool,
    /// Evaluate the first N images in file order; 0 for all
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub max_images: Option<usize>,
    /// Least score that the practical protocol counts, 0..1
    #[arg(long, value_name = "SCORE", allow_hyphen_values = true)]
    pub score_thr: Option<f64>,
    /// IoU from which the practical protocol matches, 0..1
    #[arg(long, value_name = "IOU", allow_hyphen_values = true)]
    pub iou_thr: Option<f64>,
    /// The model's input: length of the short side, pixels
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, value_parser = pixels)]
    pub min_size: Option<u32>,
    /// The model's input: greatest length of the long side, pixels
    #[arg(long, value_name = "PIXELS", allow_negative_numbers = true, value_parser = pixels)]
    pub max_size: Option<u32>,
    /// The epsilon of the model's batch normalisation
    #[arg(long, value_name = "EPS", allow_hyphen_values = true)]
    pub norm_eps: Option<f64>,
    /// Numbers that the model's products are made of
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,
    /// Images evaluated at once, each on one thread; 0 for one per core
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub workers: Option<usize>,
    /// Count and list images that cannot be decoded instead of stopping
    #[arg(long)]
    pub skip_bad_images: bool,
    /// Neither use nor keep predictions
    #[arg(long)]
    pub no_cache: bool,
    /// Read every file again, even if it seems to be unchanged
    #[arg(long, conflicts_with = "no_cache")]
    pub verify_cache: bool,
    /// Run the model on a share of the images and write what it finds: I of N, or auto for what Slurm,
    /// Kubernetes, GitLab, Buildkite or CircleCI say; `detgate merge` judges all shares together
    #[arg(long, value_name = "I/N", conflicts_with = "detections")]
    pub shard: Option<ShardFlag>,
    /// Where the share goes [default: reports/shards/of-N/I-of-N.shard]
    #[arg(long, value_name = "FILE", requires = "shard")]
    pub shard_file: Option<PathBuf>,
    /// Where the JSON report goes
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write no page beside the JSON report
    #[arg(long)]
    pub no_html: bool,
    /// Do not register the model, even when the gate passes
    #[arg(long)]
    pub no_register: bool,
    /// sqlite:///FILE or http(s)://HOST
    #[arg(long, value_name = "URI")]
    pub tracking_uri: Option<String>,
    /// The MLflow experiment
    #[arg(long, value_name = "NAME")]
    pub experiment: Option<String>,
    /// The name of the registered model
    #[arg(long, value_name = "NAME")]
    pub model_name: Option<String>,
    /// Give the new version this alias, if the gate compared with the version that has it now
    #[arg(long, value_name = "ALIAS", conflicts_with = "no_register")]
    pub promote: Option<String>,
    /// Register a model even if the same results of the same checkpoint are registered already
    #[arg(long, visible_alias = "force", conflicts_with = "no_register")]
    pub force_register: bool,
    /// Bring a database that an older MLflow wrote up to date, after a copy of it is made
    #[arg(long)]
    pub migrate: bool,
    /// Print only the verdict
    #[arg(long, short)]
    pub quiet: bool,
}

/// `detgate merge`.
#[derive(Debug, Default, Args)]
#[command(
    mut_arg("torchscript_labels", |arg| arg.hide(true)),
    mut_arg("detections", |arg| arg.hide(true)),
    mut_arg("precision", |arg| arg.hide(true)),
    mut_arg("workers", |arg| arg.hide(true)),
    mut_arg("skip_bad_images", |arg| arg.hide(true)),
    mut_arg("no_cache", |arg| arg.hide(true)),
    mut_arg("shard", |arg| arg.hide(true)),
    mut_arg("shard_file", |arg| arg.hide(true))
)]
pub struct MergeFlags {
    /// The files that `eval --shard` has written, in any order; a folder stands for all its *.shard files
    #[arg(required = true, value_name = "SHARD")]
    pub shards: Vec<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub eval: EvalFlags,
}

/// `detgate launch`: on which engine.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "clap would show it as help")]
pub enum LaunchCommand {
    /// A job array, and a job that merges when all of it is done
    Slurm {
        #[command(flatten)]
        shares: SharesFlags,
        /// An option of sbatch, for both jobs, such as --option=--partition=cpu; may be repeated
        #[arg(long = "option", value_name = "OPTION", allow_hyphen_values = true)]
        options: Vec<String>,
        /// Wait for the verdict, and exit with its code
        #[arg(long)]
        wait: bool,
    },
    /// Tasks of a Ray cluster, which are tried again where a worker is lost; then merges here
    Ray {
        #[command(flatten)]
        shares: SharesFlags,
        /// The cluster [default: the one that is running here, or a new one on this machine]
        #[arg(long, value_name = "ADDRESS")]
        address: Option<String>,
        /// How often a share is tried again
        #[arg(long, value_name = "N", default_value = "3")]
        retries: u16,
        /// A Python that has ray
        #[arg(long, value_name = "FILE", default_value = "python3")]
        python: PathBuf,
    },
}

/// How the work is dealt out; shared by all engines.
#[derive(Debug, Args)]
pub struct SharesFlags {
    /// How many shares
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub shards: u32,
    /// CPUs of each share
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub cpus: u16,
    /// Print what would be started
    #[arg(long)]
    pub dry_run: bool,
    /// Flags of eval, behind `--`
    #[arg(last = true, value_name = "EVAL FLAGS")]
    pub eval: Vec<String>,
}

/// `detgate bless`.
#[derive(Debug, Default, Args)]
pub struct BlessFlags {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub project: ProjectFlags,
    /// Why this is the new baseline; kept in the snapshot
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Accept it even if it regressed
    #[arg(long)]
    pub force: bool,
}

/// `detgate cache`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum CacheCommand {
    /// List what is kept: the model, its settings, images, size, last use
    Ls,
    /// Remove what was not used for longest; nothing that a running evaluation uses
    Gc {
        /// What may stay, such as 2GB or 500MB [default: 2GB]
        #[arg(long, value_name = "SIZE")]
        max_size: Option<ByteSize>,
        /// Remove everything
        #[arg(long, conflicts_with = "max_size")]
        all: bool,
    },
}

/// What a TorchScript detector's labels mean.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    ValueEnum,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// Category ids of the ground truth.
    Category,
    /// The label map's internal ids, 1..n.
    Internal,
}

/// In which numbers the products of a model's layers are computed.
#[derive(
    Debug,
    Default,
    Clone,
    Copy,
    PartialEq,
    Eq,
    ValueEnum,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32.
    #[default]
    F32,
    /// Factors of bfloat16, sums of float32, where the processor has AVX512_BF16 and it costs little accuracy.
    Bf16,
}

/// `detgate registry`.
#[derive(Debug, Args)]
pub struct RegistryFlags {
    /// What of it.
    #[command(subcommand)]
    pub command: RegistryCommand,
}

/// What is wanted of the registry.
#[derive(Debug, Subcommand)]
#[allow(missing_docs, reason = "clap would show it as help")]
pub enum RegistryCommand {
    /// The newest versions, with alias, verdict and metrics
    Ls {
        #[command(flatten)]
        place: RegistryPlace,
        /// How many
        #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u16).range(1..=1000).map(usize::from))]
        limit: usize,
    },
    /// One version: what it was evaluated on, and its metrics
    Show {
        /// A number, or an alias such as champion
        version: String,
        #[command(flatten)]
        place: RegistryPlace,
    },
    /// Two versions beside each other
    Diff {
        /// A number, or an alias such as champion
        before: String,
        /// The same
        after: String,
        #[command(flatten)]
        place: RegistryPlace,
    },
}

/// Which model of which registry.
#[derive(Debug, Default, Args)]
pub struct RegistryPlace {
    /// The folder that holds data/processed/project_config.json [default: searched upwards]
    #[arg(long, value_name = "DIR")]
    pub project: Option<PathBuf>,
    /// sqlite:///FILE or http(s)://HOST [default: the project's]
    #[arg(long, value_name = "URI")]
    pub tracking_uri: Option<String>,
    /// The name of the registered model [default: the project's]
    #[arg(long, value_name = "NAME")]
    pub model_name: Option<String>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: OutputFormat,
}

/// `detgate report`.
#[derive(Debug, Args)]
pub struct ReportFlags {
    /// The JSON that eval wrote, or compare printed
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// In which form
    #[arg(long, value_name = "FORM", default_value = "table")]
    pub format: ReportForm,
    /// Write it there instead of printing it
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The folder of the images, for the pictures of the form html [default: those of the
    /// project in which the report is]
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
}

/// The forms of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// As eval and compare print it.
    Table,
    /// For a comment on a pull request, or a job's summary.
    Markdown,
    /// JUnit XML, a test case for each judged metric.
    Junit,
    /// Annotations of GitHub Actions.
    Github,
    /// The metrics of each class.
    Csv,
    /// One page for a browser, with charts and pictures.
    Html,
    /// The JSON itself, byte for byte.
    Json,
}

/// `detgate metrics`.
#[derive(Debug, Default, Args)]
pub struct MetricsFlags {
    /// Ground truth: a COCO or LVIS file (also .gz or .zst), a YOLO or Pascal VOC folder
    #[arg(long, value_name = "PATH")]
    pub gt: PathBuf,
    /// Detections: COCO results files (also .gz or .zst), together those of all images
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub dt: Vec<PathBuf>,
    /// How to print the numbers
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: OutputFormat,
    /// LVIS' rules instead of COCO's, for an LVIS file; without --max-dets and --details
    #[arg(long, conflicts_with_all = ["class_agnostic", "max_dets", "details"])]
    pub lvis: bool,
    /// All classes are one (useCats = 0); without --per-class and --details
    #[arg(long, conflicts_with_all = ["per_class", "details"])]
    pub class_agnostic: bool,
    /// Mend traps of pycocotools (docs/quirks.md): all, or some of annotation-id-zero, ignore-key,
    /// box-area, ties, max-dets, absent-classes
    #[arg(long, value_name = "NAMES")]
    pub fix: Option<Fixes>,
    /// IoU thresholds: 0.5,0.75 or FIRST:LAST:STEP [default: 0.5:0.95:0.05]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub iou_thrs: Option<String>,
    /// Recalls at which precision is read off [default: 0:1:0.01]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub rec_thrs: Option<String>,
    /// Limits on the detections per image and class [default: 1,10,100]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub max_dets: Option<String>,
    /// NAME:SMALLEST:LARGEST, square pixels; numbers look for all, small, medium and large [default:
    /// COCO's]
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    pub area_ranges: Option<String>,
    /// Leave detections on images that the ground truth does not have out, instead of stopping
    #[arg(long)]
    pub skip_unknown_images: bool,
    /// Also the numbers of each class; JSON always has them
    #[arg(long)]
    pub per_class: bool,
    /// Also operating points, confusions of classes, and the worst images
    #[arg(long)]
    pub details: bool,
    /// How many of the worst images --details lists [default: 20]
    #[arg(long, value_name = "N", requires = "details", allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub worst: Option<usize>,
    /// IoU from which a detection has found an object, for --details [default: 0.5]
    #[arg(long, value_name = "IOU", requires = "details", allow_hyphen_values = true)]
    pub iou_thr: Option<f64>,
    /// Least score that confusions and images of --details count [default: 0.5]
    #[arg(long, value_name = "SCORE", requires = "details", allow_hyphen_values = true)]
    pub score_thr: Option<f64>,
    /// Recalls at which --details gives precision [default: 0.5,0.9]
    #[arg(long, value_name = "LIST", requires = "details", allow_hyphen_values = true)]
    pub recalls: Option<String>,
    /// Threads; the numbers are the same with any [default: one per core]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    pub threads: Option<usize>,
    /// Say on standard error how long each step took
    #[arg(long)]
    pub timings: bool,
}

/// `detgate compare`.
#[derive(Debug, Default, Args)]
pub struct CompareFlags {
    /// Two reports, to see their metrics beside each other; nothing is judged
    #[arg(value_name = "REPORT", num_args = 2, conflicts_with_all = ["gt", "baseline", "candidate", "policy", "judge", "confidence", "replicates", "seed", "images", "quiet", "skip_unknown_images", "threads"])]
    pub reports: Vec<PathBuf>,
    /// Ground truth: a COCO file (also .gz or .zst), a YOLO or Pascal VOC folder
    #[arg(long, value_name = "PATH", required_unless_present = "reports")]
    pub gt: Option<PathBuf>,
    /// The detections that are compared with: COCO results files (also .gz or .zst), together those of all
    /// images
    #[arg(long, value_name = "FILE", required_unless_present = "reports", num_args = 1..)]
    pub baseline: Vec<PathBuf>,
    /// The detections that are judged, likewise
    #[arg(long, value_name = "FILE", required_unless_present = "reports", num_args = 1..)]
    pub candidate: Vec<PathBuf>,
    /// A detgate.toml whose tables gate and practical hold [default: the defaults]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would show it as help")]
    pub gate: GateFlags,
    /// How to print the result
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: CompareFormat,
    /// The folder of the images, for the pictures of --format html
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,
    /// Print only the verdict; JSON and HTML are whole all the same
    #[arg(long, short)]
    pub quiet: bool,
    /// Leave detections on images that the ground truth does not have out, instead of stopping
    #[arg(long)]
    pub skip_unknown_images: bool,
    /// Threads; the result is the same with any [default: one per core]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = threads)]
    pub threads: Option<usize>,
}

/// How the result of `detgate compare` is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum CompareFormat {
    /// The verdict, and tables.
    #[default]
    Text,
    /// One JSON document with every digit.
    Json,
    /// One page for a browser, with charts and pictures.
    Html,
}

/// How numbers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// pycocotools' 12 lines, and tables.
    #[default]
    Text,
    /// One JSON document with every digit.
    Json,
}
