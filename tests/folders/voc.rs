//! Pascal VOC annotations: what is read, and the sentence for each thing that is not.

use detgate::dataset::load_voc;

use crate::support::{Folder, boxes, ids, image, names, relative};

/// One annotation as the VOCdevkit writes it, with `objects` in it.
fn annotation(file_name: &str, objects: &str) -> String {
    format!(
        "<annotation>\n\t<folder>VOC2012</folder>\n\t<filename>{file_name}</filename>\n\
         \t<source><database>The VOC2008 Database</database></source>\n\
         \t<size><width>500</width><height>375</height><depth>3</depth></size>\n\
         \t<segmented>0</segmented>\n{objects}</annotation>\n"
    )
}

fn object(name: &str, difficult: &str, corners: [&str; 4]) -> String {
    let [xmin, ymin, xmax, ymax] = corners;
    format!(
        "\t<object>\n\t\t<name>{name}</name>\n\t\t<pose>Left</pose>{difficult}\n\t\t<bndbox>\
         <xmax>{xmax}</xmax><xmin>{xmin}</xmin><ymax>{ymax}</ymax><ymin>{ymin}</ymin></bndbox>\n\
         \t</object>\n"
    )
}

fn refusal(folder: &Folder) -> String {
    folder.sentence(folder.voc().unwrap_err())
}

fn refused(objects: &str) -> String {
    refusal(&Folder::new().with("a.xml", annotation("a.jpg", objects)))
}

