//! The documents of an archive: what its README links to, directly or through others, and the demo, to try the program on.

use std::path::Path;

use anyhow::{Context, Result};
use xshell::{Shell, cmd};

use crate::project::repository;

/// Where they are in the repository, and in the archive.
const PACKED: [&str; 11] = [
    ".github/workflows/check.yml",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "ci/check.sh",
    "docs",
    "fixtures/demo",
    "schemas",
];

/// Copies them into `into`, as they lie in the repository: what is under version control, and nothing that a run left there.
///
/// # Errors
/// Where git or a file is missing.
pub(super) fn copy(sh: &Shell, into: &Path) -> Result<()> {
    for file in packed(sh)? {
        let target = into.join(&file);
        sh.create_dir(target.parent().context("a file without a folder")?)?;
        sh.copy_file(repository().join(&file), target)?;
    }
    Ok(())
}

fn packed(sh: &Shell) -> Result<Vec<String>> {
    let repository = repository();
    let listed = cmd!(sh, "git -C {repository} ls-files -z -- {PACKED...}").quiet().read()?;
    Ok(listed.split_terminator('\0').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::path::{Component, PathBuf};

    use super::*;

    /// The targets of the links of a page of Markdown that are files beside it.
    fn linked(text: &str) -> Vec<&str> {
        text.split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
            .filter(|target| !target.is_empty() && !target.contains(':'))
            .collect()
    }

    fn normalized(path: &Path) -> PathBuf {
        path.components().fold(PathBuf::new(), |mut path, part| {
            if part == Component::ParentDir {
                path.pop();
            } else {
                path.push(part);
            }
            path
        })
    }

    #[test]
    fn links_are_told_from_addresses_and_places_in_the_page() {
        let text = "[a](b.md#c) and [d](#e), [f](https://g), ![h](i/j.png)";
        assert_eq!(linked(text), ["b.md", "i/j.png"]);
        assert_eq!(normalized(Path::new("docs/../README.md")), Path::new("README.md"));
    }

    #[test]
    fn every_link_of_a_packed_page_leads_to_what_is_packed() {
        let sh = Shell::new().unwrap();
        let packed = packed(&sh).unwrap();
        let holds = |target: &Path| packed.iter().any(|file| Path::new(file).starts_with(target));
        let pages = packed.iter().filter(|file| file.ends_with(".md"));
        let mut links = 0;
        for page in pages {
            let text = std::fs::read_to_string(repository().join(page)).unwrap();
            for link in linked(&text) {
                let target = normalized(&Path::new(page).with_file_name(link));
                assert!(
                    holds(&target),
                    "{page} links to {}, which is not packed",
                    target.display()
                );
                links += 1;
            }
        }
        assert!(links > 20, "{links} links were found");
    }
}
