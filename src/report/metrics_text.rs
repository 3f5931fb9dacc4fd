//! Metrics as text: pycocotools' 12 lines, and tables of what [`Details`] holds.
//!
//! Every function ends its text in a line break. Values are rounded, thresholds too: the JSON has
//! them exactly. `-` is an undefined value.
//!
//! Deliberately absent: any choice of what to show beyond the number of rows.

use comfy_table::Table;

use super::terminal::{STYLE, align_numbers};
use crate::matching::coco::{CocoParams, SummaryLimits};
use crate::matching::lvis::MAX_DETS;
use crate::metrics::confusion::ConfusionMatrix;
use crate::metrics::details::Details;
use crate::metrics::lvis::{LvisMetrics, LvisParams, LvisSummary};
use crate::metrics::operating_points::ClassPoints;
use crate::metrics::per_image::ImageResult;
use crate::metrics::tally::Tally;
use crate::metrics::{CocoMetrics, CocoSummary};
use crate::shown::{self, count};

/// Up to so many classes the confusion matrix is shown as a matrix; it would be too wide with more.
const MATRIX_CLASSES: usize = 10;

/// So many confusions are listed where the matrix is too wide.
const CONFUSIONS: usize = 20;

/// The 12 lines that `COCOeval.summarize` of pycocotools 2.0.11 prints (cocoeval.py lines 427-475),
/// character for character; undefined is its -1.
///
/// `params` are those of the evaluation. With fewer than three detection limits pycocotools stops
/// with an exception; here the limit that is missing is `-`.
pub fn coco_lines(summary: &CocoSummary, params: &CocoParams) -> String {
    let mut limits = params.max_dets.clone();
    limits.sort_unstable();
    let used = SummaryLimits::new(&limits, params.fixes);
    let said = |limit: Option<usize>| limit.map_or_else(|| "-".to_owned(), |m| m.to_string());
    let thr = |thr: Option<&f64>| thr.map_or_else(|| "-".to_owned(), |thr| format!("{thr:.2}"));
    let range = format!("{}:{}", thr(params.iou_thrs.first()), thr(params.iou_thrs.last()));
    let line = |(i, (_, value)): (usize, (&str, Option<f64>))| {
        let (title, kind) =
            if i < 6 { ("Average Precision", "(AP)") } else { ("Average Recall", "(AR)") };
        let iou = match i {
            1 => "0.50",
            2 => "0.75",
            _ => &range,
        };
        let area = match i {
            3 | 9 => "small",
            4 | 10 => "medium",
            5 | 11 => "large",
            _ => "all",
        };
        let limit = match i {
            0 => said(used.ap),
            6 => said(used.first),
            7 => said(used.second),
            _ => said(used.others),
        };
        let value = value.unwrap_or(-1.0);
        format!(
            " {title:<18} {kind} @[ IoU={iou:<9} | area={area:>6} | maxDets={limit:>3} ] = {value:.3}\n"
        )
    };
    summary.named().into_iter().enumerate().map(line).collect()
}

/// The 13 lines that `LVISEval.print_results` of lvis 0.5.3 prints; undefined is its -1.
pub fn lvis_lines(summary: &LvisSummary, params: &LvisParams) -> String {
    let thr = |thr: Option<&f64>| thr.map_or_else(|| "-".to_owned(), |thr| format!("{thr:.2}"));
    let range = format!("{}:{}", thr(params.iou_thrs.first()), thr(params.iou_thrs.last()));
    let line = |(name, value): (&str, Option<f64>)| {
        let title = if name.starts_with("AP") { "Average Precision" } else { "Average Recall" };
        let iou = match name {
            "AP50" => "0.50",
            "AP75" => "0.75",
            _ => &range,
        };
        let mark = name.get(2..3).filter(|mark| "smlrcf".contains(mark)).unwrap_or("all");
        let (area, group) = if "rcf".contains(mark) { ("all", mark) } else { (mark, "all") };
        let value = value.unwrap_or(-1.0);
        format!(
            " {title:<18} ({}) @[ IoU={iou:<9} | area={area:>6} | maxDets={MAX_DETS:>3} catIds={group:>3}] = \
             {value:.3}\n",
            &name[..2]
        )
    };
    summary.named().into_iter().map(line).collect()
}

/// A row of the 12 numbers for each class, and one for all.
pub fn per_class(metrics: &CocoMetrics) -> String {
    let classes =
        metrics.per_class.iter().map(|class| (class.name.as_str(), class.summary.named()));
    class_table(classes.chain([("all", metrics.summary.named())]))
}

/// A row of the 13 numbers for each class, and one for all.
pub fn lvis_per_class(metrics: &LvisMetrics) -> String {
    let classes =
        metrics.per_class.iter().map(|class| (class.name.as_str(), class.summary.named()));
    class_table(classes.chain([("all", metrics.summary.named())]))
}

/// The last row is there even without classes, and gives the header its names.
fn class_table<'n, const N: usize>(
    rows: impl Iterator<Item = (&'n str, [(&'static str, Option<f64>); N])>,
) -> String {
    let rows: Vec<_> = rows.collect();
    let names = rows.last().into_iter().flat_map(|(_, numbers)| numbers.map(|(name, _)| name));
    let mut table = table(std::iter::once("class").chain(names).map(str::to_owned));
    for (name, numbers) in rows {
        table.add_row(std::iter::once(shown::name(name)).chain(numbers.map(|(_, n)| value(n))));
    }
    text(table)
}

