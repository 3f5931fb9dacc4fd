//! RetinaNet, FCOS and SSD against torchvision 0.28 eager, stage by stage and end to end, on seeded weights.
//!
//! Every stage is fed inputs that both sides make from the seed, and compared by samples of its output. The
//! references and their generator are in `fixtures/parity`.
#![cfg(feature = "torch")]

#[path = "parity/closeness.rs"]
mod closeness;
#[path = "parity/fixture.rs"]
#[allow(dead_code, reason = "tests/parity.rs uses the rest")]
mod fixture;
#[path = "parity/one_stage.rs"]
mod one_stage;
#[path = "parity/random.rs"]
mod random;
#[path = "parity/sampled.rs"]
mod sampled;

use closeness::{Closeness, assert_close};
use detgate::checkpoint::{StateDict, Tensor as Parameter};
use detgate::detections::Detector;
use detgate::model::one_stage::Network;
use detgate::model::one_stage::select::LevelOutput;
use detgate::model::roi_heads::Scored;
use detgate::model::{Architecture, OneStage};
use fixture::identity;
use one_stage::Case;
use tch::Tensor;

const ALL: [&str; 5] = ["retinanet", "retinanet_v2", "fcos", "ssd300", "ssdlite320"];

fn assert_sampled(case: &Case, stage: &str, found: &Tensor) {
    sampled::assert_sampled(&case.fixture, (case.name, case.seed), stage, found);
}

fn input(case: &Case, name: &str, shape: &[i64]) -> Tensor {
    sampled::input(case.seed, name, shape)
}

/// The seeded maps that the head is given.
fn maps(case: &Case) -> Vec<Tensor> {
    let levels = if case.architecture.fixed_size().is_some() { 6 } else { 5 };
    let shape = |i: usize| case.fixture.i64(&format!("maps/{i}/shape"));
    (0..levels).map(|i| input(case, &format!("map/{i}"), &shape(i))).collect()
}

#[test]
fn the_architecture_and_its_classes_are_read_from_the_state_dict() {
    for name in ALL {
        let case = Case::load(name);
        let weights = case.state_dict();
        assert_eq!(Architecture::recognise(&weights).unwrap(), case.architecture, "{name}");
        assert_eq!(case.architecture.num_classes(&weights), case.classes, "{name}");
        assert_eq!(case.build().num_classes(), case.classes, "{name}");
    }
}

#[test]
fn transform_and_feature_maps() {
    for name in ALL {
        let case = Case::load(name);
        let model = case.build();
        let transformed = model.transform.forward(&case.picture(4)).unwrap();
        assert_sampled(&case, "transform", &transformed.batch);
        let (height, width) = case.stage_size;
        let batch = input(&case, "batch", &[1, 3, height as i64, width as i64]);
        for (i, map) in model.network.maps(&batch).unwrap().iter().enumerate() {
            assert_sampled(&case, &format!("maps/{i}"), map);
        }
    }
}

/// A part of a head's output.
type Part = fn(&LevelOutput) -> &Tensor;

/// All levels, one after the other, as torchvision's head returns them.
fn joined(outputs: &[LevelOutput], part: Part) -> Tensor {
    let levels: Vec<&Tensor> = outputs.iter().map(part).collect();
    Tensor::cat(&levels, 0).unsqueeze(0)
}

#[test]
fn heads() {
    for name in ALL {
        let case = Case::load(name);
        let outputs = case.build().network.outputs(&maps(&case)).unwrap();
        assert_sampled(&case, "cls_logits", &joined(&outputs, |output| &output.logits));
        assert_sampled(&case, "bbox_regression", &joined(&outputs, |output| &output.deltas));
        if case.architecture == Architecture::Fcos {
            let centerness: Part = |output| output.centerness.as_ref().expect("FCOS predicts it");
            assert_sampled(&case, "bbox_ctrness", &joined(&outputs, centerness));
        }
    }
}

