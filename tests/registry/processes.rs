//! No process of a server outlives the publication that started it, however that ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use detgate::registry::{Event, RegistryError, publish};

use crate::mlflow::mlflow_python;
use crate::support::{passed, publication, runs_and_versions, settings};

/// The command lines of other processes that name `path` in their arguments or environment.
pub(crate) fn processes_of(path: &Path) -> Vec<String> {
    pids_of(path).into_iter().map(|(_, line)| line).collect()
}

fn pids_of(path: &Path) -> Vec<(u32, String)> {
    let path = path.to_str().unwrap();
    let read = |pid: u32, file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let lines = pids.map(|pid| (pid, read(pid, "cmdline")));
    lines
        .filter(|(pid, line)| line.contains(path) || read(*pid, "environ").contains(path))
        .collect()
}

/// Waits until no process names `path`.
fn assert_gone(path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !processes_of(path).is_empty() {
        assert!(Instant::now() < deadline, "{:#?}", processes_of(path));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_panic_ends_the_server_and_marks_the_run_as_failed() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings("sqlite:///mlflow.db", root.path(), &python);
    let folder = root.path().to_owned();
    settings.on_event = Arc::new(move |event| {
        if let Event::RunCreated { .. } = event {
            assert!(
                !processes_of(&folder).is_empty(),
                "this test cannot see the server's processes"
            );
            panic!("on purpose");
        }
    });
    let publication = publication(root.path(), "e", "m");

    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        publish(&passed(), &publication, &settings)
    }));

    assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "on purpose");
    assert_eq!(processes_of(root.path()), Vec::<String>::new());
    let (runs, versions) = runs_and_versions(&python, &root.path().join("mlflow.db"));
    assert_eq!(runs, [("FAILED".to_owned(), "detgate panicked".to_owned())]);
    assert_eq!(versions, 0);
}

#[test]
fn a_server_that_dies_on_the_way_is_reported_with_its_log() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings("sqlite:///mlflow.db", root.path(), &python);
    let folder = root.path().to_owned();
    settings.on_event = Arc::new(move |event| {
        if let Event::RunCreated { .. } = event {
            let all = pids_of(&folder);
            let (pid, _) = all
                .iter()
                .find(|(_, line)| line.contains("-m uvicorn"))
                .expect("no uvicorn among them");
            signal("-KILL", *pid);
        }
    });
    let publication = publication(root.path(), "e", "m");

    let error = publish(&passed(), &publication, &settings).unwrap_err();

    let text = error.to_string();
    assert!(matches!(error, RegistryError::Server { .. }), "{text}");
    assert!(
        text.contains("mlflow.db ended before everything was logged")
            && text.contains("runs/create"),
        "{text}"
    );
    assert_eq!(processes_of(root.path()), Vec::<String>::new());
    assert_eq!(runs_and_versions(&python, &root.path().join("mlflow.db")).1, 0);
}

#[test]
fn a_server_that_cannot_start_is_reported_with_its_log_and_leaves_no_process() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let root = tempfile::tempdir().unwrap();
    // A file where MLflow wants its artifact folder.
    let unusable = root.path().join("no such folder");
    let publication = publication(root.path(), "e", "m");
    let settings = settings("sqlite:///no such folder/mlflow.db", root.path(), &python);
    std::fs::write(&unusable, "a file").unwrap();

    let error = publish(&passed(), &publication, &settings).unwrap_err();

    let text = error.to_string();
    assert!(
        matches!(error, RegistryError::Server { .. }) && text.contains("did not start"),
        "{text}"
    );
    assert!(text.lines().count() > 2, "there is no log in {text}");
    assert_eq!(processes_of(root.path()), Vec::<String>::new());
}

/// What the next tests run as a process of its own and kill; run with the others it has nothing to
/// do.
#[test]
fn publishes_slowly_when_it_is_a_child() {
    let Some(root) = std::env::var_os("DETGATE_TEST_CHILD") else {
        return;
    };
    let root = PathBuf::from(root);
    let python = mlflow_python().unwrap();
    let mut settings = settings("sqlite:///mlflow.db", &root, &python);
    let interrupted = Arc::clone(&settings.interrupted);
    if std::env::var_os("DETGATE_TEST_HANDLER").is_some() {
        signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted)).unwrap();
    }
    let marker = root.join("run-created");
    settings.on_event = Arc::new(move |event| {
        if let Event::RunCreated { .. } = event {
            std::fs::write(&marker, "").unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while !interrupted.load(std::sync::atomic::Ordering::Relaxed)
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let error = publish(&passed(), &publication(&root, "e", "m"), &settings).unwrap_err();
    assert!(matches!(error, RegistryError::Interrupted));
}

/// Sends a signal to a process that is in the middle of a publication, and returns the project's
/// folder when nothing runs for it any more.
fn after_signal(python: &Path, name: &str, with_handler: bool) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "processes::publishes_slowly_when_it_is_a_child"])
        .env("DETGATE_TEST_CHILD", root.path());
    command.env("DETGATE_MLFLOW_PYTHON", python).stdout(Stdio::null()).stderr(Stdio::null());
    if with_handler {
        command.env("DETGATE_TEST_HANDLER", "1");
    }
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while !root.path().join("run-created").exists() {
        assert!(
            child.try_wait().unwrap().is_none() && Instant::now() < deadline,
            "no run was created"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    // The child itself, the launcher, MLflow and uvicorn.
    assert!(pids_of(root.path()).len() >= 4, "{:#?}", processes_of(root.path()));
    let launcher = processes_of(root.path()).into_iter().find(|line| line.contains(" unix "));
    let socket = PathBuf::from(launcher.unwrap().split_whitespace().last().unwrap());
    assert!(socket.exists());
    signal(name, child.id());
    let status = child.wait().unwrap();
    assert_eq!(status.success(), with_handler, "{status}");
    assert_gone(root.path());
    assert!(!socket.parent().unwrap().exists(), "the socket's folder is left behind");
    root
}

fn signal(name: &str, pid: u32) {
    let status = Command::new("kill").args([name, &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_server_ends_when_detgate_is_killed() {
    let Some(python) = mlflow_python() else {
        return;
    };
    for name in ["-KILL", "-TERM"] {
        let root = after_signal(&python, name, false);
        assert_eq!(runs_and_versions(&python, &root.path().join("mlflow.db")).1, 0, "{name}");
    }
}

#[test]
fn an_interrupted_publication_ends_its_server_and_marks_its_run_as_failed() {
    let Some(python) = mlflow_python() else {
        return;
    };
    let root = after_signal(&python, "-INT", true);
    let (runs, versions) = runs_and_versions(&python, &root.path().join("mlflow.db"));
    assert_eq!((runs[0].0.as_str(), versions), ("FAILED", 0));
    assert!(runs[0].1.contains("interrupted"), "{runs:?}");
}
