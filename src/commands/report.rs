//! `detgate report`: a result in another form.

use std::path::Path;

use anyhow::Context;
use detgate::config::{ReportFlags, ReportForm};
use detgate::report::{self, Report, csv_table, github, junit, markdown, terminal};

use crate::say;

/// Reads, formats, prints.
pub(crate) fn run(flags: &ReportFlags, cwd: &Path) -> anyhow::Result<()> {
    let report = Report::read(&cwd.join(&flags.from))?;
    let text = match flags.format {
        ReportForm::Table => terminal::tables(&report),
        ReportForm::Markdown => markdown::summary(&report),
        ReportForm::Junit => junit::xml(&report)?,
        ReportForm::Github => github::annotations(&report),
        ReportForm::Csv => csv_table::per_class(&report)?,
        ReportForm::Json => report.to_json()?,
    };
    match &flags.output {
        Some(path) => report::write(&cwd.join(path), &text)
            .with_context(|| format!("cannot write {}; pass --output FILE", path.display())),
        None => say(&text),
    }
}
