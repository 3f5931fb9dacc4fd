//! The steps of the check on pull requests, as `.github/workflows/check.yml` runs them: the same scripts, in a real
//! repository with a branch that a change goes into, with the variables that GitHub sets.
#![cfg(unix)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

fn ci(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("ci").join(name)
}

#[cfg(feature = "torch")]
mod steps {
    use super::*;

    /// A runner's workspace with the demo checked out in `project`.
    struct Workspace(tempfile::TempDir);

    impl Workspace {
        fn new() -> Self {
            let workspace = Self(tempfile::tempdir().unwrap());
            let demo = common::Demo::small();
            let origin = workspace.path("origin");
            let copied = Command::new("cp").arg("-r").arg(demo.path("")).arg(&origin).status();
            assert!(copied.unwrap().success());
            for file in ["baseline.snap.new", "reports"] {
                let _ = std::fs::remove_dir_all(origin.join(file));
            }
            std::fs::write(origin.join(".gitignore"), "reports/\n*.snap.new\nmlruns/\n*.db\n")
                .unwrap();
            workspace.git("origin", &["init", "--quiet", "--initial-branch", "main"]);
            workspace.commit("origin", "the project");
            workspace.git("", &["clone", "--quiet", "origin", "project"]);
            workspace.git("project", &["checkout", "--quiet", "-b", "change"]);
            let dist = workspace.path("dist");
            std::fs::create_dir_all(dist.join("bin")).unwrap();
            std::fs::copy(env!("CARGO_BIN_EXE_detgate"), dist.join("bin/detgate")).unwrap();
            std::fs::copy(ci("check.sh"), dist.join("check.sh")).unwrap();
            workspace
        }

        fn path(&self, relative: &str) -> PathBuf {
            self.0.path().join(relative)
        }

        fn read(&self, relative: &str) -> String {
            std::fs::read_to_string(self.path(relative)).unwrap()
        }

        fn git(&self, folder: &str, arguments: &[&str]) {
            let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
            let mut command = Command::new("git");
            command.arg("-C").arg(self.path(folder)).args(identity).args(arguments);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }

        fn commit(&self, folder: &str, message: &str) {
            self.git(folder, &["add", "--all"]);
            self.git(folder, &["commit", "--quiet", "--message", message]);
        }

        fn step(&self, step: &str, variables: &[(&str, &str)]) -> Output {
            let mut command = Command::new("bash");
            command.arg("dist/check.sh").arg(step).current_dir(self.0.path());
            command.env("CI", "true").env("PROJECT", ".").env("BASE", "main");
            command.env("DETGATE_CACHE_DIR", self.path("cache"));
            command.env("GITHUB_STEP_SUMMARY", self.path("summary.md"));
            command.envs(variables.iter().copied());
            command.output().unwrap()
        }

        /// Both shares, then the verdict, on a checkpoint.
        fn check(&self, checkpoint: &str) -> (i32, String) {
            for folder in ["shards", "report"] {
                let _ = std::fs::remove_dir_all(self.path(folder));
            }
            let named = ("CHECKPOINT", checkpoint);
            for shard in ["1/2", "2/2"] {
                let output = self.step("evaluate", &[named, ("SHARD", shard)]);
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{said}");
            }
            let output = self.step("judge", &[named]);
            let said =
                String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            (output.status.code().unwrap(), said.into_owned())
        }
    }

    const GOOD: &str = "models/local_checkpoints/best_demo.pt";
    const DAMAGED: &str = "models/damaged/best_damaged.pt";

    #[test]
    fn a_change_is_judged_in_shares_and_what_people_read_is_written() {
        let workspace = Workspace::new();
        // The small demo has no baseline of its own size yet: the first one says why it is there.
        let (code, said) = workspace.check(GOOD);
        assert_eq!(code, 4, "{said}");
        let bless = |reason: &str, checkpoint: &str| {
            let project = workspace.path("project");
            let run = |arguments: &[&str]| {
                let mut command = Command::new(workspace.path("dist/bin/detgate"));
                command.args(arguments).current_dir(&project).env_remove("CI");
                command.env("DETGATE_CACHE_DIR", workspace.path("cache"));
                command.output().unwrap()
            };
            run(&["eval", "--no-register", "--quiet", "--checkpoint", checkpoint]);
            let blessed = run(&["bless", "--force", "--reason", reason]);
            assert!(blessed.status.success(), "{}", String::from_utf8_lossy(&blessed.stderr));
            workspace.commit("project", reason);
        };
        bless("the first one", GOOD);
        let (code, said) = workspace.check(GOOD);
        assert_eq!(code, 0, "{said}");
        assert!(workspace.read("report/comment.md").contains("the first one"));

        // It is merged; from now on it judges.
        workspace.git("project", &["push", "--quiet", "origin", "change:change"]);
        workspace.git("origin", &["merge", "--quiet", "change"]);
        workspace.git("project", &["fetch", "--quiet", "origin"]);
        let (code, said) = workspace.check(GOOD);
        assert_eq!(code, 0, "{said}");
        let comment = workspace.read("report/comment.md");
        assert!(comment.starts_with("<!-- detgate . -->\n## detgate: "), "{comment}");
        assert!(workspace.read("summary.md").ends_with(&comment));
        assert!(workspace.read("report/junit.xml").contains("<testsuite"));
        assert!(workspace.path("report/evaluation.html").exists());

        let (code, said) = workspace.check(DAMAGED);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("::error"), "{said}");
        assert!(workspace.read("report/comment.md").contains("regressed"));

