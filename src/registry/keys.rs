//! Names of metrics as MLflow takes them: letters, digits, `_`, `-`, `.`, blanks and `/`, and no path that
//! could be written shorter (`validate_param_and_metric_name` and `path_not_unique` of
//! `mlflow/utils/validation.py`, MLflow 3.17). A class may be called anything, and its name stands in
//! those of its metrics.
//!
//! Deliberately absent: `:`, which MLflow takes except where its server runs on Windows.

use std::collections::BTreeMap;

use unicode_width::UnicodeWidthChar;

/// The longest name, characters.
const LONGEST: usize = 250;
/// Characters that stay of a longer name, so that a number fits behind it.
const KEPT: usize = 240;

/// The metrics under names that MLflow takes. What it would refuse becomes `_`; of names that are then
/// equal the later ones, in name order, end in `-2`, `-3` and so on.
pub(super) fn acceptable(metrics: BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    // Names that are fine as they are keep them, whatever others would become.
    let (mut kept, odd): (BTreeMap<_, _>, BTreeMap<_, _>) =
        metrics.into_iter().partition(|(name, _)| acceptable_name(name) == *name);
    for (name, value) in odd {
        let name = acceptable_name(&name);
        let numbered = (2_u32..).map(|n| format!("{name}-{n}"));
        let free =
            std::iter::once(name.clone()).chain(numbered).find(|name| !kept.contains_key(name));
        kept.insert(free.unwrap_or(name), value);
    }
    kept
}

fn acceptable_name(name: &str) -> String {
    let part = |part: &str| match part {
        "" | "." | ".." => "_".to_owned(),
        part => part.chars().map(|c| if is_acceptable(c) { c } else { '_' }).collect(),
    };
    let whole = match name.split_once('/') {
        Some((metric, class)) => format!("{}/{}", part(metric), part(class)),
        None => part(name),
    };
    if whole.chars().count() <= LONGEST { whole } else { whole.chars().take(KEPT).collect() }
}

/// What Python's `\w` takes depends on the server's Python: letters that its Unicode does not know yet are
/// none, and marks, which Rust counts among the letters, never are. So: the letters of scripts that have
/// been whole for long, and need no marks.
fn is_acceptable(c: char) -> bool {
    let is_letter = c.is_alphanumeric() && c.width() != Some(0);
    match c {
        '_' | '-' | '.' | ' ' => true,
        '\0'..='\u{24f}' => is_letter,
        // Greek, Cyrillic, Armenian, Hebrew, Arabic, Thai, Georgian; Vietnamese; Greek with accents.
        '\u{386}'..='\u{52f}'
        | '\u{531}'..='\u{586}'
        | '\u{5d0}'..='\u{5ea}'
        | '\u{620}'..='\u{64a}'
        | '\u{671}'..='\u{6d3}'
        | '\u{e01}'..='\u{e46}'
        | '\u{10d0}'..='\u{10ff}'
        | '\u{1ea0}'..='\u{1eff}'
        | '\u{1f00}'..='\u{1ffc}' => is_letter,
        // Kana, Han and Hangul.
        '\u{3005}'
        | '\u{3041}'..='\u{3096}'
        | '\u{30a1}'..='\u{30fe}'
        | '\u{3400}'..='\u{4db5}'
        | '\u{4e00}'..='\u{9fd5}'
        | '\u{ac00}'..='\u{d7a3}' => is_letter,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        let metrics = names.iter().map(|name| ((*name).to_owned(), 0.5)).collect();
        acceptable(metrics).into_keys().collect()
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        let plain = [
            "AP/person",
            "AP/traffic light",
            "AP50/person@night".trim_end_matches("@night"),
            "AP/人",
            "f1/Fußgänger",
        ];
        let mut sorted = plain.map(str::to_owned);
        sorted.sort();
        assert_eq!(names(&plain), sorted);
    }

    #[test]
    fn what_mlflow_would_refuse_is_replaced_and_nothing_is_lost() {
        assert_eq!(names(&["AP/a+b", "AP/a*b", "AP/a_b"]), ["AP/a_b", "AP/a_b-2", "AP/a_b-3"]);
        assert_eq!(names(&["AP/..", "AP//x", "AP/"]), ["AP/_", "AP/_-2", "AP/_x"]);
        assert_eq!(names(&["AP/<b>\u{202e}\n`|"]), ["AP/_b_____"]);
        let long = names(&[&format!("AP/{}", "x".repeat(300)), &format!("AP/{}", "x".repeat(301))]);
        assert!(
            long.len() == 2 && long.iter().all(|name| name.chars().count() <= LONGEST),
            "{long:?}"
        );
    }
    /// MLflow's own rule, asked of MLflow for every character there is.
    #[test]
    fn every_character_that_is_kept_is_one_that_mlflow_takes() {
        const SCRIPT: &str =
            "import json, sys; from mlflow.utils.validation import _validate_metric_name as check
for first, last in json.loads(sys.argv[1]):
    for code in range(first, last + 1): check('AP/x' + chr(code) + 'x')
print('all')";
        let python = std::env::var_os("DETGATE_MLFLOW_PYTHON").filter(|python| !python.is_empty());
        let Some(python) = python else {
            // Not eprintln!, which the test harness swallows when a test passes.
            let note = b"skipped: names of metrics are checked with DETGATE_MLFLOW_PYTHON, a Python with MLflow\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), note);
            return;
        };
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for c in ('\0'..=char::MAX).filter(|c| is_acceptable(*c)).map(u32::from) {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == c => *last = c,
                _ => ranges.push((c, c)),
            }
        }
        let ranges = serde_json::json!(ranges).to_string();
        let output =
            std::process::Command::new(python).args(["-c", SCRIPT, &ranges]).output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(out.trim(), "all", "{}", err.lines().last().unwrap_or_default());
    }
}
