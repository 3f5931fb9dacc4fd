//! Which images a slice holds and which are drawn together, and what is said when a file is wrong.

use std::path::PathBuf;

use detgate::config::{Condition, FileNamePattern, GroupsConfig, SliceConfig};
use detgate::dataset::{
    Bbox, Category, GroundTruth, ImageRecord, Slice, check_names, groups, slices,
};

/// An image of 10 by `height` pixels with `objects` boxes, a crowd and an ignored object.
fn image(id: i64, file_name: &str, height: u32, objects: usize) -> ImageRecord {
    let truth = |is_crowd, ignore| GroundTruth {
        id: 1,
        category_id: 1,
        bbox: Bbox { x: 0.0, y: 0.0, w: 1.0, h: 1.0 },
        area: 1.0,
        is_crowd,
        ignore,
    };
    let mut ground_truth = vec![truth(false, false); objects];
    ground_truth.extend([truth(true, false), truth(false, true)]);
    ImageRecord {
        id,
        file_name: file_name.to_owned(),
        path: PathBuf::new(),
        width: 10,
        height,
        ground_truth,
    }
}

fn images() -> Vec<ImageRecord> {
    vec![
        image(70, "night/a.jpg", 10, 0),
        image(3, "day/b.jpg", 20, 2),
        image(5, r"night\c.jpg", 30, 3),
        image(9, "d.jpg", 40, 4),
    ]
}

fn pattern(pattern: &str) -> Condition {
    Condition::FileName(FileNamePattern::new(pattern).unwrap())
}

/// The only slice with these conditions.
fn slice(conditions: Vec<Condition>) -> Result<Slice, String> {
    let slices = slices(&images(), &[("s".to_owned(), SliceConfig { conditions, place: None })]);
    slices.map(|mut slices| slices.remove(0)).map_err(|error| error.to_string())
}

/// A CSV file in a temporary folder.
struct Csv(tempfile::TempDir);

