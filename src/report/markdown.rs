//! A report as Markdown, for the comment on a pull request and a job's summary.
//!
//! Names come from data: they are shown as code, every sign in them as an entity, so that neither
//! Markdown nor HTML, no mention and no link is made of them. Deliberately absent: pictures and
//! curves, which the page has.

use super::words::{self, allowed, interval_text, moved, value};
use super::{Report, sources};
use crate::gate::{Comparison, Finding, Verdict};
use crate::metrics::losses::FlipKind;
use crate::shown::{self, count, counted};

/// GitHub cuts comments at 65,536 characters; some room is for what others put around ours.
const MOST_BYTES: usize = 60_000;
/// As many images as a reader looks at.
const IMAGES: usize = 5;

/// The verdict, what changed, the images that lost most, and how to accept it; under 60 kB, ending in a
/// line break.
pub fn summary(report: &Report) -> String {
    // Whatever is long is shortened row by row, so that what is left is whole.
    for rows in [100, 40, 15, 5] {
        let text = with_rows(report, rows);
        if text.len() <= MOST_BYTES {
            return text;
        }
    }
    with_rows(report, 1)
}

fn with_rows(report: &Report, rows: usize) -> String {
    let mut text = format!("{}\n\n{}", heading(report), sentences(report, rows));
    text += &table(report, rows);
    text += &worst_images(report);
    text += how_to_accept(report);
    text + &provenance(report)
}

fn heading(report: &Report) -> String {
    let verdict = match report.judgement.verdict {
        Verdict::Passed => "✅ passed",
        Verdict::Regressed => "❌ regressed",
        Verdict::Inconclusive => "❔ inconclusive",
        Verdict::Incomparable => "⚠️ cannot be compared",
    };
    format!("## detgate: {verdict}")
}

/// The words of the verdict as a list.
fn sentences(report: &Report, rows: usize) -> String {
    let words = words::judgement(&report.judgement);
    let mut lines = words.lines();
    let first = lines.next().map(plain).unwrap_or_default();
    let items: Vec<String> =
        lines.map(|line| format!("- {}\n", plain(line.trim_start()))).collect();
    let left = items.len().saturating_sub(rows);
    let more = if left > 0 { format!("- and {left} more\n") } else { String::new() };
    format!("**{first}**\n\n{}{more}\n", items.into_iter().take(rows).collect::<String>())
}

/// The judged metrics: those that are not fine first, then those that changed most.
fn table(report: &Report, rows: usize) -> String {
    let mut judged: Vec<&Comparison> = report.judgement.judged().collect();
    let fine = |c: &Comparison| c.finding == Some(Finding::Ok);
    let change = |c: &Comparison| c.change.unwrap_or(f64::NEG_INFINITY);
    judged.sort_by(|a, b| fine(a).cmp(&fine(b)).then_with(|| change(a).total_cmp(&change(b))));
    if judged.is_empty() {
        return String::new();
    }
    let has_intervals = report.judgement.method.replicates > 0;
    let confidence = report.judgement.method.confidence * 100.0;
    let (head, rule) =
        if has_intervals { (format!(" {confidence} % |"), "---|") } else { (String::new(), "") };
    let mut text = format!(
        "| metric | baseline | candidate | change |{head} allowed | verdict |\n\
         |---|--:|--:|--:|{rule}--:|---|\n"
    );
    for comparison in judged.iter().take(rows) {
        text += &row(comparison, has_intervals);
    }
    if judged.len() > rows {
        text += &format!("\n{} more are in the report.\n", judged.len() - rows);
    }
    text + "\n"
}

fn row(comparison: &Comparison, has_intervals: bool) -> String {
    let interval = comparison.interval.as_ref().map_or_else(String::new, interval_text);
    let interval = if has_intervals { format!(" {} |", plain(&interval)) } else { String::new() };
    let change = comparison.change.map(|change| moved(comparison, change));
    let allowed = comparison.rule.as_ref().map(allowed).unwrap_or_default();
    let finding = comparison.finding.map(|found| words::finding_of(comparison, found));
    format!(
        "| {} | {} | {} | {} |{interval} {} | {} |\n",
        code(&comparison.metric),
        value(comparison.baseline),
        value(comparison.candidate),
        plain(&change.unwrap_or_else(|| "-".to_owned())),
        plain(&allowed),
        finding.unwrap_or_default()
    )
}

fn worst_images(report: &Report) -> String {
    let Some(why) = report.why.as_ref().filter(|why| !why.worst.is_empty()) else {
        return String::new();
    };
    let mut text = "### Images that lost most\n\n".to_owned();
    for image in why.worst.iter().take(IMAGES) {
        let errors = image.loss.errors_change();
        let missed = image.loss.flips.iter().filter(|flip| flip.kind == FlipKind::Missed).count();
        let missed = if missed > 0 {
            format!(", {} missed", counted(missed, "box", "boxes"))
        } else {
            String::new()
        };
        text += &format!(
            "- {}: {}{missed}\n",
            code(&image.file_name),
            count(errors.max(0) as usize, "more error")
        );
    }
    text + "\n"
}

fn how_to_accept(report: &Report) -> &'static str {
    match report.judgement.verdict {
        Verdict::Passed => "",
        _ => {
            "To accept this as the new baseline: run `detgate eval` at this commit, then \
             `detgate bless --force --reason \"why\"`, and commit the baseline.\n\n"
        }
    }
}

fn provenance(report: &Report) -> String {
    let mut text = "<details><summary>What was evaluated</summary>\n\n".to_owned();
    for (name, fact) in sources(report) {
        text += &format!("- {}: {}\n", plain(&name), as_code(&shown::line(&fact)));
    }
    text + "\n</details>\n"
}

/// Sentences as a list; no sign in them has a meaning.
pub fn list(sentences: &[String]) -> String {
    sentences.iter().map(|sentence| format!("- {}\n", plain(sentence))).collect()
}

/// Text in which no sign has a meaning.
pub(super) fn plain(text: &str) -> String {
    let text = shown::line(text);
    let sign = |c: char| {
        if c.is_ascii_punctuation() && !matches!(c, '.' | ',' | ';' | '%' | '(' | ')' | '+') {
            format!("&#{};", u32::from(c))
        } else {
            c.to_string()
        }
    };
    text.chars().map(sign).collect()
}

/// A name, which may be cut.
fn code(name: &str) -> String {
    as_code(&shown::name(name))
}

fn as_code(text: &str) -> String {
    let sign = |c: char| {
        if c.is_ascii_punctuation() { format!("&#{};", u32::from(c)) } else { c.to_string() }
    };
    format!("<code>{}</code>", text.chars().map(sign).collect::<String>())
}