#[test]
fn corners_are_inclusive_pixel_indices_from_one() {
    let objects = object("person", "", ["1", "1", "500", "375"])
        + &object("dog", "", ["45.70000076293945", "3", "45.70000076293945", "7"]);
    let dataset = Folder::new().with("a.xml", annotation("a.jpg", &objects)).voc().unwrap();
    assert_eq!(names(&dataset), [(1, "dog"), (2, "person")]);
    let expected =
        vec![(2, [0.0, 0.0, 500.0, 375.0]), (1, [45.70000076293945 - 1.0, 2.0, 1.0, 5.0])];
    assert_eq!(boxes(&dataset), [("a.jpg", expected)]);
    let image = &dataset.images[0];
    assert_eq!((image.width, image.height), (500, 375));
    assert_eq!(image.ground_truth.iter().map(|gt| gt.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(image.ground_truth[1].area, 5.0);
}

#[test]
fn difficult_objects_are_ignored_not_crowds() {
    let objects = object("a", "<difficult>1</difficult>", ["1", "1", "5", "5"])
        + &object("a", "<difficult>\n0 </difficult>", ["1", "1", "5", "5"])
        + &object("a", "", ["1", "1", "5", "5"]);
    let dataset = Folder::new().with("a.xml", annotation("a.jpg", &objects)).voc().unwrap();
    let ignored: Vec<bool> = dataset.images[0].ground_truth.iter().map(|gt| gt.ignore).collect();
    assert_eq!(ignored, [true, false, false]);
    assert!(dataset.images[0].ground_truth.iter().all(|gt| !gt.is_crowd));
}

/// VOC's person layout: a head and hands, with names and boxes of their own, before the person's.
#[test]
fn parts_are_not_objects_and_do_not_lend_them_their_box() {
    let part = "<part><name>head</name><bndbox><xmin>7</xmin><ymin>7</ymin><xmax>9</xmax><ymax>9\
                </ymax></bndbox></part>";
    let whole = object("person", part, ["1", "2", "30", "40"]);
    let dataset = Folder::new().with("a.xml", annotation("a.jpg", &whole)).voc().unwrap();
    assert_eq!(names(&dataset), [(1, "person")]);
    assert_eq!(boxes(&dataset)[0].1, [(1, [0.0, 1.0, 30.0, 39.0])]);
    let only_part = "\t<object>\n\t\t<name>person</name>".to_owned() + part + "</object>";
    assert_eq!(refused(&only_part), "DIR/a.xml: line 7, column 2: <object> has no <bndbox>");
}

/// The VOCdevkit: `Annotations`, `JPEGImages` and lists of images in `ImageSets`.
#[test]
fn images_are_found_in_the_devkit_and_need_not_be_there() {
    let folder = Folder::new()
        .with("Annotations/000012.xml", annotation("000012.jpg", ""))
        .with("Annotations/000005.xml", annotation("000005.jpg", &object("a", "", ["1"; 4])))
        .with("ImageSets/Main/val.txt", "000005\n")
        .with("other.xml", "<not-an-annotation/>")
        .with("JPEGImages/000005.jpg", "never opened");
    let digest = folder.voc().unwrap().digest;
    for start in ["", "Annotations"] {
        let dataset = load_voc(&folder.path(start), None).unwrap();
        assert_eq!(ids(&dataset), [5, 12]);
        assert_eq!(dataset.digest, digest);
        let paths: Vec<&str> =
            dataset.images.iter().map(|image| relative(&image.path, &folder)).collect();
        assert_eq!(paths, ["JPEGImages/000005.jpg", "JPEGImages/000012.jpg"]);
    }
    let named = load_voc(&folder.path(""), Some(&folder.path("elsewhere"))).unwrap();
    assert_eq!(relative(&named.images[0].path, &folder), "elsewhere/000005.jpg");
}

#[test]
fn names_that_are_no_numbers_are_counted_in_their_order() {
    let folder = Folder::new()
        .with("b.xml", annotation("2007_000032.jpg", &object("a", "", ["1"; 4])))
        .with("a.xml", annotation("2007_000129.jpg", ""))
        .with("c/c.xml", annotation("1.jpg", ""));
    let dataset = folder.voc().unwrap();
    let files: Vec<&str> = dataset.images.iter().map(|image| image.file_name.as_str()).collect();
    assert_eq!(files, ["1.jpg", "2007_000032.jpg", "2007_000129.jpg"]);
    assert_eq!(ids(&dataset), [1, 2, 3]);
}

#[test]
fn a_list_gives_the_classes_their_order() {
    let folder = Folder::new()
        .with("labels.txt", "zebra\nperson\nant\n")
        .with("Annotations/a.xml", annotation("a.jpg", &object("person", "", ["1"; 4])));
    for start in ["", "Annotations"] {
        let dataset = load_voc(&folder.path(start), None).unwrap();
        assert_eq!(names(&dataset), [(1, "zebra"), (2, "person"), (3, "ant")]);
        assert_eq!(dataset.images[0].ground_truth[0].category_id, 2);
    }
    folder.write("labels.txt", "zebra\nant\n");
    assert_eq!(
        refusal(&folder),
        "DIR/Annotations/a.xml: line 7, column 2: the class \"person\" is not in DIR/labels.txt; \
         add it there"
    );
}

#[test]
fn a_missing_size_is_that_of_the_image() {
    let text = annotation("a.bmp", &object("a", "", ["1"; 4]));
    let without =
        text.replace("<size><width>500</width><height>375</height><depth>3</depth></size>", "");
    let zero = text.replace(">500<", ">0<").replace(">375<", ">0<");
    for text in [without, zero] {
        let folder = Folder::new().with("a.xml", text);
        assert_eq!(
            refusal(&folder),
            "DIR/a.xml: line 1, column 1: there is no <size> with width and height, and the image \
             that could tell is not at DIR/a.bmp"
        );
        folder.write("a.bmp", image(64, 48));
        let dataset = folder.voc().unwrap();
        assert_eq!((dataset.images[0].width, dataset.images[0].height), (64, 48));
    }
}

#[test]
fn markup_that_parsers_stumble_over_is_read() {
    let text = "\u{feff}<?xml version='1.0' encoding='utf-8'?>\r\n<!-- x --><annotation verified='yes'>\
        <filename>a &amp; b.jpg</filename><size><width>9</width><height>9</height></size>\
        <object><name><![CDATA[a<b]]></name><bndbox><xmin>1<!-- one --></xmin><ymin> 2\n</ymin>\
        <xmax>3</xmax><ymax>4.0</ymax></bndbox></object></annotation>";
    let dataset = Folder::new().with("a.xml", text).voc().unwrap();
    assert_eq!(names(&dataset), [(1, "a<b")]);
    assert_eq!(boxes(&dataset), [("a & b.jpg", vec![(1, [0.0, 1.0, 3.0, 3.0])])]);
}

#[test]
fn the_digest_is_of_names_and_contents() {
    let digest = |folder: &Folder| folder.voc().unwrap().digest;
    let folder = Folder::new().with("a.xml", annotation("a.jpg", &object("a", "", ["1"; 4])));
    let mut all = vec![digest(&folder)];
    assert_eq!(digest(&folder), all[0]);
    folder.write("b.xml", annotation("b.jpg", ""));
    all.push(digest(&folder));
    folder.write("b.xml", annotation("c.jpg", ""));
    all.push(digest(&folder));
    folder.write("labels.txt", "a\nb");
    all.push(digest(&folder));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 4);
}

#[test]
fn a_damaged_object_is_refused_with_its_position() {
    let good = object("person", "", ["1", "2", "3", "4"]);
    for (from, to, sentence) in [
        ("<name>person</name>", "", "line 7, column 2: <object> has no <name>"),
        ("<name>person</name>", "<name> </name>", "line 8, column 3: <name> is empty"),
        (
            ">person<",
            ">person</name><name>dog<",
            "line 8, column 22: there is a second <name> in this <object>; remove one",
        ),
        ("<ymin>2</ymin>", "", "line 10, column 3: <bndbox> has no <ymin>"),
        ("<ymin>2</ymin>", "<ymin/>", "line 10, column 53: <ymin> is empty"),
        ("<ymin>2<", "<ymin>two<", "line 10, column 53: <ymin> is \"two\"; expected a number"),
        ("<ymin>2<", "<ymin>nan<", "line 10, column 53: <ymin> is \"nan\"; expected a number"),
        ("<xmax>3<", "<xmax>inf<", "line 10, column 11: <xmax> is \"inf\"; expected a number"),
        ("<xmax>3<", "<xmax>0.5<", "line 10, column 3: xmax is 0.5, less than xmin, which is 1"),
        ("<ymax>4<", "<ymax>1<", "line 10, column 3: ymax is 1, less than ymin, which is 2"),
        (
            "<bndbox>",
            "<bndbox/><bndbox>",
            "line 10, column 12: there is a second <bndbox> in this <object>; remove one",
        ),
        (
            "<pose>Left</pose>",
            "<difficult>yes</difficult>",
            "line 9, column 3: <difficult> is \"yes\"; expected 0 or 1",
        ),
    ] {
        assert!(good.contains(from));
        assert_eq!(refused(&good.replace(from, to)), format!("DIR/a.xml: {sentence}"));
    }
    let huge = good.replace(">3<", ">1e300<").replace(">4<", ">1e300<");
    assert_eq!(
        refused(&huge),
        "DIR/a.xml: line 10, column 3: the box is too large to have an area"
    );
}

#[test]
fn a_file_that_is_not_vocs_is_refused() {
    let refusal_of = |text: &str| refusal(&Folder::new().with("a.xml", text));
    let good = annotation("a.jpg", &object("a", "", ["1"; 4]));
    assert_eq!(
        refusal_of(&good.replace("<filename>a.jpg</filename>", "")),
        "DIR/a.xml: line 1, column 1: <annotation> has no <filename>"
    );
    assert_eq!(
        refusal_of(&good.replace("<width>500</width>", "<width>9.5</width>")),
        "DIR/a.xml: line 5, column 8: <width> is 9.5; expected a whole number of pixels"
    );
    assert_eq!(
        refusal_of("<Annotation/>"),
        "DIR/a.xml: line 1, column 1: <Annotation> is not Pascal VOC's; expected <annotation>"
    );
    let cut = refusal_of(&good[..good.len() - 20]);
    assert!(cut.starts_with("DIR/a.xml: line ") && cut.contains(" is not XML: "), "{cut}");
    assert_eq!(refusal(&Folder::new()), "DIR: holds no *.xml; expected Pascal VOC annotations");
    assert_eq!(
        refusal(&Folder::new().with("a.xml", annotation("a.jpg", ""))),
        "DIR: there is no object in any annotation, so the classes are unknown; list their names in \
         labels.txt, one a line"
    );
    let twice = Folder::new().with("a.xml", &good).with("b.xml", &good);
    assert_eq!(
        refusal(&twice),
        "DIR/b.xml: is of the image \"a.jpg\", as is DIR/a.xml; remove one"
    );
}

/// Nothing is fetched, expanded or recursed into, whatever a file asks for.
#[test]
fn hostile_xml_is_refused_or_read_without_harm() {
    let laughs =
        "<!DOCTYPE a [<!ENTITY b \"&c;&c;\"><!ENTITY c \"x\">]><annotation>&b;</annotation>";
    let refused = refusal(&Folder::new().with("a.xml", laughs));
    assert!(refused.starts_with("DIR/a.xml: line 1, column 1 is not XML: "), "{refused}");
    let external = "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><annotation/>";
    assert!(refusal(&Folder::new().with("a.xml", external)).contains(" is not XML: "));
    let depth = 300_000;
    let nested = "<part>".repeat(depth) + &"</part>".repeat(depth);
    let object = object("person", &nested, ["1"; 4]);
    let dataset = Folder::new().with("a.xml", annotation("a.jpg", &object)).voc().unwrap();
    assert_eq!(boxes(&dataset)[0].1.len(), 1);
    let unclosed = refusal(&Folder::new().with("a.xml", "<annotation>".repeat(depth)));
    assert!(unclosed.contains(" is not XML: "), "{unclosed}");
}
