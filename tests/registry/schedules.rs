//! Hundreds of publications through a network that goes wrong at every request in every way, and what
//! must hold in the real server's database and on its disk afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use detgate::registry::{Registered, RegistryError, RegistrySettings, Retries, publish};
use serde_json::Value;

use crate::mlflow::mlflow_python;
use crate::proxy::{Fault, Proxy};
use crate::random::Random;
use crate::support::{
    CHECKPOINT, RunningServer, ask_python, mlflow2_python, passed, publication, settings, start,
};

const OVERLOADED: &str =
    "HTTP/1.1 503 Service Unavailable\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
const TOO_MANY: &str = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 4\r\n\r\nslow";
const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/html\r\ncontent-length: 13\r\n\r\n<h1>Oops</h1>";
const GARBAGE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{\"run\": \u{7}";
const NOISE: &str = "\u{3}\u{3}\u{7f}ELF nothing that a web server would say\r\n\r\n";

const GATEWAY: &str = "HTTP/1.1 524 A Timeout Occurred\r\ncontent-type: text/html\r\ncontent-length: 20\r\n\r\n<h1>Gave up</h1>    ";
const PAGE: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<h1>Log in</h1>";

/// Every way in which one request goes wrong.
const FAULTS: [Fault; 13] = [
    Fault::LoseRequest,
    Fault::LoseAnswer,
    Fault::LateRequest,
    Fault::CutRequest,
    Fault::CutAnswer,
    Fault::Delay(Duration::from_millis(20)),
    Fault::Answer(BROKEN),
    Fault::Answer(OVERLOADED),
    Fault::Answer(TOO_MANY),
    Fault::Answer(GARBAGE),
    Fault::Answer(NOISE),
    Fault::Replace(GATEWAY),
    Fault::Replace(PAGE),
];

/// Requests that go wrong in a row, fewer than the client's repetitions of one.
const SHORT: usize = 3;

/// What happens to each request of one publication, by its number.
enum Schedule {
    /// One request goes wrong once.
    Once { at: usize, fault: Fault },
    /// From a request on, so many go wrong in the same way.
    Outage { from: usize, count: usize, fault: Fault },
    /// Each goes wrong with this probability, in any way.
    Random { part: f64, seed: u64 },
}

impl Schedule {
    fn fault(&self, number: usize) -> Fault {
        match *self {
            Self::Once { at, fault } if number == at => fault,
            Self::Outage { from, count, fault } if (from..from + count).contains(&number) => fault,
            Self::Random { part, seed } => {
                let mut random = Random::seeded(seed.wrapping_mul(1_000_003) + number as u64);
                match random.unit() < part {
                    true => FAULTS[random.next() as usize % FAULTS.len()],
                    false => Fault::None,
                }
            }
            _ => Fault::None,
        }
    }
}

/// All schedules for a sequence of `requests` requests; the random ones are as many as make it `total`.
fn schedules(requests: usize, total: usize) -> Vec<Schedule> {
    let mut all = Vec::new();
    for at in 0..requests {
        all.extend(FAULTS.map(|fault| Schedule::Once { at, fault }));
        for fault in [Fault::LoseRequest, Fault::LoseAnswer, Fault::Answer(BROKEN)] {
            // Shorter than the client's patience, and longer.
            all.extend([SHORT, usize::MAX / 2].map(|count| Schedule::Outage {
                from: at,
                count,
                fault,
            }));
        }
    }
    let random = total.saturating_sub(all.len()) as u64;
    let part = |seed| [0.05, 0.2, 0.4][seed as usize % 3];
    all.extend((0..random).map(|seed| Schedule::Random { part: part(seed), seed }));
    all
}

fn impatient(uri: &str, folder: &Path) -> RegistrySettings {
    let mut settings = settings(uri, folder, "python3".as_ref());
    settings.timeouts.request = Duration::from_secs(30);
    settings.retries = Retries {
        max: 5,
        first: Duration::from_millis(2),
        longest: Duration::from_millis(10),
        seed: 1,
    };
    settings
}

/// Publishes under `name` while the schedule is on.
fn publish_under(
    server: &RunningServer,
    schedule: Arc<Schedule>,
    name: &str,
) -> Result<Registered, RegistryError> {
    let folder = tempfile::tempdir().unwrap();
    let count = AtomicUsize::new(0);
    let proxy =
        Proxy::new(&server.address, move |_| schedule.fault(count.fetch_add(1, Ordering::Relaxed)));
    let settings = impatient(&proxy.address, folder.path());
    publish(&passed(), &publication(folder.path(), name, name), &settings)
}

/// The requests of a publication that nothing goes wrong with.
fn requests(server: &RunningServer) -> Vec<String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let proxy = Proxy::new(&server.address, move |line| {
        seen.lock().unwrap().push(line.to_owned());
        Fault::None
    });
    let folder = tempfile::tempdir().unwrap();
    let settings = impatient(&proxy.address, folder.path());
    publish(&passed(), &publication(folder.path(), "clean", "clean"), &settings).unwrap();
    let lines = lines.lock().unwrap();
    lines.clone()
}

