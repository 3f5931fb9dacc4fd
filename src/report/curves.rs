//! Precision-recall curves as SVG, for whoever shows a report.
//!
//! What is drawn are pycocotools' values: at each of the recalls (0, 0.01, .. 1) the greatest precision that is
//! reached from there on ([`Curves::precision`]), over all areas, with the largest limit on detections. The
//! area below the line of an IoU threshold is its AP.
//!
//! Deliberately absent: a plotting library. One kind of drawing in a fixed frame is some lines of text,
//! and equal curves give equal bytes.

use crate::dataset::Category;
use crate::matching::coco::CocoParams;
use crate::metrics::CocoMetrics;
#[cfg(doc)]
use crate::metrics::coco::Curves;
use crate::shown;

/// Of the whole drawing, and of the frame in it, pixels.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 480.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 48.0;
const SIDE: f64 = 368.0;
/// Where the legend begins.
const LEGEND: f64 = LEFT + SIDE + 20.0;
/// Characters of a name in the legend and in the title.
const LEGEND_NAME: usize = 16;
const TITLE_NAME: usize = 56;
/// As many lines as can be told apart.
const MOST_LINES: usize = 12;
/// Okabe and Ito's colours, which can be told apart by almost everybody; then again, dashed.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// At most so many classes have a drawing of their own.
const MOST_CLASSES: usize = 100;

/// One line, and what the legend says of it.
struct Line {
    label: String,
    /// Recall and precision.
    points: Vec<(f64, f64)>,
}

/// A drawing for all classes together, and one for each class that has ground truth: file name and SVG.
/// Of more than 100 classes those with the lowest AP have one.
pub fn drawings(metrics: &CocoMetrics, params: &CocoParams) -> Vec<(String, String)> {
    let mut with_truth: Vec<(usize, f64)> = metrics
        .per_class
        .iter()
        .enumerate()
        .filter_map(|(k, class)| Some((k, class.summary.ap?)))
        .collect();
    if with_truth.is_empty() {
        return Vec::new();
    }
    with_truth.sort_by(|(a, a_ap), (b, b_ap)| a_ap.total_cmp(b_ap).then(a.cmp(b)));
    let all = ("precision_recall.svg".to_owned(), all_classes(metrics, params, &with_truth));
    let mut drawn: Vec<usize> = with_truth.iter().take(MOST_CLASSES).map(|(k, _)| *k).collect();
    drawn.sort_unstable();
    let each = drawn.into_iter().map(|k| {
        let class = &metrics.per_class[k];
        let category = Category { id: class.category_id, name: class.name.clone() };
        (file_name(&category), one_class(metrics, params, k))
    });
    std::iter::once(all).chain(each).collect()
}

/// The classes' curves at IoU 0.5; of many those with the lowest AP.
fn all_classes(metrics: &CocoMetrics, params: &CocoParams, by_ap: &[(usize, f64)]) -> String {
    let mut shown: Vec<usize> = by_ap.iter().take(MOST_LINES).map(|(k, _)| *k).collect();
    shown.sort_unstable();
    let lines = shown.into_iter().map(|k| {
        let class = &metrics.per_class[k];
        let label = format!("{} {}", short(&class.name, LEGEND_NAME), value(class.summary.ap50));
        Line { label, points: points(metrics, params, k, |thr| thr == 0.5) }
    });
    let lines: Vec<Line> = lines.collect();
    let title = match by_ap.len() > lines.len() {
        true => {
            format!("Precision and recall at IoU 0.50: the {} classes of lowest AP", lines.len())
        }
        false => "Precision and recall at IoU 0.50, with AP50".to_owned(),
    };
    draw(&title, &lines)
}

/// One class's curves at IoU 0.5 and 0.75, and the mean over all thresholds.
fn one_class(metrics: &CocoMetrics, params: &CocoParams, k: usize) -> String {
    let class = &metrics.per_class[k];
    let summary = &class.summary;
    let line = |label: String, wanted: &dyn Fn(f64) -> bool| Line {
        label,
        points: points(metrics, params, k, wanted),
    };
    let lines = [
        line(format!("AP50 {}", value(summary.ap50)), &|thr| thr == 0.5),
        line(format!("AP75 {}", value(summary.ap75)), &|thr| thr == 0.75),
        line(format!("AP {}", value(summary.ap)), &|_| true),
    ];
    draw(&format!("Precision and recall: {}", short(&class.name, TITLE_NAME)), &lines)
}