/// A row for each class: its best F1, and the precision and score at each recall.
pub fn operating_points(classes: &[ClassPoints]) -> String {
    let mut header: Vec<String> =
        ["class", "boxes", "best F1", "score >=", "precision", "recall", "TP", "FP", "FN"]
            .map(str::to_owned)
            .into();
    for at in classes.first().map_or(&[][..], |class| &class.precision_at_recall) {
        header.extend([format!("P at R {}", at.recall), "score >=".to_owned()]);
    }
    let mut table = table(header);
    for class in classes {
        table.add_row(operating_row(class));
    }
    text(table)
}

fn operating_row(class: &ClassPoints) -> Vec<String> {
    let mut row = vec![shown::name(&class.name), class.ground_truths.to_string()];
    match class.best_f1 {
        Some(best) => {
            let Tally { tp, fp, fn_, precision, recall, f1 } = best.tally;
            row.extend([value(f1), value(best.score_thr), value(precision), value(recall)]);
            row.extend([tp, fp, fn_].map(|n| n.to_string()));
        }
        None => row.extend(["-"; 7].map(str::to_owned)),
    }
    for at in &class.precision_at_recall {
        let precision = at.reached.map(|reached| reached.interpolated_precision);
        row.extend([value(precision), value(at.reached.map(|reached| reached.score_thr))]);
    }
    row
}

/// The totals, and the matrix, or where it would be too wide the 20 largest confusions of classes.
pub fn confusion(matrix: &ConfusionMatrix) -> String {
    let totals = matrix.totals();
    let mut lines = format!(
        "{} found, {} confused, {} missed; {} on background\n",
        count(totals.correct as usize, "object"),
        totals.confused,
        totals.missed,
        count(totals.background as usize, "detection"),
    );
    if matrix.classes.len() <= MATRIX_CLASSES {
        lines += &confusion_matrix(matrix);
    } else if totals.confused > 0 {
        lines += &largest_confusions(matrix);
    }
    lines
}

fn confusion_matrix(matrix: &ConfusionMatrix) -> String {
    let classes = matrix.classes.iter().map(|class| shown::name(&class.name));
    let names: Vec<String> = classes.chain(["background".to_owned()]).collect();
    let header = std::iter::once("truth \\ prediction".to_owned()).chain(names.iter().cloned());
    let mut table = table(header);
    for (row, (name, counts)) in names.iter().zip(&matrix.counts).enumerate() {
        // There is nothing that could be counted there.
        let nothing = |column| (row, column) == (matrix.background(), matrix.background());
        let cell = |(column, count): (usize, &u64)| match nothing(column) {
            true => String::new(),
            false => count.to_string(),
        };
        table.add_row(std::iter::once(name.clone()).chain(counts.iter().enumerate().map(cell)));
    }
    text(table)
}

fn largest_confusions(matrix: &ConfusionMatrix) -> String {
    let header = ["truth", "prediction", "count", "of boxes"];
    let mut table = table(header.map(str::to_owned));
    for confusion in matrix.largest_confusions(CONFUSIONS) {
        let boxes = matrix.ground_truths(confusion.truth).map(|boxes| boxes.to_string());
        table.add_row([
            shown::name(&matrix.classes[confusion.truth].name),
            shown::name(&matrix.classes[confusion.prediction].name),
            confusion.count.to_string(),
            boxes.unwrap_or_default(),
        ]);
    }
    text(table)
}

/// A row for each image, in the order given; those that `file_name` does not know go by their id.
pub fn worst_images<'n>(
    images: &[ImageResult],
    file_name: impl Fn(i64) -> Option<&'n str>,
) -> String {
    let header = ["image", "F1", "precision", "recall", "TP", "FP", "FN"];
    let mut table = table(header.map(str::to_owned));
    for ImageResult { image_id, tally } in images {
        let name = file_name(*image_id).map_or_else(|| image_id.to_string(), shown::name);
        let mut row = vec![name];
        row.extend([tally.f1, tally.precision, tally.recall].map(value));
        row.extend([tally.tp, tally.fp, tally.fn_].map(|n| n.to_string()));
        table.add_row(row);
    }
    text(table)
}

/// All of it: operating points, confusions, and the `worst` images, which the caller ranked.
pub fn details<'n>(
    details: &Details,
    worst: &[ImageResult],
    file_name: impl Fn(i64) -> Option<&'n str>,
) -> String {
    let params = &details.params;
    let mut lines = format!(
        "Operating points, IoU >= {}\n{}\nConfusions, score >= {}, IoU >= {}\n{}",
        params.iou_thr,
        operating_points(&details.operating_points),
        params.score_thr,
        params.iou_thr,
        confusion(&details.confusion),
    );
    if !worst.is_empty() {
        let images = count(worst.len(), "image");
        let list = worst_images(worst, file_name);
        lines += &format!("\nWorst {images}, score >= {}\n{list}", params.score_thr);
    }
    lines
}

fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn table(header: impl IntoIterator<Item = String>) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(header.into_iter().collect::<Vec<_>>());
    table
}

fn text(mut table: Table) -> String {
    align_numbers(&mut table);
    table.trim_fmt() + "\n"
}
