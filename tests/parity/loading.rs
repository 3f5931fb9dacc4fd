//! What is read from a state dict, what is refused, and what a caller of the loaded model relies on.

use detgate::checkpoint::{StateDict, Tensor};
use detgate::dataset::image::RgbImage;
use detgate::detections::Detector;
use detgate::model::backbone::Backbone;
use detgate::model::roi_heads::Scored;
use detgate::model::{FasterRcnn, ModelError};

use crate::fixture::{ALL, Fixture, identity};
use crate::random;

#[test]
fn the_architecture_is_read_from_the_state_dict() {
    for (name, convs) in ALL.iter().zip([16, 32, 48, 99, 150]) {
        let fixture = Fixture::load(name);
        let model = fixture.model().build();
        let Backbone::ResNet(resnet) = &model.backbone else { panic!("{name}") };
        let depth = resnet.depth();
        assert_eq!(Some(depth.layers), fixture.model().depth, "{name}");
        let per_block = if depth.bottleneck { 3 } else { 2 };
        assert_eq!(depth.blocks.iter().sum::<usize>() * per_block, convs, "{name}");
        assert_eq!(model.num_classes(), fixture.model().classes, "{name}");
        assert_eq!(model.fpn.width(), fixture.model().fpn, "{name}");
    }
}

fn rebuilt(change: impl Fn(&mut StateDict)) -> Result<FasterRcnn, ModelError> {
    let fixture = Fixture::load("resnet18");
    let mut weights = fixture.model().state_dict();
    change(&mut weights);
    FasterRcnn::new(&weights, &fixture.model().settings(), identity(fixture.model().classes))
}

fn refusal(change: impl Fn(&mut StateDict)) -> String {
    rebuilt(change).unwrap_err().to_string()
}

