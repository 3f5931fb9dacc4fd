//! Ground truth from disk: what is accepted, and the sentence for each thing that is not.

mod damage;

use std::path::{Path, PathBuf};

use detgate::config::Fixes;
use detgate::dataset::{Category, Classes, Dataset, DatasetError, Frequency, load, read};
use serde_json::{Value, json};

struct Fixture {
    folder: tempfile::TempDir,
    truth: Value,
}

impl Fixture {
    /// Two images, three boxes, two classes; valid.
    fn new() -> Self {
        let truth = json!({
            "images": [
                {"id": 7, "file_name": "a.jpg", "width": 64, "height": 48},
                {"id": 3, "file_name": "b.jpg", "width": 64, "height": 48}
            ],
            "annotations": [
                {"id": 0, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3.5, 4], "area": 9, "iscrowd": 0},
                {"id": 9, "image_id": 7, "category_id": 3, "bbox": [0, 0, 0, 4], "area": 0, "iscrowd": 0},
                {"id": 5, "image_id": 3, "category_id": 3, "bbox": [5, 5, 9, 9], "area": 80, "iscrowd": 1}
            ],
            "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}]
        });
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.jpg", "b.jpg"] {
            std::fs::write(folder.path().join(name), b"pixels").unwrap();
        }
        Self { folder, truth }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("truth.json")
    }

    fn load(&self, max_images: Option<usize>) -> Result<Dataset, DatasetError> {
        std::fs::write(self.path(), self.truth.to_string()).unwrap();
        self.load_file(&Classes::Only(classes()), max_images)
    }

    fn load_file(
        &self,
        classes: &Classes,
        max_images: Option<usize>,
    ) -> Result<Dataset, DatasetError> {
        load(&self.path(), self.folder.path(), classes, max_images)
    }

    /// The error after `change`, with the temporary folder's name taken out.
    fn error_after(change: impl FnOnce(&mut Value)) -> String {
        let mut fixture = Self::new();
        change(&mut fixture.truth);
        fixture.describe(fixture.load(None).unwrap_err())
    }

    fn describe(&self, error: DatasetError) -> String {
        error.to_string().replace(&self.folder.path().display().to_string(), "DIR")
    }
}

fn classes() -> Vec<Category> {
    [(1, "person"), (3, "car")].map(|(id, name)| Category { id, name: name.to_owned() }).to_vec()
}

#[test]
fn images_keep_file_order_and_get_their_annotations() {
    let dataset = Fixture::new().load(None).unwrap();
    assert_eq!(dataset.images.iter().map(|image| image.id).collect::<Vec<_>>(), [7, 3]);
    let ids: Vec<i64> = dataset.images[1].ground_truth.iter().map(|gt| gt.id).collect();
    assert_eq!(ids, [0, 5]);
    assert!(dataset.images[1].ground_truth[1].is_crowd);
    assert_eq!(dataset.categories, classes());
    assert_eq!(dataset.images.iter().map(|image| image.zero_area_boxes()).sum::<usize>(), 1);
}

#[test]
fn max_images_keeps_the_first_in_file_order() {
    let dataset = Fixture::new().load(Some(1)).unwrap();
    assert_eq!(dataset.images.len(), 1);
    assert_eq!(dataset.images[0].id, 7);
    assert_eq!(dataset.images[0].ground_truth.len(), 1);
}

