//! The kind of ground truth is told by looking, and the same objects load alike from all kinds.

use detgate::dataset::{
    AnnotationFormat, Classes, Dataset, annotations_format, load, load_voc, load_yolo,
};
use proptest::prelude::{ProptestConfig, Strategy, prop, prop_assert, prop_assert_eq, proptest};
use serde_json::json;

use crate::support::{Folder, image, names};

fn told(folder: &Folder, name: &str) -> AnnotationFormat {
    annotations_format(&folder.path(name)).unwrap()
}

#[test]
fn the_kind_is_told_by_looking() {
    use AnnotationFormat::{CocoJson, VocFolder, YoloFolder};
    let folder = Folder::new()
        .with("truth.json", "never opened")
        .with("truth.json.gz", "never opened")
        .with("voc/Annotations/a.xml", "")
        .with("voc/ImageSets/Main/val.txt", "a")
        .with("voc/JPEGImages/a.jpg", "")
        .with("flat-voc/labels.txt", "person")
        .with("flat-voc/a.xml", "")
        .with("yolo/data.yaml", "")
        .with("yolo/images/a.jpg", "")
        .with("yolo/labels/val/a.txt", "")
        .with("darknet/obj.names", "person")
        .with("darknet/a.jpg", "")
        .with("darknet/a.txt", "");
    assert_eq!(told(&folder, "truth.json"), CocoJson);
    assert_eq!(told(&folder, "truth.json.gz"), CocoJson);
    for name in ["voc", "voc/Annotations", "flat-voc"] {
        assert_eq!(told(&folder, name), VocFolder, "{name}");
    }
    for name in ["yolo", "yolo/labels", "yolo/labels/val", "darknet"] {
        assert_eq!(told(&folder, name), YoloFolder, "{name}");
    }
}

#[test]
fn both_kinds_or_neither_are_refused() {
    let refusal = |folder: &Folder, name: &str| {
        folder.sentence(annotations_format(&folder.path(name)).unwrap_err())
    };
    let folder = Folder::new().with("both/labels/a.txt", "").with("both/Annotations/a.xml", "");
    assert_eq!(
        refusal(&folder, "both"),
        "DIR/both: holds both YOLO labels (DIR/both/labels/a.txt) and Pascal VOC annotations \
         (DIR/both/Annotations/a.xml); pass the folder of one"
    );
    folder.write("neither/README.txt", "");
    folder.write("neither/classes.txt", "");
    assert_eq!(
        refusal(&folder, "neither"),
        "DIR/neither: holds no ground truth; expected a COCO JSON file, a folder with YOLO labels \
         (labels/*.txt) or one with Pascal VOC annotations (*.xml)"
    );
    assert!(refusal(&folder, "missing").starts_with("cannot read the ground truth DIR/missing: "));
}

/// One object: class index and inclusive corners, from 0, within the image.
type Object = (usize, [u32; 4]);

#[derive(Debug, Clone)]
struct Picture {
    width: u32,
    height: u32,
    objects: Vec<Object>,
}

const CLASSES: [&str; 3] = ["ant", "bee", "cat"];

fn pictures() -> impl Strategy<Value = Vec<Picture>> {
    let picture = (1..3000_u32, 1..3000_u32).prop_flat_map(|(width, height)| {
        let corner = (0..width, 0..height, 0..width, 0..height);
        let object = (0..CLASSES.len(), corner)
            .prop_map(|(class, (a, b, c, d))| (class, [a.min(c), b.min(d), a.max(c), b.max(d)]));
        prop::collection::vec(object, 0..6).prop_map(move |mut objects| {
            // A YOLO line that is there twice counts once.
            objects.sort();
            objects.dedup();
            Picture { width, height, objects }
        })
    });
    prop::collection::vec(picture, 1..6)
}