#[test]
fn missing_and_surplus_parameters_are_named() {
    let text = refusal(|weights| {
        weights.remove("backbone.body.layer3.1.bn2.running_var");
        let bias = weights.remove("rpn.head.cls_logits.bias").unwrap();
        weights.insert("roi_heads.box_refiner.bias".to_owned(), bias);
    });
    for part in [
        "misses",
        "layer3.1.bn2.running_var",
        "rpn.head.cls_logits.bias",
        "surplus",
        "box_refiner.bias",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = refusal(|weights| weights.clear());
    assert!(text.contains("[0, 0, 0, 0]"), "{text}");
    let text =
        refusal(|weights| weights.retain(|name, _| !name.starts_with("backbone.body.layer3.1.")));
    assert!(text.contains("[2, 2, 1, 2] basic blocks"), "{text}");
    let text = refusal(|weights| weights.retain(|name, _| !name.starts_with("rpn.head.conv.")));
    assert!(text.contains("rpn.head.conv.0.0.weight"), "{text}");
}

#[test]
fn misshapen_and_broken_parameters_are_named() {
    let narrow = |weights: &mut StateDict| {
        let bias = Tensor::from_f32(&[3], vec![0.0; 3]);
        weights.insert("roi_heads.box_head.fc7.bias".to_owned(), bias);
    };
    let text = refusal(narrow);
    assert_eq!(text, "parameter roi_heads.box_head.fc7.bias has the shape [3], expected [48]");
    let text = refusal(|weights| {
        let bias = Tensor::from_f32(&[3], vec![0.0, f32::INFINITY, 0.0]);
        weights.insert("rpn.head.cls_logits.bias".to_owned(), bias);
    });
    assert!(
        text.starts_with("parameter rpn.head.cls_logits.bias holds numbers that are not finite"),
        "{text}"
    );
}

#[test]
fn a_wrong_class_count_is_said() {
    let fixture = Fixture::load("resnet18");
    let weights = fixture.model().state_dict();
    let mut settings = fixture.model().settings();
    settings.num_classes = Some(4);
    let text = FasterRcnn::new(&weights, &settings, identity(4)).unwrap_err().to_string();
    assert_eq!(
        text,
        "the weights are for 5 classes, the class map names 4 (background included); correct the class map \
         (labelmap.json, where the checkpoint holds none), or pass --all-categories"
    );
    settings.num_classes = None;
    let text = FasterRcnn::new(&weights, &settings, identity(9)).unwrap_err().to_string();
    assert!(text.contains("maps the label 5, but the weights are for the labels 1 to 4"), "{text}");
    settings.min_size = 0;
    let text = FasterRcnn::new(&weights, &settings, identity(5)).unwrap_err().to_string();
    assert_eq!(text, "min_size is 0, expected at least 1");
}

/// torchvision before 0.13, and so its published COCO weights, named these parameters otherwise.
#[test]
fn old_parameter_names_load() {
    let old = |name: &str| {
        let name = name.replace("rpn.head.conv.0.0.", "rpn.head.conv.");
        match name.split_once("_blocks.") {
            Some((head, tail)) => format!("{head}_blocks.{}", tail.replacen(".0.", ".", 1)),
            None => name,
        }
    };
    let fixture = Fixture::load("resnet18");
    let renamed = |weights: &mut StateDict| {
        *weights = std::mem::take(weights)
            .into_iter()
            .map(|(name, tensor)| (old(&name), tensor))
            .collect();
        assert!(weights.contains_key("backbone.fpn.inner_blocks.2.weight"));
        assert!(weights.contains_key("rpn.head.conv.bias"));
    };
    let image = fixture.model().stage_image();
    let expected = fixture.model().build().predict(&image).unwrap();
    assert_eq!(rebuilt(renamed).unwrap().predict(&image).unwrap(), expected);
}

#[test]
fn labels_become_categories_and_unmapped_ones_are_dropped() {
    let fixture = Fixture::load("resnet18");
    let (weights, settings) = (fixture.model().state_dict(), fixture.model().settings());
    let image = fixture.model().stage_image();
    let all = fixture.model().build().predict(&image).unwrap();
    let model = FasterRcnn::new(&weights, &settings, [(2, 17), (4, 3)].into()).unwrap();
    let found = model.detect(&image).unwrap();
    let expected: Vec<&Scored> = all.iter().filter(|d| d.label == 2 || d.label == 4).collect();
    assert!(!expected.is_empty() && expected.len() < all.len());
    assert_eq!(found.len(), expected.len());
    for (detection, scored) in found.iter().zip(expected) {
        assert_eq!(detection.category_id, if scored.label == 2 { 17 } else { 3 });
        assert_eq!(detection.score, f64::from(scored.score));
        let [x1, y1, x2, y2] = scored.corners.map(f64::from);
        assert_eq!(<[f64; 4]>::from(detection.bbox), [x1, y1, x2 - x1, y2 - y1]);
    }
}

#[test]
fn results_do_not_depend_on_threads_or_repetition() {
    let fixture = Fixture::load("resnet18");
    let model = fixture.model().build();
    let images: Vec<_> = fixture
        .index
        .images
        .iter()
        .map(|&(seed, width, height)| random::picture(seed, width, height))
        .collect();
    let run = || images.iter().map(|image| model.predict(image).unwrap()).collect::<Vec<_>>();
    let alone = run();
    assert_eq!(run(), alone);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        for worker in workers {
            assert_eq!(worker.join().unwrap(), alone);
        }
    });
}

#[test]
fn diverging_weights_are_an_error_and_not_an_empty_image() {
    let huge = |weights: &mut StateDict| {
        for name in ["backbone.body.conv1.weight", "backbone.body.layer4.1.conv2.weight"] {
            let tensor = weights.get_mut(name).unwrap();
            let values = tensor.to_f32().iter().map(|v| v * 1e25).collect();
            *tensor = Tensor::from_f32(tensor.shape(), values);
        }
    };
    let model = rebuilt(huge).unwrap();
    let image = Fixture::load("resnet18").model().stage_image();
    let text = model.detect(&image).unwrap_err().to_string();
    assert!(text.contains("not finite"), "{text}");
}

#[test]
fn an_image_that_cannot_be_an_input_is_an_error() {
    let model = Fixture::load("resnet18").model().build();
    for (width, height, bytes) in [(0, 0, 0), (4000, 2, 24_000), (9, 9, 12)] {
        let image = RgbImage { width, height, data: vec![0; bytes] };
        assert!(model.detect(&image).is_err(), "{width}x{height}");
    }
}