#[test]
fn all_categories_come_from_the_file_on_request() {
    let fixture = Fixture::new();
    fixture.load(None).unwrap();
    let dataset = fixture.load_file(&Classes::FromFile, None).unwrap();
    assert_eq!(dataset.categories.iter().map(|c| c.id).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn an_absent_area_is_the_box_s_and_an_absent_iscrowd_is_none() {
    let mut fixture = Fixture::new();
    let annotation = fixture.truth["annotations"][2].as_object_mut().unwrap();
    annotation.remove("area");
    annotation.remove("iscrowd");
    let dataset = fixture.load(None).unwrap();
    let gt = &dataset.images[1].ground_truth[1];
    assert_eq!((gt.area, gt.is_crowd), (81.0, false));
}

#[test]
fn every_contradiction_is_one_clear_sentence() {
    insta::assert_snapshot!(Fixture::error_after(|t| t["annotations"][1]["image_id"] = json!(8)),
        @"DIR/truth.json: annotation 9 is on image 8, which is not among its images; add the image, or remove the annotation");
    insta::assert_snapshot!(Fixture::error_after(|t| t["annotations"][1]["category_id"] = json!(2)),
        @"DIR/truth.json: annotation 9 has category 2, which is not in the label map; reduce the file to the target classes or pass --all-categories");
    insta::assert_snapshot!(Fixture::error_after(|t| t["annotations"][2]["bbox"] = json!([5, 5, -1, 9])),
        @"DIR/truth.json is not COCO ground truth: line 1, column 248: at annotations[2]: annotation 5 has the box [5.0, 5.0, -1.0, 9.0] and area 80; width, height and area must not be negative");
    insta::assert_snapshot!(Fixture::error_after(|t| t["annotations"][2]["id"] = json!(9)),
        @"DIR/truth.json: the annotation id 9 occurs twice; it must be unique");
    insta::assert_snapshot!(Fixture::error_after(|t| t["images"][1]["id"] = json!(7)),
        @"DIR/truth.json: the image id 7 occurs twice; it must be unique");
    insta::assert_snapshot!(Fixture::error_after(|t| t["categories"][1]["name"] = json!("dog")),
        @r#"DIR/truth.json: category 1 is "dog" here and "person" in the label map; make them agree"#);
    insta::assert_snapshot!(Fixture::error_after(|t| t["categories"][0]["name"] = json!("person")),
        @r#"DIR/truth.json: category 3 is "person" here and "car" in the label map; make them agree"#);
    insta::assert_snapshot!(Fixture::error_after(|t| t["categories"] = json!([])),
        @"DIR/truth.json: the label map's category 1 (person) is not among its categories; add it there, or correct labelmap.json");
    insta::assert_snapshot!(Fixture::error_after(|t| { t["images"] = json!([]); t["annotations"] = json!([]); }),
        @"DIR/truth.json: there is no image to evaluate; is it the ground truth of the validation images?");
    insta::assert_snapshot!(Fixture::error_after(|t| t["images"][1]["file_name"] = json!("c.jpg")),
        @r#"DIR lacks 1 of 2 images, the first is c.jpg; correct "val_dir" or pass --images"#);
}

/// The gate knows classes by name; pycocotools does not look at names.
#[test]
fn names_and_categories_that_only_the_gate_needs_are_only_asked_for_by_it() {
    let mut fixture = Fixture::new();
    fixture.truth["categories"][0]["name"] = json!("person");
    fixture.truth["annotations"][1]["category_id"] = json!(2);
    fixture.truth["annotations"][1]["iscrowd"] = json!(null);
    fixture.truth["images"][0]["width"] = json!(null);
    std::fs::write(fixture.path(), fixture.truth.to_string()).unwrap();
    let dataset = read(&fixture.path(), &Classes::FromFile, Fixes::default()).unwrap();
    assert_eq!(dataset.unlisted().map(|truth| truth.id).collect::<Vec<_>>(), [9]);
    let error = fixture.describe(fixture.load_file(&Classes::FromFile, None).unwrap_err());
    insta::assert_snapshot!(error, @"DIR/truth.json: annotation 9 has category 2, which is not among its categories; add it there");
    fixture.truth["annotations"][1]["category_id"] = json!(1);
    std::fs::write(fixture.path(), fixture.truth.to_string()).unwrap();
    let error = fixture.describe(fixture.load_file(&Classes::FromFile, None).unwrap_err());
    insta::assert_snapshot!(error, @"DIR/truth.json: the category name person occurs twice; it must be unique");
}

#[test]
fn what_is_not_json_or_not_coco_says_where() {
    let fixture = Fixture::new();
    let write = |text: &str| std::fs::write(fixture.path(), text).unwrap();
    let error = |text: &str| {
        write(text);
        fixture.describe(fixture.load_file(&Classes::FromFile, None).unwrap_err())
    };
    insta::assert_snapshot!(error("{\"images\": [\n  {"),
        @"DIR/truth.json is not COCO ground truth: line 2, column 4: at images[0]: the file ends too early; it is empty or was cut short");
    insta::assert_snapshot!(error("{\"images\": [], \"annotations\": []}"),
        @r#"DIR/truth.json is not COCO ground truth: line 1, column 34: expected the key "categories""#);
    let with_box = |bbox: &str| {
        error(&format!(
            "{{\"images\": [], \"categories\": [], \"annotations\": [\n{{\"id\": 1, \"image_id\": 1, \
             \"category_id\": 1, \"bbox\": {bbox}}}]}}"
        ))
    };
    insta::assert_snapshot!(with_box("[0, 0, 1e999, 1]"), @"DIR/truth.json is not COCO ground truth: line 2, column 59: at annotations[0].bbox[2]: infinity, but every number must be finite");
    insta::assert_snapshot!(with_box("[0, 0, NaN, 1]"), @"DIR/truth.json is not COCO ground truth: line 2, column 59: at annotations[0].bbox[2]: NaN, but every number must be finite");
    insta::assert_snapshot!(with_box("[0, 0, -Infinity, 1]"), @"DIR/truth.json is not COCO ground truth: line 2, column 59: at annotations[0].bbox[2]: -Infinity, but every number must be finite");
    insta::assert_snapshot!(with_box("[0, 0, null, 1]"), @"DIR/truth.json is not COCO ground truth: line 2, column 59: at annotations[0].bbox[2]: expected a number");
    insta::assert_snapshot!(with_box("[0, 0, 1, 1, 1]"), @"DIR/truth.json is not COCO ground truth: line 2, column 63: at annotations[0].bbox: expected `]` after four numbers: [x, y, width, height]");
    let missing = load(Path::new("/no/such.json"), fixture.folder.path(), &Classes::FromFile, None);
    assert!(
        missing.unwrap_err().to_string().starts_with("cannot read the ground truth /no/such.json")
    );
}

proptest::proptest! {
    /// Bytes of a good file that are changed, inserted or cut off: an error or other data.
    #[test]
    fn no_mutated_file_makes_the_reader_panic(edits in damage::edits()) {
        let fixture = Fixture::new();
        let mut bytes = fixture.truth.to_string().into_bytes();
        damage::apply(edits, &mut bytes);
        std::fs::write(fixture.path(), bytes).unwrap();
        if let Err(error) = fixture.load_file(&Classes::FromFile, None) {
            let error = fixture.describe(error);
            proptest::prop_assert!(error.contains("DIR"), "{}", error);
        }
    }
}

#[test]
fn what_lvis_adds_is_read_beside_the_rest() {
    let mut fixture = Fixture::new();
    fixture.truth["images"][0]["neg_category_ids"] = json!([3]);
    fixture.truth["images"][1]["not_exhaustive_category_ids"] = json!([1, 3]);
    fixture.truth["categories"][0]["frequency"] = json!("r");
    let federation = fixture.load(None).unwrap().federation.unwrap();
    assert_eq!(federation.negative, [(7, vec![3])].into());
    assert_eq!(federation.not_exhaustive, [(3, vec![1, 3])].into());
    assert_eq!(federation.frequency, [(3, Frequency::Rare)].into());
    assert_eq!(Fixture::new().load(None).unwrap().federation, None);
}
