//! `detgate report`: a result in another form.

use std::path::Path;

use anyhow::Context;
use detgate::config::{ReportFlags, ReportForm, images_of_project};
use detgate::report::{self, Report, csv_table, github, junit, markdown, terminal};

use super::page;
use crate::say;

/// Reads, formats, prints.
pub(crate) fn run(flags: &ReportFlags, cwd: &Path) -> anyhow::Result<()> {
    let from = cwd.join(&flags.from);
    let report = Report::read(&from)?;
    let text = match flags.format {
        ReportForm::Table => terminal::tables(&report),
        ReportForm::Markdown => markdown::summary(&report),
        ReportForm::Junit => junit::xml(&report)?,
        ReportForm::Github => github::annotations(&report),
        ReportForm::Csv => csv_table::per_class(&report)?,
        ReportForm::Html => {
            let named = flags.images.as_ref().map(|images| cwd.join(images));
            let images = named.or_else(|| images_of_project(from.parent()?));
            page::of_folder(&report, images.as_deref())?
        }
        ReportForm::Json => report.to_json()?,
    };
    match &flags.output {
        Some(path) => report::write(&cwd.join(path), &text)
            .with_context(|| format!("cannot write {}; pass --output FILE", path.display())),
        None => say(&text),
    }
}