/// What the selection makes of seeded predictions, with all logits changed by `change`.
fn selected(case: &Case, change: impl Fn(&Tensor) -> Tensor) -> Vec<Scored> {
    let model = case.build();
    let whole = |part: &str, scale: f64| {
        let shape = case.fixture.i64(&format!("{part}/shape"));
        input(case, &format!("select/{part}"), &shape).squeeze_dim(0) * scale
    };
    let logits = change(&whole("cls_logits", 3.0));
    let fcos = case.architecture == Architecture::Fcos;
    let deltas = whole("bbox_regression", 1.0);
    let deltas = if fcos { deltas.relu() } else { deltas };
    let centerness = fcos.then(|| change(&whole("bbox_ctrness", 1.0)));
    let mut start = 0;
    let mut outputs = Vec::new();
    for output in model.network.outputs(&maps(case)).unwrap() {
        let count = output.deltas.size()[0];
        let part = |all: &Tensor| all.narrow(0, start, count).contiguous();
        outputs.push(LevelOutput {
            logits: part(&logits),
            deltas: part(&deltas),
            centerness: centerness.as_ref().map(part),
            grid: output.grid,
        });
        start += count;
    }
    let padded @ (height, width) = case.stage_size;
    let size = match &model.network {
        Network::Pyramid { .. } => (height - 7, width - 11),
        Network::Ssd { .. } => padded,
    };
    model.network.select(&outputs, padded, size, &case.settings()).unwrap()
}

fn assert_same_detections(what: &str, found: &[Scored], expected: &[Scored]) {
    let labels = |list: &[Scored]| list.iter().map(|d| d.label).collect::<Vec<_>>();
    assert_eq!(labels(found), labels(expected), "{what}");
    let corners = |list: &[Scored]| list.iter().flat_map(|d| d.corners).collect::<Vec<_>>();
    assert_close(&format!("{what} boxes"), &corners(found), &corners(expected));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found.score - expected.score).abs() <= 1e-6, "{what}: {found:?} {expected:?}");
    }
}

#[test]
fn selection() {
    for name in ALL {
        let case = Case::load(name);
        let found = selected(&case, Tensor::shallow_clone);
        assert_eq!(found.len(), case.detections, "{name}");
        assert_same_detections(name, &found, &case.fixture.detections("select"));
    }
}

/// With more than 1000 candidates the order of equal scores is libtorch's secret and may differ between
/// processors: what is compared is what scores how high.
#[test]
fn selection_of_scores_that_tie() {
    for name in ALL {
        let case = Case::load(name);
        let steps = if case.architecture.fixed_size().is_some() { 1.0 } else { 4.0 };
        let found = selected(&case, |logits| (logits * steps).round() / steps);
        let expected = case.fixture.detections("select_ties");
        let tied = expected.windows(2).filter(|pair| pair[0].score == pair[1].score).count();
        assert!(tied > 10, "{name}: {tied} ties");
        assert_eq!(found.len(), expected.len(), "{name}");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found.score - expected.score).abs() <= 1e-6, "{name}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn end_to_end_at_least_as_close_to_float64_as_torchvision_itself() {
    let mut all = Closeness::default();
    for name in ALL {
        let mut closeness = Closeness::default();
        let case = Case::load(name);
        let model = case.build();
        for i in 0..case.images() {
            let ours = model.predict(&case.picture(i)).unwrap();
            let theirs = case.fixture.detections(&format!("end/{i}/channels_last"));
            closeness.add(&format!("{name} {i}"), (&ours, &theirs), &case.float64(i), 40);
        }
        all.join(name, closeness);
    }
    all.assert("all");
}

#[test]
fn results_do_not_depend_on_threads_or_repetition() {
    for name in ["retinanet_v2", "ssdlite320"] {
        let case = Case::load(name);
        let model = case.build();
        let run = || (0..4).map(|i| model.predict(&case.picture(i)).unwrap()).collect::<Vec<_>>();
        let alone = run();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
            for worker in workers {
                assert_eq!(worker.join().unwrap(), alone, "{name}");
            }
        });
    }
}

/// torchvision before 0.13, and so its published COCO weights, named the towers' convolutions otherwise.
#[test]
fn old_names_of_retinanet_load() {
    let case = Case::load("retinanet");
    let old = |name: &str| match name.split_once("_head.conv.") {
        Some((head, tail)) => {
            let (index, kind) = tail.split_once(".0.").unwrap();
            format!("{head}_head.conv.{}.{kind}", 2 * index.parse::<usize>().unwrap())
        }
        None => name.to_owned(),
    };
    let weights: StateDict =
        case.state_dict().into_iter().map(|(name, tensor)| (old(&name), tensor)).collect();
    assert!(weights.contains_key("head.classification_head.conv.6.bias"));
    assert_eq!(Architecture::recognise(&weights).unwrap(), Architecture::RetinaNet);
    let model = case.with(&weights, identity(case.classes)).unwrap();
    let image = case.picture(0);
    assert_eq!(model.predict(&image).unwrap(), case.build().predict(&image).unwrap());
}

