//! YOLO labels: the layouts and spellings that are read, and the sentence for each that is not.

use detgate::dataset::load_yolo;

use crate::support::{Folder, boxes, ids, image, names, relative};

/// `images/`, `labels/` and `data.yaml`; 100 x 50 pixels, two classes.
fn with_label(text: &str) -> Folder {
    Folder::new()
        .with("data.yaml", "names: [person, car]\n")
        .with("images/a.bmp", image(100, 50))
        .with("labels/a.txt", text)
}

fn refusal(folder: &Folder) -> String {
    folder.sentence(folder.yolo().unwrap_err())
}

fn refused_label(text: &str) -> String {
    refusal(&with_label(text))
}

fn refused_classes(name: &str, text: &str) -> String {
    let folder = Folder::new().with("a.bmp", image(9, 9)).with("a.txt", "0 0.5 0.5 0.1 0.1");
    refusal(&folder.with(name, text))
}

#[test]
fn boxes_are_in_pixels_and_class_indices_count_from_one() {
    let dataset = with_label("0 0.5 0.5 0.5 1\n\n1\t0.125 0.25 0.25 0.5\r\n").yolo().unwrap();
    assert_eq!(names(&dataset), [(1, "person"), (2, "car")]);
    let expected = vec![(1, [25.0, 0.0, 50.0, 50.0]), (2, [0.0, 0.0, 25.0, 25.0])];
    assert_eq!(boxes(&dataset), [("images/a.bmp", expected)]);
    let image = &dataset.images[0];
    assert_eq!((image.width, image.height), (100, 50));
    assert_eq!(image.ground_truth.iter().map(|gt| gt.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(image.ground_truth[0].area, 2500.0);
    assert!(image.ground_truth.iter().all(|gt| !gt.ignore && !gt.is_crowd));
    assert!(dataset.federation.is_none());
}

#[test]
fn a_polygon_counts_by_its_bounding_box_and_does_not_change_the_boxes_beside_it() {
    let text = "1 0.2 0.1 0.6 0.3 0.4 0.9\n0 0.5 0.5 0.5 0.5\n";
    let dataset = with_label(text).yolo().unwrap();
    let [(_, found)] = &boxes(&dataset)[..] else { panic!("one image") };
    let close = |found: [f64; 4], expected: [f64; 4]| {
        found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12)
    };
    assert!(close(found[0].1, [20.0, 5.0, 40.0, 40.0]), "{found:?}");
    assert_eq!(found[1], (1, [25.0, 12.5, 50.0, 25.0]));
}

#[test]
fn an_image_without_labels_has_no_objects() {
    let folder = with_label("0 0.5 0.5 0.5 1");
    folder.write("images/b.bmp", image(7, 8));
    folder.write("images/c.bmp", image(7, 8));
    folder.write("labels/c.txt", "\n");
    let dataset = folder.yolo().unwrap();
    let counts: Vec<usize> = dataset.images.iter().map(|image| image.ground_truth.len()).collect();
    assert_eq!(counts, [1, 0, 0]);
    assert_eq!(ids(&dataset), [1, 2, 3]);
}

/// Ultralytics' layout with splits, from the root, from a split of the labels, and with the images
/// named; and what its runs leave in the root is no image of the data set.
#[test]
fn splits_are_read_together_or_one_by_one() {
    let folder = Folder::new()
        .with("data.yaml", "names:\n  0: person\n  1: car\nnc: 2\n")
        .with("results.png", "not an image")
        .with("README.roboflow.txt", "exported")
        .with("images/train/a.bmp", image(10, 10))
        .with("labels/train/a.txt", "1 0.5 0.5 1 1")
        .with("images/val/b.bmp", image(20, 20))
        .with("images/val/sub/c.bmp", image(20, 20))
        .with("labels/val/b.txt", "0 0.5 0.5 1 1");
    let files = |dataset: &detgate::dataset::Dataset| -> Vec<String> {
        dataset.images.iter().map(|image| relative(&image.path, &folder).to_owned()).collect()
    };
    let whole = folder.yolo().unwrap();
    assert_eq!(files(&whole), ["images/train/a.bmp", "images/val/b.bmp", "images/val/sub/c.bmp"]);
    let split = load_yolo(&folder.path("labels/val"), None).unwrap();
    assert_eq!(files(&split), ["images/val/b.bmp", "images/val/sub/c.bmp"]);
    assert_eq!(names(&split), [(1, "person"), (2, "car")]);
    assert_eq!(split.images[0].file_name, "b.bmp");
    let named = load_yolo(&folder.path("labels/val"), Some(&folder.path("images/val"))).unwrap();
    assert_eq!(named, split);
}

/// Roboflow's layout: each split has its own `images` and `labels`, the names are above them.
#[test]
fn class_names_are_found_above_the_split() {
    let folder = Folder::new()
        .with("data.yaml", "train: ../train/images\nnc: 1\nnames: ['traffic light']\n")
        .with("valid/images/a.rf.0f1e.bmp", image(10, 10))
        .with("valid/labels/a.rf.0f1e.txt", "0 0.5 0.5 1 1");
    for start in ["", "valid", "valid/labels"] {
        let dataset = load_yolo(&folder.path(start), None).unwrap();
        assert_eq!(names(&dataset), [(1, "traffic light")], "{start}");
        assert_eq!(dataset.images.len(), 1);
        assert_eq!(dataset.images[0].ground_truth.len(), 1);
    }
}

/// Darknet's layout, and labelImg's: all in one folder.
#[test]
fn labels_may_stand_beside_the_images() {
    for (list, text) in [("obj.names", "person\ncar\n\n"), ("classes.txt", "\u{feff}person\r\ncar")]
    {
        let folder = Folder::new()
            .with(list, text)
            .with("train.txt", "a.BMP\n")
            .with(".ipynb_checkpoints/a.txt", "junk")
            .with("._a.txt", "junk")
            .with("a.BMP", image(10, 10))
            .with("a.txt", "1 0.5 0.5 1 1");
        let dataset = folder.yolo().unwrap();
        assert_eq!(names(&dataset), [(1, "person"), (2, "car")]);
        assert_eq!(boxes(&dataset), [("a.BMP", vec![(2, [0.0, 0.0, 10.0, 10.0])])]);
    }
}

/// Darknet's `voc_label.py` writes `labels` beside VOC's images.
#[test]
fn labels_may_stand_beside_a_devkits_images() {
    let folder = Folder::new()
        .with("voc.names", "unrelated")
        .with("classes.txt", "person")
        .with("JPEGImages/000005.bmp", image(10, 10))
        .with("labels/000005.txt", "0 0.5 0.5 1 1");
    for start in ["", "labels"] {
        let dataset = load_yolo(&folder.path(start), None).unwrap();
        assert_eq!(ids(&dataset), [5]);
        assert_eq!(dataset.images[0].ground_truth.len(), 1);
    }
}

#[test]
fn a_label_file_may_be_called_as_a_list_if_its_image_is() {
    let folder = Folder::new()
        .with("obj.names", "person")
        .with("test.bmp", image(10, 10))
        .with("test.txt", "0 0.5 0.5 1 1");
    assert_eq!(folder.yolo().unwrap().images[0].ground_truth.len(), 1);
}

/// Results refer to images as `int(stem) if stem.isnumeric() else stem`.
#[test]
fn numeric_names_are_image_ids() {
    let with = |names: [&str; 3]| {
        let mut folder = Folder::new().with("classes.txt", "person");
        for name in names {
            folder = folder.with(&format!("{name}.bmp"), image(9, 9));
        }
        folder.write(&format!("{}.txt", names[0]), "0 0.5 0.5 1 1");
        ids(&folder.yolo().unwrap())
    };
    assert_eq!(with(["000000000139", "000000000285", "7"]), [139, 285, 7]);
    assert_eq!(with(["0139", "139", "7"]), [140, 141, 7], "equal as numbers");
    // Images are sorted by name; the results of `10` must not be taken for those of the second.
    assert_eq!(with(["1", "10", "b"]), [1, 10, 11]);
    assert_eq!(with(["a", "b", "c"]), [1, 2, 3]);
    assert_eq!(with(["+5", "6", "7"]), [8, 6, 7], "a sign is not numeric");
    assert_eq!(with(["5", "6", "99999999999999999999"]), [5, 6, 7], "larger than an id");
}

#[test]
fn the_digest_is_of_all_that_the_data_set_is_made_of() {
    let digest = |folder: &Folder| folder.yolo().unwrap().digest;
    let folder = with_label("0 0.5 0.5 0.5 1");
    let first = digest(&folder);
    assert_eq!(digest(&with_label("0 0.5 0.5 0.5 1")), first);
    assert_eq!(first.len(), 64);
    let mut all = vec![first];
    folder.write("labels/a.txt", "0 0.5 0.5 0.25 1");
    all.push(digest(&folder));
    folder.write("images/a.bmp", image(100, 51));
    all.push(digest(&folder));
    folder.write("images/b.bmp", image(1, 1));
    all.push(digest(&folder));
    folder.write("data.yaml", "names: [person, bus]");
    all.push(digest(&folder));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}

#[test]
fn a_line_that_is_there_twice_counts_once() {
    let dataset = with_label("0 0.5 0.5 0.5 1\n0 .5 0.50 0.5 1.0\n1 0.5 0.5 0.5 1").yolo().unwrap();
    assert_eq!(dataset.images[0].ground_truth.len(), 2);
}

#[test]
fn key_points_are_not_taken_for_a_polygon() {
    let folder = with_label("0 0.5 0.5 0.5 1 0.1 0.1 2 0.9 0.9 0");
    folder.write("data.yaml", "kpt_shape: [2, 3]\nnames: {0: person}\n");
    assert_eq!(boxes(&folder.yolo().unwrap())[0].1, [(1, [25.0, 0.0, 50.0, 50.0])]);
    folder.write("labels/a.txt", "0 0.5 0.5 0.5 1 0.1 0.1");
    assert_eq!(
        refusal(&folder),
        "DIR/labels/a.txt: line 1 has 7 columns; expected 11, by kpt_shape"
    );
}

/// Names that YAML 1.1 would make booleans or numbers of, block and flow style, and scripts.
#[test]
fn names_in_data_yaml_are_taken_as_written() {
    for yaml in [
        "names: [no, 'a: b', 3]",
        "path: ../x  # names: [wrong]\nnames:\n- no\n- \"a: b\"\n- 3\nval: {images: [x, {y: z}]}\n",
        "{names: {2: 3, 0: no, 1: 'a: b'}, nc: 3}",
        "download: |\n  names: [wrong]\n  for x in y:\n    pass\nnames:\n  0: no\n  1: 'a: b'\n  2: 3\n",
        "? [complex, {key: 1}]\n: x\nnames: [no, 'a: b', 3]\nnc: 3\n",
    ] {
        let folder = with_label("0 0.5 0.5 0.5 1");
        folder.write("data.yaml", yaml);
        let dataset = folder.yolo().unwrap_or_else(|error| panic!("{yaml}: {error}"));
        assert_eq!(names(&dataset), [(1, "no"), (2, "a: b"), (3, "3")], "{yaml}");
    }
    let folder = with_label("1 0.5 0.5 0.5 1");
    folder.write("data.yaml", "nc: 2");
    assert_eq!(names(&folder.yolo().unwrap()), [(1, "class_0"), (2, "class_1")]);
}

/// A phone's picture: its labels are of the picture as it is shown.
#[test]
fn boxes_are_of_the_upright_picture() {
    let jpeg = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/images/jpeg/exif_orientation_6.jpg");
    let stored = detgate::dataset::image::dimensions(&jpeg).unwrap();
    assert_ne!(stored.width, stored.height);
    let folder = Folder::new()
        .with("classes.txt", "person")
        .with("a.txt", "0 0.5 0.5 1 1")
        .with("a.jpg", std::fs::read(jpeg).unwrap());
    let dataset = folder.yolo().unwrap();
    assert_eq!((dataset.images[0].width, dataset.images[0].height), (stored.height, stored.width));
    let [x, y, w, h] = boxes(&dataset)[0].1[0].1;
    assert_eq!([x, y, w, h], [0.0, 0.0, f64::from(stored.height), f64::from(stored.width)]);
}

#[test]
fn a_line_that_is_no_label_is_refused_with_its_number() {
    for (line, sentence) in [
        (
            "0 0.5 0.5 0.5",
            "has 4 columns; expected 5 (class cx cy w h), or the class and at least 3 points",
        ),
        (
            "0 0.5 0.5 0.5 0.5 0.5 0.5 0.5",
            "has 8 columns; expected 5 (class cx cy w h), or the class and at least 3 points",
        ),
        (
            "0 0.5 0.5 0.5 0.5 0.9",
            "has 6 columns, as detections with a score have; expected ground truth, 5 columns: class cx cy w h",
        ),
        ("0 0.5 half 0.5 0.5", "has \"half\" where a number is expected"),
        ("person 0.5 0.5 0.5 0.5", "has the class \"person\"; expected a whole number, 0 to 1"),
        ("-1 0.5 0.5 0.5 0.5", "has the class \"-1\"; expected a whole number, 0 to 1"),
        ("0.5 0.5 0.5 0.5 0.5", "has the class \"0.5\"; expected a whole number, 0 to 1"),
        ("nan 0.5 0.5 0.5 0.5", "has the class \"nan\"; expected a whole number, 0 to 1"),
        ("2 0.5 0.5 0.5 0.5", "has the class 2; DIR/data.yaml names 2, which are 0 to 1"),
        ("0 50 20 10 10", "has the coordinate 50; expected 0 to 1, relative to the image's size"),
        (
            "0 0.5 0.5 nan 0.5",
            "has the coordinate NaN; expected 0 to 1, relative to the image's size",
        ),
        (
            "0 0.5 0.5 1e999 0.5",
            "has the coordinate inf; expected 0 to 1, relative to the image's size",
        ),
        (
            "0 0.5 -0.02 0.5 0.5",
            "has the coordinate -0.02; expected 0 to 1, relative to the image's size",
        ),
        (
            "0 0.1 0.1 0.5 0.5 0.9 1.2",
            "has the coordinate 1.2; expected 0 to 1, relative to the image's size",
        ),
        ("0 0.5 0.5 -0.005 0.5", "has the size -0.005 0.5; width and height must not be negative"),
    ] {
        let text = format!("0 0.5 0.5 1 1\n\n{line}\n");
        assert_eq!(refused_label(&text), format!("DIR/labels/a.txt: line 3 {sentence}"));
    }
}

#[test]
fn what_rounding_leaves_outside_is_accepted() {
    let dataset = with_label("1.0 1.004 -0.002 0 0.5").yolo().unwrap();
    assert_eq!(dataset.images[0].ground_truth[0].category_id, 2);
    assert_eq!(dataset.images[0].zero_area_boxes(), 1);
}

#[test]
fn a_folder_that_is_not_yolos_is_refused() {
    let folder = with_label("0 0.5 0.5 1 1");
    folder.write("labels/sub/b.txt", "");
    assert_eq!(
        refusal(&folder),
        "DIR/labels/sub/b.txt: there is no image for these labels below DIR; expected sub/b.jpg or \
         another image of that name"
    );
    let folder = with_label("0 0.5 0.5 1 1");
    folder.write("images/a.png", image(1, 1));
    assert_eq!(
        refusal(&folder),
        "DIR/images/a.png: has the same label file as DIR/images/a.bmp; rename one"
    );
    assert_eq!(
        refusal(&Folder::new()),
        "DIR: holds neither images nor YOLO labels; expected labels/*.txt and images/, or both in \
         one folder"
    );
    assert_eq!(
        refusal(&Folder::new().with("a.bmp", image(1, 1)).with("b.bmp", image(1, 1))),
        "DIR: holds 2 images, but no YOLO labels; expected labels/*.txt and images/, or both in one \
         folder"
    );
    let folder = Folder::new();
    let missing = load_yolo(&folder.path("missing"), None).unwrap_err();
    assert!(folder.sentence(missing).starts_with("cannot read the ground truth DIR/missing: "));
}

#[test]
fn an_image_without_a_size_is_refused() {
    let folder = with_label("0 0.5 0.5 1 1");
    folder.write("images/a.bmp", "GIF89a");
    assert!(
        refusal(&folder).starts_with(
            "DIR/images/a.bmp: the image's size cannot be read from its header: not a supported image"
        ),
        "{}",
        refusal(&folder)
    );
}

#[test]
fn text_that_is_not_utf_8_is_refused_with_its_line() {
    let folder = with_label("");
    folder.write("labels/a.txt", b"0 0.5 0.5 1 1\n0 0.5 \xff 1 1");
    assert_eq!(
        refusal(&folder),
        "DIR/labels/a.txt: line 2 is not UTF-8; save the file as UTF-8 text"
    );
}

#[test]
fn unusable_class_names_are_refused() {
    let folder = Folder::new().with("a.bmp", image(9, 9)).with("a.txt", "0 0.5 0.5 0.1 0.1");
    assert_eq!(
        refusal(&folder),
        "DIR: there are no class names; put data.yaml (with \"names\"), classes.txt or obj.names \
         (one name a line) into it or its parent"
    );
    for (name, text, sentence) in [
        ("classes.txt", "", "there is no class name in it; give each class one"),
        ("classes.txt", "a\n\nb", "line 2 is blank; each line must hold one class name"),
        ("obj.names", "a\nb\na", "line 3 repeats the class name \"a\" of line 1; rename one"),
        ("data.yaml", "names: []", "there is no class name in it; give each class one"),
        ("data.yaml", "path: x", "there are no \"names\" in it; add names: [CLASS, ...]"),
        ("data.yaml", "- a", "it is not a map with the key \"names\"; add names: [CLASS, ...]"),
        ("data.yaml", "", "it is not a map with the key \"names\"; add names: [CLASS, ...]"),
        ("data.yaml", "names: a", "line 1 must give \"names\" as a list, or as a map by index"),
        ("data.yaml", "x: 1\nnames:\n- a\n- [b]", "line 4 must hold a plain name or number"),
        (
            "data.yaml",
            "x: &n [a]\nnames: *n",
            "line 2 must give \"names\" as a list, or as a map by index",
        ),
        (
            "data.yaml",
            "names: {a: 0}",
            "line 1 has the index \"a\" in \"names\"; expected a whole number",
        ),
        (
            "data.yaml",
            "names:\n  0: a\n  2: b",
            "\"names\" has 2 classes but no index 1; count from 0 without gaps",
        ),
        ("data.yaml", "names:\n  0: a\n  00: b", "line 3 names class 0 again"),
        ("data.yaml", "names: [a]\nnc: 2", "line 2 says nc: 2, but \"names\" lists 1; correct one"),
        ("data.yaml", "nc: two", "line 1 must give \"nc\" as a whole number"),
        ("data.yaml", "nc: 10000000000", "line 1 says nc: 10000000000; give the \"names\""),
        (
            "data.yaml",
            "names: [a]\nkpt_shape: 17",
            "line 2 must give \"kpt_shape\" as [points, columns]",
        ),
    ] {
        assert_eq!(refused_classes(name, text), format!("DIR/{name}: {sentence}"), "{text}");
    }
    let syntax = refused_classes("data.yaml", "x: 1\nnames: [a\n");
    assert!(
        syntax.starts_with("DIR/data.yaml: line ") && syntax.contains(" is not YAML: "),
        "{syntax}"
    );
    let folder = with_label("0 0.5 0.5 1 1");
    folder.write("classes.txt", "person\nbus");
    assert_eq!(
        refusal(&folder),
        "DIR/data.yaml: its class names are not those of DIR/classes.txt; make them agree, or \
         remove one"
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::fs::symlink;
    let elsewhere = Folder::new().with("a.bmp", image(100, 50));
    let folder = Folder::new().with("classes.txt", "person").with("labels/a.txt", "0 0.5 0.5 1 1");
    symlink(elsewhere.path(""), folder.path("images")).unwrap();
    assert_eq!(folder.yolo().unwrap().images.len(), 1);
    symlink(folder.path(""), folder.path("labels/again")).unwrap();
    assert_eq!(
        refusal(&folder),
        "DIR/labels/again: is a link to a folder above it; remove the link"
    );
}

/// Neither nesting nor aliases make `data.yaml` cost more than its length.
#[test]
fn hostile_yaml_is_refused_or_read_without_harm() {
    let deep = 50_000;
    for hostile in ["[".repeat(deep), "- ".repeat(deep), "? ".repeat(deep), "{a: ".repeat(deep)] {
        let folder = with_label("0 0.5 0.5 1 1");
        folder.write("data.yaml", format!("x:\n  {hostile}\nnames: [a, b]\n"));
        let outcome = folder.yolo();
        assert!(outcome.is_ok() || refusal(&folder).contains("data.yaml: line "), "{outcome:?}");
    }
    let folder = with_label("0 0.5 0.5 1 1");
    let laughs: String =
        (1..60).map(|i| format!("a{i}: &a{i} [*a{}, *a{}]\n", i - 1, i - 1)).collect();
    folder.write("data.yaml", format!("a0: &a0 [lol]\n{laughs}names: [a, b]\n"));
    assert_eq!(names(&folder.yolo().unwrap()), [(1, "a"), (2, "b")]);
}
