//! A project with an evaluation that passed, as `detgate eval` hands it to the registry; its classes have
//! names that nobody should give a class.

use std::path::{Path, PathBuf};

use detgate::config::{Config, EvalFlags, ProjectFlags};
use detgate::dataset::{Bbox, Category, Dataset, GroundTruth, ImageRecord};
use detgate::detections::{Detection, ModelForm};
use detgate::gate::stored::Stored;
use detgate::gate::{
    Assessment, Baseline, Fingerprint, Found, MetricTable, Passed, Provenance, Recorded, SCHEMA,
    Snapshot, Trial,
};
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::registry::{Files, Pages, Publication, publication};
use detgate::report::{DataSummary, Report, curves, version_page};

use crate::support::CHECKPOINT;

/// The last is an attack on pages and terminals.
pub(crate) const CLASSES: [&str; 3] =
    ["person", "traffic light", "<script>document.title='owned'</script>|[x](javascript:a)`*_"];

/// What is published, and the permission to.
pub(crate) struct Evaluated {
    pub(crate) passed: Passed,
    pub(crate) publication: Publication,
}

/// Evaluates a detector that finds all but the last `missed` of 24 boxes, in a project in `root`. It is
/// compared with itself.
pub(crate) fn evaluated(root: &Path, model: &str, missed: usize) -> Evaluated {
    let config = config(root, model);
    let dataset = dataset();
    let found: Vec<Vec<Detection>> = detections(&dataset, missed);
    let images: Vec<Found> = std::iter::zip(&dataset.images, &found)
        .map(|(image, found)| (image, found.as_slice()))
        .collect();
    let stored = Stored::pack(images.iter().map(|(image, found)| (image.id, *found))).unwrap();
    let practical = PracticalParams { score_thr: config.score_thr, iou_thr: config.iou_thr };
    let candidate = candidate(&dataset, practical, &stored);
    let trial =
        Trial::new(&config.gate, practical, &dataset, dataset.images.iter().collect()).unwrap();
    let first = trial.assess(candidate.clone(), &images, None).unwrap();
    let before = Snapshot { metrics: first.evaluation.table(), ..candidate.clone() };
    let baseline = Baseline::of("baseline.snap".to_owned(), &before, Some(&images));
    let assessment = trial.assess(candidate, &images, Some(&baseline)).unwrap();
    let passed = assessment.judgement.passed().expect("a run passes against itself").clone();
    let publication = published(&passed, &assessment, &config, &images, practical, &stored);
    Evaluated { passed, publication }
}