/// All runs and versions by the name of their schedule, read from the server's database, and whether the
/// files of a run are whole, read from its disk.
fn holdings(python: &Path, server: &RunningServer) -> BTreeMap<String, Value> {
    const SCRIPT: &str = r#"
import json, os, sqlite3, sys
folder, checkpoint = sys.argv[1:]
database = sqlite3.connect(os.path.join(folder, "mlflow.db"))
found, runs = {}, {}
for name, run, experiment, status, stage, key in database.execute("""
    SELECT e.name, r.run_uuid, r.experiment_id, r.status, r.lifecycle_stage,
        (SELECT value FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = 'detgate.publication')
    FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id
"""):
    artifacts = os.path.join(folder, "artifacts", str(experiment), run, "artifacts")
    files = {"model_ckpt/best_model.pt": checkpoint, "reports/eval/a report ü.json": "{}"}
    def holds(path, wanted):
        path = os.path.join(artifacts, path)
        return os.path.exists(path) and open(path).read() == wanted
    whole = all(holds(*file) for file in files.items())
    runs[run] = {"status": status, "stage": stage, "key": key, "whole": whole}
    found.setdefault(name, {"runs": [], "versions": []})["runs"].append(runs[run])
for name, run, status, stage in database.execute("SELECT name, run_id, status, current_stage FROM model_versions"):
    if stage != "Deleted_Internal":
        found.setdefault(name, {"runs": [], "versions": []})["versions"].append({"status": status, "run": runs[run]})
print(json.dumps(found))
"#;
    let folder = server.folder().to_str().unwrap();
    let checkpoint = std::str::from_utf8(CHECKPOINT).unwrap();
    serde_json::from_value(ask_python(python, SCRIPT, &[folder, checkpoint])).unwrap()
}

fn list<'a>(held: Option<&'a Value>, kind: &str) -> Vec<&'a Value> {
    held.and_then(|held| held[kind].as_array()).into_iter().flatten().collect()
}

/// What must hold whatever happened.
fn assert_whole_or_nothing(name: &str, outcome: &str, held: Option<&Value>) {
    let versions = list(held, "versions");
    assert!(versions.len() <= 1, "{name}: {outcome}: {} versions", versions.len());
    for version in &versions {
        let run = &version["run"];
        assert_eq!(version["status"], "READY", "{name}: {outcome}");
        assert_eq!(
            (&run["status"], &run["stage"]),
            (&"FINISHED".into(), &"active".into()),
            "{name}: {outcome}"
        );
        assert_eq!(run["whole"], true, "{name}: {outcome}: a version without its files");
    }
    let mut finished = BTreeMap::new();
    for run in list(held, "runs") {
        if run["status"] == "FINISHED" && run["stage"] == "active" {
            *finished.entry(run["key"].as_str().unwrap()).or_insert(0) += 1;
        }
    }
    assert!(finished.values().all(|count| *count == 1), "{name}: {outcome}: {finished:?}");
}