#[test]
fn labels_become_categories_and_unmapped_ones_are_dropped() {
    let case = Case::load("fcos");
    let image = case.picture(0);
    let all = case.build().predict(&image).unwrap();
    let model = case.with(&case.state_dict(), [(1, 17), (4, 3)].into()).unwrap();
    let found = model.detect(&image).unwrap();
    let expected: Vec<&Scored> = all.iter().filter(|d| d.label == 1 || d.label == 4).collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    let categories = |d: &&Scored| if d.label == 1 { 17 } else { 3 };
    assert!(found.iter().map(|d| d.category_id).eq(expected.iter().map(categories)));
}

fn refusal(name: &'static str, change: impl Fn(&mut StateDict)) -> String {
    let case = Case::load(name);
    let mut weights = case.state_dict();
    change(&mut weights);
    case.with(&weights, identity(case.classes)).unwrap_err().to_string()
}

#[test]
fn missing_surplus_and_misshapen_parameters_are_named() {
    for (name, parameter) in [
        ("retinanet", "backbone.fpn.extra_blocks.p6.weight"),
        ("retinanet_v2", "head.regression_head.conv.2.1.weight"),
        ("retinanet_v2", "head.classification_head.conv.3.0.weight"),
        ("fcos", "head.regression_head.bbox_ctrness.bias"),
        ("fcos", "head.classification_head.cls_logits.weight"),
        ("ssd300", "backbone.scale_weight"),
        ("ssd300", "head.regression_head.module_list.5.bias"),
        ("ssdlite320", "backbone.extra.2.1.0.weight"),
    ] {
        let text = refusal(name, |weights| drop(weights.remove(parameter).unwrap()));
        assert!(text.contains("misses") && text.contains(parameter), "{name}: {text}");
    }
    let bias = || Parameter::from_f32(&[3], vec![0.0; 3]);
    // The block that SSD512 has and SSD300 does not.
    let name = "backbone.extra.5.0.bias";
    let text = refusal("ssd300", |weights| drop(weights.insert(name.to_owned(), bias())));
    assert!(text.contains("surplus") && text.contains(name), "{text}");
    let name = "head.classification_head.conv.0.0.bias";
    let text = refusal("retinanet", |weights| drop(weights.insert(name.to_owned(), bias())));
    assert_eq!(text, format!("parameter {name} has the shape [3], expected [64]"));
}

#[test]
fn a_wrong_class_count_and_a_setting_out_of_range_are_said() {
    let case = Case::load("ssdlite320");
    let weights = case.state_dict();
    let error = |change: fn(&mut detgate::model::OneStageSettings)| {
        let mut settings = case.settings();
        change(&mut settings);
        let labels = identity(case.classes);
        OneStage::new(case.architecture, &weights, &settings, labels).unwrap_err().to_string()
    };
    let text = error(|settings| settings.num_classes = Some(4));
    assert!(text.contains("are for 6 classes, the class map names 4"), "{text}");
    assert_eq!(
        error(|settings| settings.topk_candidates = 0),
        "topk_candidates is 0, expected at least 1"
    );
    assert_eq!(
        error(|settings| settings.score_thr = f64::NAN),
        "score_thr is NaN, expected 0 to 1"
    );
}

#[test]
fn diverging_weights_are_an_error_and_not_an_empty_image() {
    for (name, parameters) in [
        (
            "retinanet",
            ["backbone.fpn.layer_blocks.0.0.weight", "head.classification_head.cls_logits.weight"],
        ),
        ("ssd300", ["backbone.extra.0.1.weight", "backbone.extra.0.3.weight"]),
    ] {
        let case = Case::load(name);
        let mut weights = case.state_dict();
        for parameter in parameters {
            let tensor = weights.get_mut(parameter).unwrap();
            let huge = tensor.to_f32().iter().map(|v| v * 1e30).collect();
            *tensor = Parameter::from_f32(tensor.shape(), huge);
        }
        let model = case.with(&weights, identity(case.classes)).unwrap();
        let text = model.detect(&case.picture(0)).unwrap_err().to_string();
        assert!(text.contains("not finite"), "{name}: {text}");
    }
}
