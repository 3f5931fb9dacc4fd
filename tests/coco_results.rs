//! Detections in COCO's results format: what is written reads back to the last bit.

use detgate::dataset::Bbox;
use detgate::detections::Detection;
use detgate::detections::coco_results::{read, write};
use proptest::prelude::*;

fn detection() -> impl Strategy<Value = Detection> {
    let edge = || -1e4..1e4;
    let length = || 0.0..1e4;
    (edge(), edge(), length(), length(), 0.0..=1.0, any::<i64>()).prop_map(
        |(x, y, w, h, score, category_id)| Detection {
            bbox: Bbox::from([x, y, w, h]),
            score,
            category_id,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        images in prop::collection::btree_map(any::<i64>(), prop::collection::vec(detection(), 0..5), 0..5)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        write(&path, images.iter().map(|(&id, found)| (id, &found[..]))).unwrap();
        let expected: Vec<(i64, Detection)> = images
            .iter()
            .flat_map(|(&id, found)| found.iter().map(move |&detection| (id, detection)))
            .collect();
        prop_assert_eq!(read(&path).unwrap(), expected);
    }
}

#[test]
fn what_is_no_results_file_says_what_and_where() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    let error = |text: &str| {
        std::fs::write(&path, text).unwrap();
        read(&path).unwrap_err().to_string().replace(&path.display().to_string(), "FILE")
    };
    let entry = |bbox: &str, score: &str| {
        error(&format!(
            r#"[{{"image_id": 1, "category_id": 1, "bbox": {bbox}, "score": {score}}}]"#
        ))
    };
    insta::assert_snapshot!(error("{}"), @"FILE is not a COCO results file: invalid type: map, expected a sequence at line 1 column 0");
    insta::assert_snapshot!(entry("[0, 0, -1, 1]", "0.5"), @"FILE: entry 0 has the box [0.0, 0.0, -1.0, 1.0] and score 0.5; they must be finite, width and height not negative");
    assert!(entry("[0, 0, 1, 1]", "NaN").contains("line 1"));
}
