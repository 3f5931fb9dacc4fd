//! Damaged files: an answer or a sentence that names a file, never a panic.

use detgate::dataset::{DatasetError, annotations_format};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, proptest};
use proptest::sample::Index;

use crate::support::{Folder, image};

#[derive(Debug, Clone)]
enum Mutation {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    // What the formats are made of finds more than random bytes do.
    let piece = prop::sample::select(vec![
        "<",
        ">",
        "</",
        "<object>",
        "</object>",
        "<bndbox>",
        "&",
        "&#0;",
        "]]>",
        "<![CDATA[",
        "<!--",
        "<?",
        "<!DOCTYPE a [",
        "-",
        "nan",
        "inf",
        "1e999",
        "-0",
        "\n",
        "\r",
        "\t",
        " ",
        "0 ",
        "names:",
        "[",
        "]",
        "{",
        "}",
        ": ",
        "- ",
        "? ",
        "*a",
        "&a ",
        "!!t ",
        "|",
        ">+1",
        "'",
        "\"",
        "#",
        "%YAML",
        "---",
        "...",
        "\u{feff}",
        "\u{85}",
        "\0",
        "9999999999999999999",
    ]);
    let mutation = proptest::prop_oneof![
        (any::<Index>(), 1..=255_u8).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
        any::<Index>().prop_map(Mutation::Cut),
        (any::<Index>(), piece).prop_map(|(at, piece)| Mutation::Insert(at, piece.into())),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ];
    prop::collection::vec(mutation, 1..5)
}

fn mutated(original: &str, mutations: &[Mutation]) -> Vec<u8> {
    let mut bytes = original.as_bytes().to_vec();
    for mutation in mutations {
        let len = bytes.len();
        match mutation {
            Mutation::Flip(at, bits) if len > 0 => bytes[at.index(len)] ^= bits,
            Mutation::Cut(at) if len > 0 => bytes.truncate(at.index(len)),
            Mutation::Insert(at, piece) => {
                let at = at.index(len + 1);
                bytes.splice(at..at, piece.iter().copied());
            }
            Mutation::Repeat(from, to) if len > 0 => {
                let (from, to) = (from.index(len), to.index(len));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(piece);
            }
            Mutation::Flip(..) | Mutation::Cut(_) | Mutation::Repeat(..) => {}
        }
    }
    bytes
}

const YAML: &str = "# data\npath: ../x\ntrain: [a, b]\nnames:\n  0: person\n  1: 'traffic light'\n\
                    nc: 2\nkpt_shape: [0, 3]\ndownload: |\n  from a import b\n";
const LABELS: &str = "0 0.5 0.5 0.25 0.125\n1 0.1 0.2 0.3 0.4\n";
const ANNOTATION: &str = "<?xml version=\"1.0\"?>\n<annotation>\n<filename>a.bmp</filename>\n<size>\
    <width>50</width><height>40</height></size>\n<object><name>dog &amp; cat</name><difficult>1\
    </difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30.5</xmax><ymax>40</ymax></bndbox>\
    <part><name>head</name></part></object>\n</annotation>\n";

/// Whatever came out: numbers that later stages may trust, or one sentence about a file.
fn sound(outcome: Result<detgate::dataset::Dataset, DatasetError>) {
    match outcome {
        Ok(dataset) => {
            for gt in dataset.images.iter().flat_map(|image| &image.ground_truth) {
                let numbers: [f64; 4] = gt.bbox.into();
                assert!(numbers.iter().all(|n| n.is_finite()), "{gt:?}");
                assert!(gt.bbox.w >= 0.0 && gt.bbox.h >= 0.0 && gt.area.is_finite(), "{gt:?}");
                assert!(dataset.categories.iter().any(|c| c.id == gt.category_id), "{gt:?}");
            }
        }
        Err(error) => assert!(error.to_string().contains(std::path::MAIN_SEPARATOR), "{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(700))]

    #[test]
    fn damaged_labels_never_panic(mutations in mutations()) {
        let folder = Folder::new()
            .with("classes.txt", "person\ncar")
            .with("images/a.bmp", image(50, 40))
            .with("labels/a.txt", mutated(LABELS, &mutations));
        sound(folder.yolo());
    }

    #[test]
    fn damaged_class_lists_never_panic(mutations in mutations()) {
        let folder = Folder::new()
            .with("data.yaml", mutated(YAML, &mutations))
            .with("images/a.bmp", image(50, 40))
            .with("labels/a.txt", LABELS);
        sound(folder.yolo());
    }

    #[test]
    fn damaged_annotations_never_panic(mutations in mutations()) {
        let folder = Folder::new().with("Annotations/a.xml", mutated(ANNOTATION, &mutations));
        annotations_format(&folder.path("")).unwrap();
        sound(folder.voc());
    }
}

/// The undamaged files load: without that, the tests above would test the first check only.
#[test]
fn the_originals_load() {
    let folder = Folder::new()
        .with("data.yaml", YAML)
        .with("images/a.bmp", image(50, 40))
        .with("labels/a.txt", LABELS)
        .with("voc/a.xml", ANNOTATION);
    assert_eq!(folder.yolo().unwrap().images[0].ground_truth.len(), 2);
    let voc = detgate::dataset::load_voc(&folder.path("voc"), None).unwrap();
    assert_eq!(voc.categories[0].name, "dog & cat");
}