impl Csv {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let csv = Self(tempfile::tempdir().unwrap());
        std::fs::write(csv.path(), text).unwrap();
        csv
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("t.csv")
    }

    fn slice(&self, column: &str, equals: &str) -> Result<Slice, String> {
        let (column, equals) = (column.to_owned(), equals.to_owned());
        let slice = slice(vec![Condition::Column { csv: self.path(), column, equals }]);
        slice.map_err(|error| self.relative(&error))
    }

    fn groups(&self) -> Result<Vec<u32>, String> {
        let by = GroupsConfig::Column { csv: self.path(), column: "video".to_owned() };
        groups(&images(), &by).map_err(|error| self.relative(&error.to_string()))
    }

    fn relative(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn a_slice_is_where_all_its_conditions_hold() {
    let held = |conditions| slice(conditions).unwrap().images;
    assert_eq!(held(vec![pattern("night/*")]), [0, 2]);
    assert_eq!(held(vec![Condition::MinPixels(200), Condition::MaxPixels(300)]), [1, 2]);
    assert_eq!(held(vec![Condition::MinObjects(3)]), [2, 3]);
    assert_eq!(
        held(vec![Condition::MaxObjects(0)]),
        [0],
        "crowds and ignored objects do not count"
    );
    assert_eq!(held(vec![pattern("night/*"), Condition::MinObjects(1)]), [2]);
}

#[test]
fn a_column_says_what_is_in_a_slice_by_file_name_or_id() {
    let by_name = Csv::new(
        "file_name,weather\n./night/a.jpg, rain\nelsewhere.jpg,rain\nnight/c.jpg,rain\nday/b.jpg,\"dry, warm\"\n",
    );
    let rain = by_name.slice("weather", "rain").unwrap();
    assert_eq!(rain.images, [0, 2]);
    insta::assert_snapshot!(by_name.relative(&rain.notice.unwrap()), @"t.csv has no row for 1 of 4 images, the first is d.jpg; without one an image is not in the slice s");
    assert_eq!(by_name.slice("weather", "dry, warm").unwrap().images, [1]);
    let by_id = Csv::new(
        "\u{feff}weather,image_id,file_name\r\nrain,0003,wrong\r\ndry,5,x\r\ndry,70,x\r\nrain,9,x\r\nrain,9,x\r\n",
    );
    let rain = by_id.slice("weather", "rain").unwrap();
    assert_eq!((rain.images, rain.notice), (vec![1, 3], None));
}

#[test]
fn a_slice_without_images_is_an_error_that_names_it() {
    let weather = Csv::new("image_id,weather\n70,Rain\n3,dry\n");
    let errors = [
        slice(vec![pattern("nigth/*")]).unwrap_err(),
        slice(vec![pattern("night/*"), Condition::MinObjects(4)]).unwrap_err(),
        weather.slice("weather", "rain").unwrap_err(),
        weather.slice("weather", "snow").unwrap_err(),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    the slice [gate.slices.s] holds none of the 4 images; no file name is like "nigth/*", one is "night/a.jpg"
    the slice [gate.slices.s] holds none of the 4 images; loosen its conditions, or leave it out
    the slice [gate.slices.s] holds none of the 4 images; weather is never "rain", did you mean "Rain"?
    the slice [gate.slices.s] holds none of the 4 images; weather is never "snow", it is for example "Rain", "dry"
    "#);
}

#[test]
fn a_csv_file_that_is_wrong_is_said_with_its_line() {
    let texts: [&[u8]; 14] = [
        b"",
        b"name,weather\na,b\n",
        b"file_name;weather\na;b\n",
        b"image_id,wether\n3,rain\n",
        b"image_id,colour\n3,red\n",
        b"image_id,weather,weather\n3,rain,dry\n",
        b"image_id,weather\n3,rain\n\n5,rain,heavy\n",
        b"image_id,weather\n3,rain\nb.jpg,rain\n",
        b"image_id,weather\n3,rain\n5,rain\n3,dry\n",
        b"image_id,weather\n3,rain\n5,r\xff\n",
        b"file_name,weather\nval/a.jpg,rain\n",
        b"image_id,weather\n3,rain\n5,\"rain\n9,rain\n70,rain\n",
        b"image_id,weather\n3,\"a \"\"wet\"\" day\n5,rain\n",
        b"image_id,weather\n3\n",
    ];
    let quoted = "image_id,weather,\"a,\nb\"\n3,\"rain\",\"say \"\"ra,in\"\"\"\n5,rain,5\" x\"\" 3\n9,dry,\"\"\n";
    assert_eq!(Csv::new(quoted).slice("weather", "rain").unwrap().images, [1, 2]);
    let errors: Vec<String> =
        texts.iter().map(|text| Csv::new(text).slice("weather", "rain").unwrap_err()).collect();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    t.csv:1: the file is empty; its first line must be file_name,weather
    t.csv:1: no column file_name or image_id says which image a row is about; the columns, parted by commas, are "name", "weather"
    t.csv:1: no column file_name or image_id says which image a row is about; the columns, parted by commas, are "file_name;weather"
    t.csv:1: there is no column "weather"; did you mean "wether"?
    t.csv:1: there is no column "weather"; the columns are "image_id", "colour"
    t.csv:1: 2 columns are named "weather"; rename all but one
    t.csv:4: 3 values where the header has 2; put quotes around values with commas
    t.csv:3: image_id is "b.jpg"; it must be a whole number
    t.csv:4: weather of 3 is "dry" here and "rain" in line 2; keep one
    t.csv:3: this is not UTF-8; save the file as UTF-8
    t.csv:1: no row is about an image that is evaluated; file_name must be like "night/a.jpg"
    t.csv:3: a quote that opens here is never closed; close it, or write "" for a quote in a value
    t.csv:2: a quote that opens here is never closed; close it, or write "" for a quote in a value
    t.csv:2: 1 value where the header has 2; put quotes around values with commas
    "#);
    let missing = Csv::new("");
    std::fs::remove_file(missing.path()).unwrap();
    let error = missing.slice("weather", "rain").unwrap_err();
    assert!(error.starts_with("cannot read t.csv: "), "{error}");
}

#[test]
fn groups_are_numbered_by_first_appearance_and_cover_every_image() {
    let videos = |rows: &str| Csv::new(format!("image_id,video\n{rows}")).groups();
    assert_eq!(videos("3,x\n9,y\n5,y\n70,z\n").unwrap(), [0, 1, 2, 2]);
    assert_eq!(groups(&images(), &GroupsConfig::Folder).unwrap(), [0, 1, 0, 2]);
    let errors = [
        videos("3,x\n9,y\n").unwrap_err(),
        videos("3,x\n9,y\n70,x\n5,\n").unwrap_err(),
        videos("3,x\n9,x\n70,x\n5,x\n").unwrap_err(),
        groups(&images()[1..2], &GroupsConfig::Folder).unwrap_err().to_string(),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r"
    t.csv names no video for 2 of 4 images, the first is night/a.jpg; every image needs one
    t.csv names no video for 1 of 4 images, the first is night\c.jpg; every image needs one
    all images (4) are in one group (video of t.csv); [gate.groups] needs at least two, or leave it out
    all images (1) are in one group (by folder); [gate.groups] needs at least two, or leave it out
    ");
}

#[test]
fn the_digest_of_a_slice_is_that_of_its_images() {
    let digest = |conditions| slice(conditions).unwrap().digest(&images());
    let night = digest(vec![pattern("night/*")]);
    assert_eq!(night, digest(vec![pattern("{night,dusk}/?.jpg")]));
    assert_ne!(night, digest(vec![pattern("night/a*")]));
    let mut shuffled = images();
    shuffled.reverse();
    let config =
        [("other".to_owned(), SliceConfig { conditions: vec![pattern("night/*")], place: None })];
    assert_eq!(slices(&shuffled, &config).unwrap()[0].digest(&shuffled), night);
    let borrowed: Vec<&ImageRecord> = shuffled.iter().collect();
    assert_eq!(slices(&borrowed, &config).unwrap()[0].digest(&borrowed), night);
}

#[test]
fn no_two_metrics_have_the_same_name() {
    let config = SliceConfig { conditions: vec![pattern("night/*")], place: None };
    let slices = [("night".to_owned(), config)];
    let checked = |names: &[&str]| {
        let category = |(id, name): (i64, &&str)| Category { id, name: (*name).to_owned() };
        let categories: Vec<Category> = (1..).zip(names).map(category).collect();
        check_names(&categories, &slices).map_err(|error| error.to_string())
    };
    assert_eq!(checked(&["person", "night", "person@day", "@nightly", "a@night@b"]), Ok(()));
    assert_eq!(
        checked(&["person", "person@night"]).unwrap_err(),
        "the class \"person@night\" is named like another on the slice [gate.slices.night]; rename the slice"
    );
    assert_eq!(
        checked(&["car", "person", "car"]).unwrap_err(),
        "the categories 1 and 3 are both named \"car\"; what is measured goes by names, rename one in \
         the ground truth"
    );
}
