//! What is wrong with a TOML file, in one sentence: where it is, and what was probably meant.

use std::path::Path;

/// `detgate.toml:3:1: unknown key `max_dorp`; did you mean `max_drop`?`
pub(super) fn sentence(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let place = error.span().map_or(String::new(), |span| {
        let before = &text[..span.start.min(text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!(":{line}:{column}")
    });
    format!("{}{place}: {}", path.display(), words(error.message()))
}

/// serde's words, in those of the file: fields are keys, variants are values.
fn words(message: &str) -> String {
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let (kind, rest) = match message.split_once('`') {
        Some(("unknown field ", rest)) => ("key", rest),
        Some(("unknown variant ", rest)) => ("value", rest),
        _ => return message,
    };
    let Some((written, known)) = rest.split_once('`') else { return message };
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let meant = match nearest(written, known.iter().copied()) {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("known are {}", known.join(", ")),
    };
    format!("unknown {kind} `{written}`; {meant}")
}

/// The known word that is most like the written one, if any is much like it.
pub(crate) fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let alike = |word: &str| strsim::jaro_winkler(&written.to_lowercase(), &word.to_lowercase());
    let scored = known.map(|word| (alike(word), word)).filter(|(score, _)| *score > 0.75);
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word)
}