fn config(root: &Path, model: &str) -> Config {
    let write = |name: &str, text: &str| {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let names = serde_json::json!(CLASSES);
    let project =
        serde_json::json!({ "val_dir": ".", "target_classes": names, "project_name": "street" });
    write("data/processed/project_config.json", &project.to_string());
    let map = serde_json::json!({
        "target_category_ids": [1, 10, 77],
        "coco_to_internal": { "1": 1, "10": 2, "77": 3 },
        "internal_to_name": { "1": CLASSES[0], "2": CLASSES[1], "3": CLASSES[2] },
    });
    write("data/processed/labelmap.json", &map.to_string());
    write("data/processed/street_val.json", "{}");
    write("best_model.pt", std::str::from_utf8(CHECKPOINT).unwrap());
    write("reports/evaluation.json", "{\"schema\": 3}");
    let settings = format!(
        "[data]\nground_truth = \"data/processed/street_val.json\"\n[gate.metrics]\nAP = {{ max_drop = 0.01 }}\n\
         \"AP50/*\" = {{ max_drop = 0.02 }}\n[registry]\nmodel_name = {model:?}\n\
         tracking_uri = \"https://ann:hunter2@ml.example\"\n"
    );
    write("detgate.toml", &settings);
    let project = ProjectFlags { project: Some(root.to_owned()), baseline: None };
    Config::resolve(&EvalFlags { project, ..EvalFlags::default() }, root).unwrap()
}

fn dataset() -> Dataset {
    let categories = std::iter::zip([1, 10, 77], CLASSES);
    let image = |id: i64| ImageRecord {
        id,
        file_name: format!("{id}.jpg"),
        path: format!("{id}.jpg").into(),
        width: 640,
        height: 480,
        ground_truth: (0..3)
            .map(|k| GroundTruth {
                id: id * 10 + k,
                category_id: [1, 10, 77][k as usize],
                bbox: Bbox::from([100.0 * k as f64, 10.0 * id as f64, 60.0, 60.0]),
                area: 3600.0,
                is_crowd: false,
                ignore: false,
            })
            .collect(),
    };
    Dataset {
        categories: categories.map(|(id, name)| Category { id, name: name.to_owned() }).collect(),
        images: (1..=8).map(image).collect(),
        federation: None,
        digest: "d".repeat(64),
    }
}

/// Every box a little off, with falling scores and a false positive on each image.
fn detections(dataset: &Dataset, missed: usize) -> Vec<Vec<Detection>> {
    let mut left = 24 - missed;
    let mut score = 0.99;
    let mut next = || {
        score -= 0.011;
        score
    };
    let mut of_image = |image: &ImageRecord| {
        let mut found: Vec<Detection> = Vec::new();
        for truth in &image.ground_truth {
            let [x, y, w, h] = [truth.bbox.x, truth.bbox.y, truth.bbox.w, truth.bbox.h];
            let shift = truth.id as f64 % 7.0;
            let bbox = Bbox::from([x + shift, y, w, h]);
            if left > 0 {
                found.push(Detection { bbox, score: next(), category_id: truth.category_id });
            }
            left = left.saturating_sub(1);
        }
        found.push(Detection {
            bbox: Bbox::from([400.0, 300.0, 50.0, 50.0]),
            score: next(),
            category_id: 1,
        });
        found
    };
    dataset.images.iter().map(&mut of_image).collect()
}

fn candidate(dataset: &Dataset, practical: PracticalParams, stored: &Stored) -> Snapshot {
    let mut fingerprint = Fingerprint::default();
    fingerprint.record_evaluation(dataset, dataset.images.len(), practical);
    fingerprint.record("image_bytes_blake3", "e".repeat(64));
    fingerprint.record("skipped_images", 0);
    Snapshot {
        schema: SCHEMA,
        fingerprint,
        provenance: Provenance {
            checkpoint: "best_model.pt".to_owned(),
            checkpoint_blake3: blake3::hash(CHECKPOINT).to_hex().to_string(),
            engine: "detgate 0.1.0, a test".to_owned(),
        },
        recorded: Recorded { git_commit: Some("c0ffee".repeat(6)), ..Recorded::default() },
        detections_blake3: Some(stored.digest().to_owned()),
        metrics: MetricTable::new(),
    }
}

fn published(
    passed: &Passed,
    assessment: &Assessment,
    config: &Config,
    images: &[Found],
    practical: PracticalParams,
    stored: &Stored,
) -> Publication {
    let report = Report::of(assessment.clone(), DataSummary::of(images, Vec::new()), practical);
    let summary = version_page::summary(&report, "baseline.snap");
    let files = Files {
        checkpoint: &config.root.join("best_model.pt"),
        form: &ModelForm {
            format: "torchvision.RetinaNet".to_owned(),
            input_size: Some((800, 1333)),
            norm_eps: Some(1e-5),
        },
        reports: &[PathBuf::from(&config.report)],
        detections: stored,
        plots: &curves::drawings(&assessment.evaluation.coco, &CocoParams::default()),
    };
    let pages = Pages { description: summary.clone(), note: summary };
    let registry = config.registry.as_ref().unwrap();
    let name = "eval_20261122_120000".to_owned();
    publication(passed, &assessment.evaluation, config, registry, files, pages, name).unwrap()
}
