//! Links to a run's files, below the description of its version and in its note.
//!
//! They are written for MLflow's own pages (`#/experiments/...`), relative to wherever those are served;
//! a page that shows a description elsewhere shows the words. They are known only when the run is.

use super::api::Run;

/// A word and the file or folder that it leads to, below the run's artifact root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// What is shown; plain words.
    pub label: String,
    /// `/` between its parts.
    pub path: String,
}

impl Link {
    /// A link to `path`.
    pub fn new(label: &str, path: impl Into<String>) -> Self {
        Self { label: label.to_owned(), path: path.into() }
    }
}

/// `text`, Markdown, with the links below it, in at most `limit` characters: the text gives way.
pub(super) fn with_links(text: &str, links: &[Link], run: &Run, limit: usize) -> String {
    let links: Vec<String> = links.iter().map(|link| markdown(link, run)).collect();
    if links.is_empty() {
        return super::prepare::cut(text, limit);
    }
    let links = format!("\n\n{}\n", links.join(" · "));
    let room = limit.saturating_sub(links.chars().count());
    super::prepare::cut(text.trim_end(), room) + &links
}

fn markdown(link: &Link, run: &Run) -> String {
    let Run { id, experiment_id, .. } = run;
    format!(
        "[{}](#/experiments/{experiment_id}/runs/{id}/artifacts/{})",
        link.label,
        encoded(&link.path)
    )
}

/// Every byte that could mean something to Markdown or to a browser.
fn encoded(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._".contains(&byte);
    let piece = |byte: u8| match is_plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    path.bytes().map(piece).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_whole_when_the_text_does_not() {
        let run = Run { id: "ab".into(), experiment_id: "7".into(), artifact_uri: String::new() };
        let links = [Link::new("report", "reports/a b)ü.json"), Link::new("curves", "plots")];
        let text = with_links(&"x".repeat(500), &links, &run, 250);
        assert_eq!(text.chars().count(), 250, "{text}");
        assert!(text.contains("[cut by detgate; 500 characters]"), "{text}");
        assert!(
            text.ends_with(
                "\n\n[report](#/experiments/7/runs/ab/artifacts/reports/a%20b%29%C3%BC.json) \
                 · [curves](#/experiments/7/runs/ab/artifacts/plots)\n"
            ),
            "{text}"
        );
    }
}
