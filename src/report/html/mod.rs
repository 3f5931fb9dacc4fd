//! A report as one HTML page that needs nothing else: no network, no other file, no server.
//!
//! The page is a fixed skeleton, a style, a script, and the report's values as one island of JSON; the
//! script makes tables, charts and pictures of it (`page.html`, `page.css`, `*.js`). Names from data are in
//! the island alone, where no sign ends it ([`escaped`]), and the script sets them as text. A content
//! security policy lets nothing run but this very script, and nothing load but pictures in the page, so
//! that even a mistake in either would run nothing.
//!
//! Deliberately absent: frameworks and a build step, reading of images (whoever has them gives
//! [`Pictures`]), and numbers of its own, but for the counts at the score that a reader chooses.

mod base64;
mod gallery;
mod island;
mod rows;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::Report;
use crate::dataset::image::Thumbnail;
use crate::gate::Verdict;
use crate::shown;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
/// In the order in which they use each other.
const SCRIPT: &str = concat!(
    "\"use strict\";\n",
    include_str!("elements.js"),
    include_str!("tables.js"),
    include_str!("charts.js"),
    include_str!("matching.js"),
    include_str!("pictures.js"),
    include_str!("page.js"),
);

/// The pictures of a page by image id, or why one is not there, as a sentence.
pub type Pictures = BTreeMap<i64, Result<Thumbnail, String>>;

/// The longest side of a picture on the page, pixels.
pub const PICTURE_SIDE: u32 = 640;

/// Of a picture: with 40 pictures a page stays below 15 MB.
pub const PICTURE_BYTES: usize = 160_000;

/// The whole page. Equal reports and pictures give equal bytes.
///
/// # Errors
/// None that a finished run can cause: every value has a JSON form.
pub fn page(report: &Report, pictures: &Pictures) -> serde_json::Result<String> {
    let data = escaped(&serde_json::to_string(&island::of(report, pictures))?);
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        source(SCRIPT),
        source(STYLE)
    );
    let words = super::words::judgement(&report.judgement);
    Ok(filled(PAGE, |slot| match slot {
        "policy" => policy.clone(),
        "title" => format!("detgate: {}", verdict(report.judgement.verdict)),
        "style" => STYLE.to_owned(),
        "words" => text(&words),
        "data" => data.clone(),
        "script" => SCRIPT.to_owned(),
        _ => String::new(),
    }))
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Regressed => "regressed",
        Verdict::Inconclusive => "inconclusive",
        Verdict::Incomparable => "cannot be compared",
    }
}

/// As the content security policy names it.
fn source(text: &str) -> String {
    format!("'sha256-{}'", base64::encoded(&Sha256::digest(text)))
}

/// Every `%%slot%%` of the template, once: what is filled in is not looked at again.
fn filled(template: &str, fill: impl Fn(&str) -> String) -> String {
    let pieces = template.split("%%").enumerate();
    pieces.map(|(i, piece)| if i % 2 == 0 { piece.to_owned() } else { fill(piece) }).collect()
}

/// JSON that can stand in a script element of HTML: the signs that could end it, or begin a comment, occur
/// in strings alone, where they can be written otherwise.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text += &format!("\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text
}

/// As text of HTML.
fn text(text: &str) -> String {
    let sign = |c: char| match c {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        c => c.to_string(),
    };
    let lines = text.lines().map(shown::line).collect::<Vec<_>>().join("\n");
    lines.chars().map(sign).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_island_ends_it() {
        let hostile = "</script><!--<script>&\u{2028}";
        let json = serde_json::to_string(hostile).unwrap();
        let safe = escaped(&json);
        assert!(!safe.contains(['<', '>', '&', '\u{2028}']), "{safe}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), hostile);
    }

    /// Otherwise a name could bring in what stands in another slot.
    #[test]
    fn what_is_filled_in_is_not_filled_again() {
        assert_eq!(
            filled("a%%x%%b%%y%%", |slot| format!("[{slot} %%x%%]")),
            "a[x %%x%%]b[y %%x%%]"
        );
    }

    /// A browser would read the end of the element in the middle of the script.
    #[test]
    fn script_and_style_do_not_end_themselves() {
        for part in [SCRIPT, STYLE] {
            assert!(!part.contains("</") && !part.contains("<!--"));
        }
        for remote in ["http://", "https://", "url(", "@import", "innerHTML", "eval("] {
            let uses = |part: &str| part.replace("http://www.w3.org/2000/svg", "").contains(remote);
            assert!(!uses(SCRIPT) && !uses(STYLE), "{remote}");
        }
    }
}
