//! A verdict as short Markdown for a page of the registry: a version's description, a run's note.
//!
//! Names are as inert as in [`super::markdown`], which is for a pull request and has ten times the room, but
//! otherwise written: MLflow's pages show entities between `<code>` and `</code>` as they stand.
//! Deliberately absent: links; where files are is known to whoever keeps them.

use super::markdown::plain;
use super::words::{self, allowed, finding_of, interval_text, moved, value};
use super::{Report, terminal};
use crate::gate::Comparison;
use crate::shown::{self, count, counted};

/// Characters of a whole text: MLflow keeps 5000 of a description, and links stand below.
const LONGEST: usize = 4000;

/// What was evaluated, against what, the verdict, and the judged metrics in a table. At most 4000
/// characters: as many rows as fit, the most important first.
pub fn summary(report: &Report, baseline: &str) -> String {
    let data = &report.data;
    let verdict = verdict(report);
    let subject = format!(
        "{} on {}, {}, compared with {}.\n\n",
        name(&report.checkpoint.checkpoint),
        count(data.images, "image"),
        counted(data.ground_truth, "box", "boxes"),
        name(baseline)
    );
    // Many warnings must not leave the table without room.
    let verdict = within(&verdict, LONGEST / 2);
    let room = LONGEST.saturating_sub(verdict.chars().count() + subject.chars().count());
    verdict + &subject + &table(report, room)
}

/// The verdict with the two best known numbers, then all else that is said, a paragraph each. MLflow's lists
/// of versions show how a description begins, as it is written: no sign there stands for another.
fn verdict(report: &Report) -> String {
    let said = words::judgement(&report.judgement);
    let mut lines = said.lines();
    let first = lines.next().unwrap_or_default();
    let (word, rest) = first.split_once(": ").unwrap_or((first, "see below"));
    let summary = &report.evaluation.coco.summary;
    let (ap, ap50) = (value(summary.ap), value(summary.ap50));
    let others = lines.map(|line| plain(line.trim()) + "\n\n");
    format!("{word}: AP {ap}, AP50 {ap50}. {rest}.\n\n{}", others.collect::<String>())
}

/// The paragraphs that fit.
fn within(paragraphs: &str, room: usize) -> String {
    let mut kept = String::new();
    for paragraph in paragraphs.split_inclusive("\n\n") {
        if kept.chars().count() + paragraph.chars().count() > room {
            return kept + "(more in the report)\n\n";
        }
        kept += paragraph;
    }
    kept
}

fn table(report: &Report, room: usize) -> String {
    let judgement = &report.judgement;
    let has_intervals = judgement.method.replicates > 0;
    let interval = format!("{}&nbsp;%", judgement.method.confidence * 100.0);
    let cells = |cells: [&str; 7]| {
        let cells = cells.iter().enumerate().filter(|(i, _)| *i != INTERVAL || has_intervals);
        cells.fold("|".to_owned(), |row, (_, cell)| row + " " + cell + " |") + "\n"
    };
    let mut table = cells(HEADER.map(|name| if name.is_empty() { &interval } else { name }));
    table += &cells(["---", "---:", "---:", "---:", "---:", "---:", "---"]);
    let shown = terminal::shown(judgement);
    let (mut rows, mut used) = (0, table.chars().count());
    for comparison in &shown {
        let row = row(comparison);
        let row = cells([&row[0], &row[1], &row[2], &row[3], &row[4], &row[5], &row[6]]);
        used += row.chars().count();
        if used + MARK > room {
            break;
        }
        table += &row;
        rows += 1;
    }
    let left_out = shown.len() - rows;
    if left_out > 0 {
        table += &format!("\n{} more in the report.\n", count(left_out, "row"));
    }
    table
}

/// MLflow's pages set columns without room between them.
const HEADER: [&str; 7] =
    ["metric", "baseline&nbsp;", "candidate&nbsp;", "change&nbsp;", "", "allowed&nbsp;", "verdict"];
/// The column of intervals, which is called after their confidence.
const INTERVAL: usize = 4;
/// Room for the sentence about rows that are left out.
const MARK: usize = 60;

fn row(comparison: &Comparison) -> [String; 7] {
    let change =
        comparison.change.map_or_else(|| "-".to_owned(), |change| moved(comparison, change));
    let interval = comparison.interval.as_ref();
    let spaced = |cell: String| if cell.is_empty() { cell } else { cell + "&nbsp;" };
    [
        spaced(name(&comparison.metric)),
        value(comparison.baseline),
        value(comparison.candidate),
        change,
        // On one line, however narrow the page.
        spaced(interval.map_or_else(String::new, |it| interval_text(it).replace(' ', "&nbsp;"))),
        // `>=` is no quotation inside of a table, but HTML all the same.
        spaced(comparison.rule.as_ref().map_or_else(String::new, |rule| plain(&allowed(rule)))),
        comparison.finding.map_or_else(String::new, |found| finding_of(comparison, found)),
    ]
}

/// A name of anything, on one line and not longer than others: as code where nothing in it could end
/// that, else every sign as its entity.
fn name(name: &str) -> String {
    let shown = shown::name(name);
    let is_plain = |c: char| c.is_alphanumeric() || "_-./@+:,='() ".contains(c);
    let fits_code = shown.chars().all(is_plain) && shown.trim() == shown;
    if fits_code { format!("`{shown}`") } else { plain(&shown) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_and_not_obeyed() {
        assert_eq!(name("AP50/traffic light"), "`AP50/traffic light`");
        assert_eq!(name("AP/a|b"), "AP&#47;a&#124;b");
        assert_eq!(name("`x` *y*"), "&#96;x&#96; &#42;y&#42;");
        assert_eq!(name("<b onclick=a>"), "&#60;b onclick&#61;a&#62;");
        assert_eq!(
            name("[a](http://b.c)\n# d"),
            "&#91;a&#93;(http&#58;&#47;&#47;b.c)&#92;n&#35; d"
        );
        assert_eq!(name(""), "&#34;&#34;");
    }
}
