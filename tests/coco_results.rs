//! Detections in COCO's results format: what is written reads back to the last bit.

mod damage;

use detgate::dataset::{Bbox, ImageRecord};
use detgate::detections::Detection;
use detgate::detections::coco_results::{ImageKey, Results, ResultsError, read, write};
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
        let expected: Vec<(ImageKey, Detection)> = images
            .iter()
            .flat_map(|(&id, found)| found.iter().map(move |&d| (ImageKey::Id(id), d)))
            .collect();
        let results = read(&path).unwrap();
        let found = results.runs().flat_map(|(key, found)| found.iter().map(move |&d| (key, d)));
        prop_assert_eq!(found.collect::<Vec<_>>(), expected);
    }

    /// Bytes of a good file that are changed, inserted or cut off: an error or other numbers.
    #[test]
    fn no_mutated_file_makes_the_reader_panic(
        images in prop::collection::btree_map(0..9i64, prop::collection::vec(detection(), 0..3), 1..3),
        edits in damage::edits(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        write(&path, images.iter().map(|(&id, found)| (id, &found[..]))).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        damage::apply(edits, &mut bytes);
        std::fs::write(&path, bytes).unwrap();
        if let Err(error) = read(&path) {
            prop_assert!(error.to_string().contains("line "), "{}", error);
        }
    }
}

/// A folder and a file in it that can be overwritten.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn read(&self, bytes: impl AsRef<[u8]>) -> Result<Results, ResultsError> {
        std::fs::write(self.0.path().join("FILE"), bytes).unwrap();
        read(&self.0.path().join("FILE"))
    }

    fn error(&self, bytes: impl AsRef<[u8]>) -> String {
        let folder = self.0.path().display().to_string() + "/";
        self.read(bytes).unwrap_err().to_string().replace(&folder, "")
    }
}

#[test]
fn what_is_no_results_file_says_what_and_where() {
    let scratch = Scratch::new();
    let entry = |bbox: &str, score: &str| {
        scratch.error(format!(
            "[\n{{\"image_id\": 1, \"category_id\": 1, \"bbox\": {bbox}, \"score\": {score}}}]"
        ))
    };
    insta::assert_snapshot!(scratch.error("{}"), @"FILE is not a COCO results file: line 1, column 1: expected an array");
    insta::assert_snapshot!(scratch.error(""), @"FILE is not a COCO results file: line 1, column 1: the file ends too early; it is empty or was cut short");
    insta::assert_snapshot!(scratch.error("[{\"image_id\": 1, \"score\": 1}]"), @r#"FILE is not a COCO results file: line 1, column 29: at [0]: expected the key "category_id""#);
    insta::assert_snapshot!(scratch.error("[{\"image_id\": 1.5}]"), @"FILE is not a COCO results file: line 1, column 15: at [0].image_id: expected an integer of at most 64 bits");
    insta::assert_snapshot!(scratch.error("[{\"image_id\": null}]"), @"FILE is not a COCO results file: line 1, column 15: at [0].image_id: expected an integer");
    insta::assert_snapshot!(entry("[0, 0, -1, 1]", "0.5"), @"FILE is not a COCO results file: line 2, column 71: at [0].bbox: the box [0.0, 0.0, -1.0, 1.0]; width and height must not be negative");
    insta::assert_snapshot!(entry("[0, 0, 1]", "0.5"), @"FILE is not a COCO results file: line 2, column 51: at [0].bbox: expected `,` and four numbers: [x, y, width, height]");
    insta::assert_snapshot!(entry("[0, 0, 1, 1e999]", "0.5"), @"FILE is not a COCO results file: line 2, column 53: at [0].bbox[3]: infinity, but every number must be finite");
    insta::assert_snapshot!(entry("[0, 0, 1, 1]", "NaN"), @"FILE is not a COCO results file: line 2, column 66: at [0].score: NaN, but every number must be finite");
    insta::assert_snapshot!(entry("[0, 0, 1, 1]", "-Infinity"), @"FILE is not a COCO results file: line 2, column 66: at [0].score: -Infinity, but every number must be finite");
    insta::assert_snapshot!(scratch.error([0x1f, 0x8b, 8, 0, 0]), @"cannot read FILE: unexpected end of file; fetch or copy it again");
}

/// What a mask model writes beside its boxes, and what Python writes for ids of numpy's float type.
#[test]
fn other_keys_are_passed_over_in_any_order() {
    let text = r#"[
        {"segmentation": {"size": [4, 4], "counts": "a\\b\"}, {["}, "score": 0.5, "bbox": [1, 2, 3e0, 4.5],
         "category_id": 7, "parts": [{}, {}], "image_id": 3.0, "note": null, "ok": true},
        {"image_id": 3, "category_id": 7, "bbox": [0, 0, 0, 0], "score": -1}
    ]"#;
    let results = Scratch::new().read(text).unwrap();
    let runs: Vec<(ImageKey, usize)> =
        results.runs().map(|(id, found)| (id, found.len())).collect();
    assert_eq!(runs, [(ImageKey::Id(3), 2)]);
    let (_, found) = results.runs().next().unwrap();
    assert_eq!((found[0].bbox, found[0].score), (Bbox::from([1., 2., 3., 4.5]), 0.5));
}