/// In one word, after what the outcome promises was found to hold.
fn assert_outcome(
    name: &str,
    result: &Result<Registered, RegistryError>,
    held: Option<&Value>,
) -> &'static str {
    let versions = list(held, "versions").len();
    let runs = list(held, "runs");
    let active = || runs.iter().filter(|run| run["stage"] == "active");
    match result {
        Ok(registered) => {
            assert!(registered.is_new, "{name}");
            assert_eq!(versions, 1, "{name}: it was said to be registered");
            assert_eq!(active().count(), 1, "{name}: {runs:?}");
            "registered"
        }
        Err(RegistryError::InDoubt { .. }) => "in doubt, and said so",
        Err(RegistryError::Unchecked { .. }) => {
            assert_eq!(versions, 1, "{name}");
            "registered, and the network gone"
        }
        Err(error) => {
            assert_eq!(versions, 0, "{name}: {error}");
            match active().all(|run| run["status"] == "FAILED") {
                true => "no version, run marked as failed or none",
                false => "no version, and nobody could be told",
            }
        }
    }
}

/// Every `stride`th schedule: still every request, and every way, where it has no factor in common with the 19 ways.
fn run_all(python: &Path, total: usize, stride: usize) {
    let server = &start(python, &[]);
    let sequence = requests(server);
    let schedules: Vec<_> =
        schedules(sequence.len(), total).into_iter().step_by(stride).map(Arc::new).collect();
    let name = |number: usize| format!("schedule {number}");
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let number = next.fetch_add(1, Ordering::Relaxed)
                    && let Some(schedule) = schedules.get(number)
                {
                    let result = publish_under(server, Arc::clone(schedule), &name(number));
                    results.lock().unwrap().insert(number, result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let held = holdings(python, server);
    let mut outcomes = BTreeMap::new();
    for (number, result) in &results {
        let name = name(*number);
        let outcome = format!("{:?}", result.as_ref().map_err(ToString::to_string));
        assert_whole_or_nothing(&name, &outcome, held.get(&name));
        // One mishap, or a short one, never costs a registration.
        let is_short = matches!(
            *schedules[*number],
            Schedule::Once { .. } | Schedule::Outage { count: SHORT, .. }
        );
        // A page where JSON should be is no mishap: most often it is another program.
        let is_page =
            matches!(*schedules[*number], Schedule::Once { fault: Fault::Replace(PAGE), .. });
        assert!(result.is_ok() || !is_short || is_page, "{name}: {outcome}");
        *outcomes.entry(assert_outcome(&name, result, held.get(&name))).or_insert(0) += 1;
    }
    // "Run detgate again" is what the errors say.
    let failed: Vec<_> = results.iter().filter(|(_, result)| result.is_err()).collect();
    for (number, _) in failed.iter().take(40) {
        let schedule = Arc::new(Schedule::Once { at: usize::MAX, fault: Fault::None });
        publish_under(server, schedule, &name(**number)).unwrap();
    }
    let held = holdings(python, server);
    for (number, _) in failed.iter().take(40) {
        let name = name(**number);
        assert_whole_or_nothing(&name, "again", held.get(&name));
        assert_eq!(list(held.get(&name), "versions").len(), 1, "{name}: again");
    }
    report(&sequence, results.len(), &outcomes);
}

/// Not println!, which the test harness swallows when a test passes.
fn report(sequence: &[String], count: usize, outcomes: &BTreeMap<&str, u32>) {
    let all: Vec<String> = outcomes.iter().map(|(word, count)| format!("{count} {word}")).collect();
    let text = format!(
        "{count} fault schedules over the {} requests of a publication: {}\n",
        sequence.len(),
        all.join("; ")
    );
    let _ = std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes());
}

#[test]
fn whatever_goes_wrong_there_is_one_whole_version_or_none() {
    let Some(python) = mlflow_python() else {
        return;
    };
    run_all(&python, 560, 1);
}

#[test]
fn the_same_with_a_server_of_mlflow_2() {
    let Some(python) = mlflow2_python() else {
        return;
    };
    run_all(&python, 0, 5);
}
