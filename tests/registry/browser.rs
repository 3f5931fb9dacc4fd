//! A browser without a window, where there is one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) use super::chromium::browser;
use super::chromium::skipped;

/// How long a page may take to say what is waited for: it asks its server for one thing after another.
const PATIENCE: Duration = Duration::from_secs(90);

/// The longest time that a page's own clock is let run, milliseconds.
const LONGEST: u32 = 64_000;

/// Whether a server has pages: the smallest MLflow has none. Without, says that the test is skipped.
pub(crate) fn has_pages(server: &str) -> bool {
    let page = reqwest::blocking::get(server).and_then(|answer| answer.text()).unwrap_or_default();
    let has_pages = page.contains("<div id=\"root\"");
    if !has_pages {
        skipped("an MLflow that has its web pages");
    }
    has_pages
}

/// A browser on one server's pages.
pub(crate) struct Browser<'a> {
    pub(crate) program: PathBuf,
    pub(crate) server: &'a str,
}

impl Browser<'_> {
    /// The page at `#path` as the browser has built it, once it contains `wanted`; a picture of it is put
    /// into `DETGATE_SCREENSHOTS`, if that names a folder.
    pub(crate) fn page(&self, name: &str, path: &str, wanted: &str) -> String {
        let url = format!("{}/#{path}", self.server);
        let started = Instant::now();
        let mut budget = 8000;
        loop {
            let page = self.run(&["--dump-dom"], &url, budget);
            if page.contains(wanted) {
                self.picture(name, &url, budget);
                return page;
            }
            assert!(started.elapsed() < PATIENCE, "{url} does not say {wanted:?}: {page}");
            budget = (budget * 2).min(LONGEST);
        }
    }

    fn picture(&self, name: &str, url: &str, budget: u32) {
        if let Some(folder) =
            std::env::var_os("DETGATE_SCREENSHOTS").filter(|folder| !folder.is_empty())
        {
            let file = Path::new(&folder).join(format!("{name}.png"));
            self.run(&[&format!("--screenshot={}", file.display())], url, budget);
        }
    }

    /// `budget`: milliseconds of the page's own clock.
    fn run(&self, arguments: &[&str], url: &str, budget: u32) -> String {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(&self.program);
        command.args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display()));
        command
            .arg(format!("--virtual-time-budget={budget}"))
            .args(["--window-size=1400,1800", "--timeout=60000"]);
        let output = command.args(arguments).arg(url).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}
