//! pycocotools' familiar 12 lines.

use crate::metrics::CocoSummary;

/// What `COCOeval.summarize` prints with its default settings, to the last character; -1.000 stands
/// for undefined there.
pub fn lines(summary: &CocoSummary) -> String {
    let rows = [
        ("Precision", "AP", "0.50:0.95", "all", 100),
        ("Precision", "AP", "0.50", "all", 100),
        ("Precision", "AP", "0.75", "all", 100),
        ("Precision", "AP", "0.50:0.95", "small", 100),
        ("Precision", "AP", "0.50:0.95", "medium", 100),
        ("Precision", "AP", "0.50:0.95", "large", 100),
        ("Recall", "AR", "0.50:0.95", "all", 1),
        ("Recall", "AR", "0.50:0.95", "all", 10),
        ("Recall", "AR", "0.50:0.95", "all", 100),
        ("Recall", "AR", "0.50:0.95", "small", 100),
        ("Recall", "AR", "0.50:0.95", "medium", 100),
        ("Recall", "AR", "0.50:0.95", "large", 100),
    ];
    let line = |((title, kind, iou, area, max_dets), (_, value)): (_, (_, Option<f64>))| {
        format!(
            " {:<18} ({kind}) @[ IoU={iou:<9} | area={area:>6} | maxDets={max_dets:>3} ] = {:0.3}\n",
            format!("Average {title}"),
            value.unwrap_or(-1.0)
        )
    };
    rows.into_iter().zip(summary.named()).map(line).collect()
}