impl Picture {
    fn coco(&self, image_id: usize, annotations: &mut Vec<serde_json::Value>) {
        for &(class, [left, top, right, bottom]) in &self.objects {
            let bbox = [left, top, right - left + 1, bottom - top + 1];
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": image_id, "category_id": class + 1,
                "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0
            }));
        }
    }

    /// With as many decimals as Ultralytics' converter writes.
    fn yolo(&self) -> String {
        let (width, height) = (f64::from(self.width), f64::from(self.height));
        let line = |&(class, [left, top, right, bottom]): &Object| {
            let (w, h) = (f64::from(right - left + 1), f64::from(bottom - top + 1));
            let (cx, cy) = (f64::from(left) + w / 2.0, f64::from(top) + h / 2.0);
            let [cx, cy, w, h] = [cx / width, cy / height, w / width, h / height];
            format!("{class} {cx:.6} {cy:.6} {w:.6} {h:.6}\n")
        };
        self.objects.iter().map(line).collect()
    }

    fn voc(&self, file_name: &str) -> String {
        let object = |&(class, [left, top, right, bottom]): &Object| {
            let [xmin, ymin, xmax, ymax] = [left, top, right, bottom].map(|at| at + 1);
            format!(
                "<object><name>{}</name><bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>\
                 <xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>",
                CLASSES[class]
            )
        };
        let objects: String = self.objects.iter().map(object).collect();
        format!(
            "<annotation><filename>{file_name}</filename><size><width>{}</width><height>{}</height>\
             </size>{objects}</annotation>",
            self.width, self.height
        )
    }
}

/// The same pictures as COCO JSON, YOLO labels and VOC annotations, loaded.
fn written_three_ways(pictures: &[Picture]) -> [Dataset; 3] {
    let folder = Folder::new()
        .with("yolo/classes.txt", CLASSES.join("\n"))
        .with("voc/labels.txt", CLASSES.join("\n"));
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for (index, picture) in pictures.iter().enumerate() {
        let name = format!("{:06}", 10 + index);
        let (width, height) = (picture.width, picture.height);
        folder.write(&format!("yolo/images/{name}.bmp"), image(width, height));
        if !picture.objects.is_empty() || index == 0 {
            folder.write(&format!("yolo/labels/{name}.txt"), picture.yolo());
        }
        folder.write(&format!("voc/Annotations/{name}.xml"), picture.voc(&format!("{name}.bmp")));
        let id = 10 + index;
        images.push(json!({
            "id": id, "file_name": format!("{name}.bmp"), "width": width, "height": height
        }));
        picture.coco(id, &mut annotations);
    }
    let categories: Vec<_> =
        (1..).zip(CLASSES).map(|(id, name): (i64, _)| json!({"id": id, "name": name})).collect();
    let truth = json!({"images": images, "annotations": annotations, "categories": categories});
    folder.write("coco.json", truth.to_string());
    let (coco, images) = (folder.path("coco.json"), folder.path("yolo/images"));
    [
        load(&coco, &images, &Classes::FromFile, None).unwrap(),
        load_yolo(&folder.path("yolo"), None).unwrap(),
        load_voc(&folder.path("voc"), None).unwrap(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_objects_load_alike_from_all_kinds(pictures in pictures()) {
        let [coco, yolo, voc] = written_three_ways(&pictures);
        for other in [&yolo, &voc] {
            prop_assert_eq!(names(other), names(&coco));
            prop_assert_eq!(other.images.len(), coco.images.len());
        }
        for ((coco, yolo), voc) in coco.images.iter().zip(&yolo.images).zip(&voc.images) {
            // Whole pixels: VOC is exact.
            prop_assert_eq!(&voc.ground_truth, &coco.ground_truth);
            prop_assert_eq!((yolo.id, yolo.width, yolo.height), (coco.id, coco.width, coco.height));
            prop_assert_eq!((voc.id, voc.width, voc.height), (coco.id, coco.width, coco.height));
            prop_assert_eq!(yolo.ground_truth.len(), coco.ground_truth.len());
            for (a, b) in yolo.ground_truth.iter().zip(&coco.ground_truth) {
                prop_assert_eq!((a.id, a.category_id), (b.id, b.category_id));
                // Six decimals of each of two numbers, the second halved.
                let bound = 0.8e-6 * f64::from(coco.width.max(coco.height));
                let (a, b): ([f64; 4], [f64; 4]) = (a.bbox.into(), b.bbox.into());
                prop_assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= bound), "{:?} {:?}", a, b);
            }
        }
    }
}