#[test]
fn packed_files_are_unpacked_by_what_they_are_not_by_their_name() {
    let text = r#"[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}]"#;
    let scratch = Scratch::new();
    let plain = scratch.read(text).unwrap();
    assert_eq!(plain.len(), 1);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    assert_eq!(scratch.read(&gzip).unwrap(), plain);
    let zstd = zstd::encode_all(text.as_bytes(), 1).unwrap();
    assert_eq!(scratch.read(&zstd).unwrap(), plain);
    for cut in [&gzip[..gzip.len() - 9], &zstd[..zstd.len() - 3]] {
        let error = scratch.error(cut);
        assert!(error.starts_with("cannot read FILE: "), "{error}");
    }
}

#[test]
fn detections_are_dealt_to_their_images_in_file_order_and_strays_are_counted() {
    let row = |image: i64, score: f64| {
        format!(
            r#"{{"image_id": {image}, "category_id": 1, "bbox": [0, 0, 1, 1], "score": {score}}}"#
        )
    };
    let rows = [row(5, 0.1), row(2, 0.2), row(5, 0.3), row(9, 0.4), row(5, 0.5)];
    let results = Scratch::new().read(format!("[{}]", rows.join(","))).unwrap();
    let records = [image(2, "a.jpg"), image(5, "b.jpg"), image(7, "c.jpg")];
    let by_image = results.by_image(&records);
    let scores = |i: usize| by_image.images[i].iter().map(|d| d.score).collect::<Vec<_>>();
    assert_eq!([scores(0), scores(1), scores(2)], [vec![0.2], vec![0.1, 0.3, 0.5], vec![]]);
    assert_eq!(by_image.elsewhere, [(ImageKey::Id(9), 1)].into());
}

fn image(id: i64, file_name: &str) -> ImageRecord {
    let (path, ground_truth) = (Default::default(), Vec::new());
    ImageRecord { id, file_name: file_name.to_owned(), path, width: 640, height: 480, ground_truth }
}

/// As Ultralytics writes them; a name that several folders have says nothing.
#[test]
fn images_go_by_their_file_names_too_where_those_are_unambiguous() {
    let rows = ["street", "val/street.jpg", "twice", "val/twice.jpg", "3"].map(|name| {
        format!(r#"{{"image_id": "{name}", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}}"#)
    });
    let results = Scratch::new().read(format!("[{}]", rows.join(","))).unwrap();
    let records =
        [image(1, "val/street.jpg"), image(2, "val/twice.jpg"), image(3, "test/twice.jpg")];
    let by_image = results.by_image(&records);
    assert_eq!(by_image.images.iter().map(|found| found.len()).collect::<Vec<_>>(), [2, 1, 0]);
    assert_eq!(by_image.elsewhere, [(ImageKey::Name("3"), 1)].into());
    assert_eq!(by_image.ambiguous, [ImageKey::Name("twice")].into());
    // A whole path goes before another image's name without its folder or extension.
    let records = [image(1, "a/street"), image(2, "street")];
    let by_image = results.by_image(&records);
    assert_eq!(by_image.images.iter().map(|found| found.len()).collect::<Vec<_>>(), [0, 1]);
}
