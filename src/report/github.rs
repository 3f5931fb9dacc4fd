//! A report as annotations of GitHub Actions: workflow commands on standard output, the worst first.
//!
//! Source: GitHub Docs, "Workflow commands for GitHub Actions", and how `@actions/core` escapes them.

use super::Report;
use super::words::{self, explain};
use crate::gate::Verdict;
use crate::shown;

/// GitHub shows ten errors, and ten warnings, of a step.
const MOST: usize = 10;

/// A line for each annotation; empty where there is nothing to say.
pub fn annotations(report: &Report) -> String {
    let judgement = &report.judgement;
    let title = |comparison: &&crate::gate::Comparison| comparison.metric.clone();
    let line = |level: &str, title: &str, message: &str| {
        format!("::{level} title={}::{}\n", property(title), data(message))
    };
    let mut errors: Vec<String> = match judgement.verdict {
        Verdict::Incomparable => {
            judgement.reasons.iter().map(|reason| line("error", "not comparable", reason)).collect()
        }
        _ => {
            let broken = judgement.broken().into_iter().chain(judgement.undecided());
            broken.map(|c| line("error", &title(&c), &explain(c, judgement))).collect()
        }
    };
    let left = errors.len().saturating_sub(MOST);
    if left > 0 {
        errors.truncate(MOST - 1);
        let verdict = words::judgement(judgement);
        let first = verdict.lines().next().unwrap_or_default();
        errors.push(line("error", "detgate", &format!("{first}; {} more", left + 1)));
    }
    let warnings = judgement.warnings().into_iter().take(MOST);
    errors.extend(warnings.map(|c| line("warning", &title(&c), &explain(c, judgement))));
    errors.concat()
}

/// What ends a line ends a command, and what follows would be the next.
fn data(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(shown::line).collect();
    lines.join("\n").replace('%', "%25").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