/// The mean precision over the wanted IoU thresholds at each recall, as far as any is reached.
fn points(
    metrics: &CocoMetrics,
    params: &CocoParams,
    k: usize,
    wanted: impl Fn(f64) -> bool,
) -> Vec<(f64, f64)> {
    let area = params.area_ranges.iter().position(|range| range.name == "all");
    let limit = params.max_dets.len().checked_sub(1);
    let (Some(area), Some(limit)) = (area, limit) else { return Vec::new() };
    let thresholds: Vec<usize> =
        (0..params.iou_thrs.len()).filter(|&t| wanted(params.iou_thrs[t])).collect();
    let at = |r: usize| -> Option<f64> {
        let values = thresholds.iter().map(|&t| metrics.curves.precision(t, r, k, area, limit));
        Some(values.sum::<Option<f64>>()? / thresholds.len() as f64)
    };
    let all = params.rec_thrs.iter().enumerate().map_while(|(r, &recall)| Some((recall, at(r)?)));
    all.take_while(|(_, precision)| *precision > 0.0).collect()
}

fn draw(title: &str, lines: &[Line]) -> String {
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\" role=\"img\">\n\
         <title>{title}</title>\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"28\" font-size=\"15\" fill=\"#1f2328\">{title}</text>\n",
        title = escaped(title)
    );
    svg += &frame();
    for (i, line) in lines.iter().enumerate() {
        svg += &polyline(i, line);
    }
    svg + "</svg>\n"
}

/// The axes from 0 to 1, their grid and names.
fn frame() -> String {
    let mut svg = String::new();
    for tenth in 0..=10 {
        let part = f64::from(tenth) / 10.0;
        let ((x, _), (_, y)) = (place(part, 0.0), place(0.0, part));
        let (right, bottom) = (LEFT + SIDE, TOP + SIDE);
        svg += &format!(
            "<path d=\"M{x:.1} {TOP}V{bottom}M{LEFT} {y:.1}H{right}\" stroke=\"#d9dee3\" fill=\"none\"/>\n"
        );
        if tenth % 2 == 0 {
            svg += &format!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#57606a\">{part:.1}</text>\n\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#57606a\">{part:.1}</text>\n",
                bottom + 18.0,
                LEFT - 8.0,
                y + 4.0
            );
        }
    }
    let middle = TOP + SIDE / 2.0;
    svg + &format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#1f2328\">recall</text>\n\
         <text transform=\"translate(20 {middle:.1}) rotate(-90)\" text-anchor=\"middle\" \
         fill=\"#1f2328\">precision</text>\n",
        LEFT + SIDE / 2.0,
        TOP + SIDE + 42.0
    )
}

/// The line, down to the axis where it ends before recall 1, and its entry in the legend.
fn polyline(i: usize, line: &Line) -> String {
    let colour = COLOURS[i % COLOURS.len()];
    let dash = if i < COLOURS.len() { "" } else { " stroke-dasharray=\"6 3\"" };
    let mut points: Vec<(f64, f64)> = line.points.clone();
    if let Some(&(recall, _)) = points.last().filter(|(recall, _)| *recall < 1.0) {
        points.push((recall, 0.0));
    }
    let points: Vec<String> = points
        .into_iter()
        .map(|(recall, precision)| {
            let (x, y) = place(recall, precision);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let y = TOP + 12.0 + 20.0 * i as f64;
    format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\n\
         <path d=\"M{LEGEND} {:.1}h22\" stroke=\"{colour}\" stroke-width=\"2\"{dash}/>\n\
         <text x=\"{:.1}\" y=\"{y:.1}\" fill=\"#1f2328\">{}</text>\n",
        points.join(" "),
        y - 4.0,
        LEGEND + 28.0,
        escaped(&line.label)
    )
}

fn place(recall: f64, precision: f64) -> (f64, f64) {
    (LEFT + SIDE * recall, TOP + SIDE * (1.0 - precision))
}

fn value(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

fn short(name: &str, most: usize) -> String {
    let name = shown::name(name);
    match name.char_indices().nth(most) {
        None => name,
        Some(_) => name.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// As text of XML. Control characters, which XML cannot hold, are gone before ([`shown::name`]).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A name that every file system and MLflow take; the id makes it unique.
fn file_name(category: &Category) -> String {
    let letters = category.name.chars().take(40);
    let plain: String = letters.map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("precision_recall_{}_{plain}.svg", category.id)
}
