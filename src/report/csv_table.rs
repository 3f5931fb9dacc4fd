//! Per-class metrics as CSV, for spreadsheets and notebooks: a row for each class, with the baseline's AP
//! and AP50 beside the candidate's.

use csv::Writer;

use super::Report;
use crate::shown;

/// A spreadsheet takes what begins so for a formula.
const FORMULA: [char; 4] = ['=', '+', '-', '@'];

/// The table with its header. Undefined values are empty. A name that a spreadsheet would take for a formula
/// has a `'` before it.
///
/// # Errors
/// None that a report can cause.
pub fn per_class(report: &Report) -> csv::Result<String> {
    let mut writer = Writer::from_writer(Vec::new());
    let coco = &report.evaluation.coco.per_class;
    let practical = &report.evaluation.practical.per_class;
    let metrics = report.evaluation.coco.summary.named().map(|(name, _)| name);
    let counts = ["tp", "fp", "fn", "precision", "recall", "f1", "ap50_approx"];
    let sides = ["AP_baseline", "AP_change", "AP50_baseline", "AP50_change"];
    let header = ["category_id", "class"].into_iter().chain(metrics).chain(counts).chain(sides);
    writer.write_record(header)?;
    for (coco, practical) in coco.iter().zip(practical) {
        let mut row = vec![coco.category_id.to_string(), name(&coco.name)];
        row.extend(coco.summary.named().map(|(_, value)| number(value)));
        let counts = &practical.counts;
        row.extend([counts.tp, counts.fp, counts.fn_].map(|count| count.to_string()));
        let ratios = [counts.precision, counts.recall, counts.f1, practical.ap50_approx];
        row.extend(ratios.map(|value| number(Some(value))));
        for metric in ["AP", "AP50"] {
            let full = format!("{metric}/{}", coco.name);
            let found = report.judgement.comparisons.iter().find(|c| c.metric == full);
            row.push(number(found.and_then(|c| c.baseline)));
            row.push(number(found.and_then(|c| c.change)));
        }
        writer.write_record(row)?;
    }
    let bytes = writer.into_inner().map_err(|error| error.into_error())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn number(value: Option<f64>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn name(text: &str) -> String {
    let text = shown::line(text);
    if text.starts_with(FORMULA) { format!("'{text}") } else { text }
}