        // Its own baseline does not help it, unless it says why.
        bless("smaller and faster", DAMAGED);
        let (code, said) = workspace.check(DAMAGED);
        assert_eq!(code, 0, "{said}");
        let comment = workspace.read("report/comment.md");
        assert!(
            comment.contains("smaller and faster") && comment.contains("regressed"),
            "{comment}"
        );
    }

    #[test]
    fn a_share_that_could_not_be_evaluated_is_no_verdict() {
        let workspace = Workspace::new();
        let output =
            workspace.step("evaluate", &[("SHARD", "1/2"), ("CHECKPOINT", "models/none.pt")]);
        assert_eq!(output.status.code(), Some(2));
        let output = workspace.step("judge", &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(!workspace.path("report").exists());
    }

    #[test]
    fn what_a_change_brings_along_is_no_result() {
        let workspace = Workspace::new();
        let reports = workspace.path("project/reports");
        std::fs::create_dir_all(&reports).unwrap();
        std::fs::write(reports.join("evaluation.json"), "{}").unwrap();
        std::os::unix::fs::symlink("/proc/self/environ", reports.join("evaluation.html")).unwrap();
        let output = workspace.step("judge", &[("MLFLOW_TRACKING_PASSWORD", "hunter2")]);
        assert_eq!(output.status.code(), Some(2));
        assert!(!workspace.path("report").exists());
    }

    #[test]
    fn a_registered_version_is_never_taken_from_where_the_change_says() {
        let workspace = Workspace::new();
        let variables =
            [("SHARD", "1/2"), ("CHECKPOINT", "models:/detector/1"), ("MLFLOW_TRACKING_URI", "")];
        let output = workspace.step("evaluate", &variables);
        assert_eq!(output.status.code(), Some(2));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("models:/detector/1 needs MLFLOW_TRACKING_URI"), "{said}");
    }
}

/// What GitHub holds.
type Comments = Arc<Mutex<Vec<(u64, Value)>>>;

/// As much of GitHub's API as a comment needs; GitHub itself cannot run here.
fn github(comments: Comments) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(stream, &comments);
        }
    });
    address
}

fn answer(stream: TcpStream, comments: &Comments) {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let (mut length, mut authorized) = (0, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).unwrap();
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        authorized |= header == "authorization: bearer t0ken";
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut comments = comments.lock().unwrap();
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let (status, answer) = match method {
        _ if !authorized => ("403 Forbidden", json!({ "message": "no" })),
        "GET" => {
            assert!(path.starts_with("/repos/o/r/issues/7/comments?per_page=100&page="), "{path}");
            let page: usize = path.rsplit('=').next().unwrap().parse().unwrap();
            let page = comments.iter().skip(100 * (page - 1)).take(100);
            let shown = |(id, body): &(u64, Value)| {
                let kind = if *id < 1000 { "User" } else { "Bot" };
                json!({ "id": id, "body": body, "user": { "type": kind } })
            };
            ("200 OK", page.map(shown).collect())
        }
        _ => {
            let text = serde_json::from_slice::<Value>(&body).unwrap()["body"].clone();
            let id = match path.strip_prefix("/repos/o/r/issues/comments/") {
                Some(id) => id.parse().unwrap(),
                None => 1000 + comments.len() as u64,
            };
            match comments.iter_mut().find(|(known, _)| *known == id) {
                Some((_, known)) => *known = text,
                None => comments.push((id, text)),
            }
            ("200 OK", json!({}))
        }
    };
    let answer = answer.to_string();
    let mut stream = &stream;
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all((head + &answer).as_bytes()).unwrap();
}

fn comment(address: &str, token: &str, text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("comment.md");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new("python3");
    command.arg(ci("comment.py")).arg(file).env("GITHUB_API_URL", address);
    command.env("GITHUB_REPOSITORY", "o/r").env("GITHUB_TOKEN", token).env("PULL_REQUEST", "7");
    command.env_remove("http_proxy").env("NO_PROXY", "*").output().unwrap()
}

#[test]
fn there_is_one_comment_which_is_edited() {
    let marker = "<!-- detgate . -->\n";
    // A person who writes the marker, and more comments than a page holds.
    let mut held = vec![(1, json!(format!("{marker}mine")))];
    held.extend((2..150).map(|id| (id, json!("chatter"))));
    let comments: Comments = Arc::new(Mutex::new(held));
    let address = github(Arc::clone(&comments));
    for text in ["first", "second ü"] {
        let output = comment(&address, "t0ken", &format!("{marker}{text}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let held = comments.lock().unwrap();
        assert_eq!(held.len(), 150);
        assert_eq!(held[149].1, format!("{marker}{text}"));
        assert_eq!(held[0].1, format!("{marker}mine"));
    }
    // Another project's comment is another one.
    comment(&address, "t0ken", "<!-- detgate other -->\nthird");
    assert_eq!(comments.lock().unwrap().len(), 151);
    // A token that may not write costs no verdict.
    let output = comment(&address, "other", &format!("{marker}fourth"));
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("::warning::"));
}
