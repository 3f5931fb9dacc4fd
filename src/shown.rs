//! Names and sentences from outside (class names, file names, what other programs say) as a terminal can
//! show them: nothing in them moves its cursor, colours it or turns the direction of its text, and none
//! breaks a line. A character that would is written as Rust escapes it: `\u{1b}`.
//!
//! Deliberately absent: JSON and files, which have every text as it is.

use std::borrow::Cow;
use std::path::Path;

use unicode_width::UnicodeWidthChar;

/// A longer name is cut in its middle: paths, and names of classes on slices, differ at both ends.
const WIDEST: usize = 48;

/// Columns that stay of a cut name's end.
const END: usize = 16;

/// A name for a table's cell or the middle of a sentence: on one line, at most 48 columns wide, and
/// `""` where it is empty.
pub fn name(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".to_owned();
    }
    let pieces: Vec<String> = text.chars().map(piece).collect();
    if fitting(pieces.iter(), WIDEST) == pieces.len() {
        return pieces.concat();
    }
    let head = fitting(pieces.iter(), WIDEST - END - 1);
    let tail = pieces.len() - fitting(pieces.iter().rev(), END);
    pieces[..head].concat() + "…" + &pieces[tail..].concat()
}

/// A whole sentence, on one line.
pub fn line(text: &str) -> String {
    text.chars().map(piece).collect()
}

/// A text of several lines: those after the first are indented, so that none of them looks like a
/// sentence of ours.
pub fn lines(text: &str) -> String {
    text.lines().map(line).collect::<Vec<_>>().join("\n  ")
}

/// A path as a word of a shell, for a command that somebody may copy.
pub fn word(path: &Path) -> String {
    let text = line(&path.to_string_lossy());
    // Nothing that `line` leaves is a NUL, which alone no shell can be given.
    shlex::try_quote(&text).map_or_else(|_| text.clone(), Cow::into_owned)
}

/// `1 image`, `2 images`.
pub fn count(n: usize, noun: &str) -> String {
    counted(n, noun, &format!("{noun}s"))
}

/// As [`count`], for a noun whose plural has no s.
pub fn counted(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

fn piece(c: char) -> String {
    if is_hostile(c) { c.escape_default().to_string() } else { c.to_string() }
}

fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks, embeddings, overrides and isolates of text direction.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Nobody sees them: a byte order mark, and tags.
            | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// A character takes at least one column here: combining ones could be without number.
fn columns(piece: &str) -> usize {
    piece.chars().map(|c| c.width().unwrap_or(1).max(1)).sum()
}

/// How many of the pieces fit.
fn fitting<'p>(pieces: impl Iterator<Item = &'p String>, width: usize) -> usize {
    let mut left = width;
    let mut fits = |piece: &&String| {
        let rest = left.checked_sub(columns(piece));
        left = rest.unwrap_or(left);
        rest.is_some()
    };
    pieces.take_while(|piece| fits(piece)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_reaches_the_terminal_as_an_order() {
        assert_eq!(name("\u{1b}[2Jcar\r\n"), r"\u{1b}[2Jcar\r\n");
        assert_eq!(name("\u{202e}rac\u{2066}\u{9b}\u{7f}"), r"\u{202e}rac\u{2066}\u{9b}\u{7f}");
        assert_eq!(name(""), "\"\"");
        assert_eq!(line("a\tb\u{2028}c"), r"a\tb\u{2028}c");
        assert_eq!(lines("said\nPASSED: \u{7}\n"), "said\n  PASSED: \\u{7}");
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        let words = ["runs/best.snap", "my runs/it's.snap", "$(reboot)", "a\nb"];
        let words = words.map(|path| word(Path::new(path)));
        let quoted = [r#""my runs/it's.snap""#, "'$(reboot)'", r#""a\\nb""#];
        assert_eq!(words[..1], ["runs/best.snap"]);
        assert_eq!(words[1..], quoted);
    }

    #[test]
    fn names_of_any_script_stay_as_they_are() {
        for plain in
            ["person", "passenger car", "人", "Fußgänger", "سيارة", "🚗", "👨‍👩‍👧", "a'b\"c\\d"]
        {
            assert_eq!(name(plain), plain);
        }
    }

    #[test]
    fn a_long_name_is_cut_in_its_middle_and_between_characters() {
        let whole = "x".repeat(48);
        assert_eq!(name(&whole), whole);
        let cut = name(&format!("AP50/{}@night", "y".repeat(500)));
        assert_eq!(cut, format!("AP50/{}…{}@night", "y".repeat(26), "y".repeat(10)));
        // Twice as wide as they are many.
        assert_eq!(name(&"人".repeat(100)), format!("{}…{}", "人".repeat(15), "人".repeat(8)));
        // An escape stays whole.
        assert_eq!(
            name(&"\u{1b}".repeat(100)),
            format!("{}…{}", r"\u{1b}".repeat(5), r"\u{1b}".repeat(2))
        );
        // Marks without a width are as many as letters would be.
        assert_eq!(name(&format!("a{}", "\u{301}".repeat(5000))).chars().count(), 48);
    }
}
