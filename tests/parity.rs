//! Faster R-CNN against torchvision 0.28 eager, stage by stage and end to end, on seeded weights.
//!
//! Every stage is fed torchvision's own input for it, so that an error is found where it is made and
//! is not covered by the next stage's. The references and their generator are in `fixtures/parity`.
#![cfg(feature = "torch")]

#[path = "parity/closeness.rs"]
mod closeness;
#[path = "parity/fixture.rs"]
#[allow(dead_code, reason = "tests/parity_two_stage.rs uses the rest")]
mod fixture;
#[path = "parity/end_to_end.rs"]
mod end_to_end;
#[path = "parity/loading.rs"]
mod loading;
#[path = "parity/random.rs"]
mod random;

use closeness::assert_close;
use detgate::model::anchors::AnchorShapes;
use detgate::model::boxes::rows;
use detgate::model::nms::batched_nms;
use detgate::model::roi_align::{multi_scale_roi_align, roi_levels};
use detgate::model::roi_heads::{Scored, SelectionSettings, select};
use detgate::model::rpn::{Candidate, RpnOutput, RpnSettings, candidates, filter_proposals};
use detgate::model::transform::Transform;
use fixture::Fixture;
use tch::Tensor;

const STAGED: [&str; 2] = ["resnet18", "resnet50"];

/// In torchvision's order of axes.
fn values(tensor: &Tensor) -> Vec<f32> {
    Vec::try_from(tensor.contiguous().flatten(0, -1)).unwrap()
}

/// `(height, width)` of the staged image after resizing, before padding.
fn resized(fixture: &Fixture) -> (usize, usize) {
    let size = fixture.i64("size");
    (size[0] as usize, size[1] as usize)
}

fn padded(fixture: &Fixture) -> (usize, usize) {
    let shape = fixture.shape("transform");
    (shape[2] as usize, shape[3] as usize)
}

/// The references of the stages' inputs, levels 0 to `N - 1`.
fn levels<const N: usize>(fixture: &Fixture, stage: &str) -> [Tensor; N] {
    std::array::from_fn(|i| fixture.tensor(&format!("{stage}/{i}")))
}

#[test]
fn transform_backbone_and_pyramid() {
    for name in STAGED {
        let fixture = Fixture::load(name);
        let model = fixture.model().build();
        let input = model.transform.forward(&fixture.model().stage_image()).unwrap();
        assert_eq!(input.size, resized(&fixture));
        assert_eq!(input.batch.size(), fixture.shape("transform"));
        assert_close(
            &format!("{name} transform"),
            &values(&input.batch),
            &fixture.f32("transform"),
        );

        let features = model.backbone.forward(&fixture.tensor("transform")).unwrap();
        for (i, level) in features.iter().enumerate() {
            let stage = format!("backbone/{i}");
            assert_eq!(level.size(), fixture.shape(&stage));
            assert_close(&format!("{name} {stage}"), &values(level), &fixture.f32(&stage));
        }
        let pyramid = model.fpn.forward(&levels::<4>(&fixture, "backbone")).unwrap();
        for (i, level) in pyramid.iter().enumerate() {
            let stage = format!("fpn/{i}");
            assert_eq!(level.size(), fixture.shape(&stage));
            assert_close(&format!("{name} {stage}"), &values(level), &fixture.f32(&stage));
        }
    }
}

#[test]
fn rpn_objectness_and_deltas() {
    for name in STAGED {
        let fixture = Fixture::load(name);
        let model = fixture.model().build();
        let (mut objectness, mut deltas) = (Vec::new(), Vec::new());
        for level in levels::<5>(&fixture, "fpn") {
            let output = model.rpn.forward(&level).unwrap();
            objectness.extend(values(&output.objectness));
            deltas.extend(values(&output.deltas));
        }
        assert_close(&format!("{name} objectness"), &objectness, &fixture.f32("rpn/objectness"));
        assert_close(&format!("{name} rpn deltas"), &deltas, &fixture.f32("rpn/deltas"));
    }
}

/// torchvision's RPN outputs, level by level, with the logits changed by `change`.
fn rpn_outputs(fixture: &Fixture, change: impl Fn(f32) -> f32) -> Vec<RpnOutput> {
    let logits: Vec<f32> = fixture.f32("rpn/objectness").into_iter().map(change).collect();
    let deltas = fixture.f32("rpn/deltas");
    let mut start = 0;
    let mut next = |i: usize| {
        let shape = fixture.shape(&format!("fpn/{i}"));
        let grid = (shape[2] as usize, shape[3] as usize);
        let end = start + 3 * grid.0 * grid.1;
        let output = RpnOutput {
            objectness: Tensor::from_slice(&logits[start..end]),
            deltas: Tensor::from_slice(&deltas[4 * start..4 * end]).reshape([-1, 4]),
            grid,
        };
        start = end;
        output
    };
    (0..5).map(&mut next).collect()
}

#[test]
fn every_anchor_decodes_to_torchvisions_proposal() {
    for name in STAGED {
        let fixture = Fixture::load(name);
        let outputs = rpn_outputs(&fixture, |logit| logit);
        let expected = fixture.boxes("rpn/decoded");
        let all = candidates(
            &outputs,
            &AnchorShapes::one_size_per_level(),
            padded(&fixture),
            usize::MAX >> 1,
        )
        .unwrap();
        assert_eq!(all.len(), expected.len());
        // `candidates` sorts by logit: undo it by the same top-k.
        let mut decoded = vec![[f32::NAN; 4]; expected.len()];
        let (mut next, mut offset) = (all.iter(), 0);
        for output in &outputs {
            let (_, indices) = output.top(usize::MAX >> 1).unwrap();
            let count = indices.len();
            for (index, candidate) in indices.into_iter().zip(next.by_ref()) {
                decoded[offset + index as usize] = candidate.corners;
            }
            offset += count;
        }
        assert_close(&format!("{name} decoded"), decoded.as_flattened(), expected.as_flattened());
    }
}

/// Half-integer logits: `torch.round` rounds half to even.
fn coarse(logit: f32) -> f32 {
    (logit * 2.0).round_ties_even() / 2.0
}

#[test]
fn top_k_picks_torchvisions_anchors_ties_included() {
    for name in STAGED {
        let fixture = Fixture::load(name);
        let top_n = fixture.model().settings().rpn_pre_nms_top_n;
        for (reference, outputs) in [
            ("rpn/top", rpn_outputs(&fixture, |logit| logit)),
            ("rpn_ties/top", rpn_outputs(&fixture, coarse)),
        ] {
            let (mut offset, mut found) = (0, Vec::new());
            for output in &outputs {
                found.extend(output.top(top_n).unwrap().1.iter().map(|index| index + offset));
                offset += output.objectness.size()[0];
            }
            assert_eq!(found, fixture.i64(reference), "{name} {reference}");
        }
    }
}

/// torchvision's own decoded boxes and logits, as they come out of its top-k.
fn reference_candidates(
    fixture: &Fixture,
    case: &str,
    change: impl Fn(f32) -> f32,
) -> Vec<Candidate> {
    let (decoded, logits) = (fixture.boxes("rpn/decoded"), fixture.f32("rpn/objectness"));
    let mut ends = Vec::new();
    for i in 0..5 {
        let shape = fixture.shape(&format!("fpn/{i}"));
        ends.push(ends.last().copied().unwrap_or(0) + 3 * shape[2] * shape[3]);
    }
    let top = fixture.i64(&format!("{case}/top"));
    top.into_iter()
        .map(|index| Candidate {
            corners: decoded[index as usize],
            logit: change(logits[index as usize]),
            level: ends.iter().filter(|&&end| end <= index).count() as i64,
        })
        .collect()
}

#[test]
fn proposals_are_torchvisions() {
    for name in STAGED {
        let fixture = Fixture::load(name);
        let settings = fixture.model().settings();
        let settings = RpnSettings {
            pre_nms_top_n: settings.rpn_pre_nms_top_n,
            post_nms_top_n: settings.rpn_post_nms_top_n,
            nms_thr: settings.rpn_nms_thr,
            score_thr: settings.rpn_score_thr,
        };
        let found = reference_candidates(&fixture, "rpn", |logit| logit);
        let proposals = filter_proposals(&found, resized(&fixture), &settings).unwrap();
        assert_eq!(proposals, fixture.boxes("rpn/proposals"), "{name}");

        let found = reference_candidates(&fixture, "rpn_ties", coarse);
        let proposals = filter_proposals(&found, resized(&fixture), &settings).unwrap();
        let scores = fixture.f32("rpn_ties/scores");
        assert_same_up_to_ties(&proposals, &fixture.boxes("rpn_ties/proposals"), &scores);
    }
}

/// Equal, except that items of equal score may be in another order: with many boxes torchvision
/// orders them by libtorch's unstable sort, which differs between processors. (With few boxes the
/// order is fixed, and is compared by `nms_is_torchvisions_ties_included`.)
fn assert_same_up_to_ties<T: PartialEq + PartialOrd + Copy + std::fmt::Debug>(
    ours: &[T],
    theirs: &[T],
    scores: &[f32],
) {
    assert_eq!(ours.len(), theirs.len());
    let sorted = |items: &[T]| {
        let mut items = items.to_vec();
        items.sort_by(|a, b| a.partial_cmp(b).unwrap());
        items
    };
    let mut start = 0;
    for tied in scores.chunk_by(|a, b| a == b) {
        let range = start..start + tied.len();
        assert_eq!(
            sorted(&ours[range.clone()]),
            sorted(&theirs[range.clone()]),
            "score {}",
            tied[0]
        );
        start = range.end;
    }
}

/// The scores of a case of `nms`, what torchvision keeps, and what we keep.
fn nms_case(fixture: &Fixture, case: &str) -> (Vec<f32>, Vec<usize>, Vec<usize>) {
    let part = |name: &str| format!("{case}/{name}");
    let (boxes, scores) = (fixture.boxes(&part("boxes")), fixture.f32(&part("scores")));
    let kept = batched_nms(&boxes, &scores, &fixture.i64(&part("groups")), 0.5).unwrap();
    let expected = fixture.i64(&part("kept")).into_iter().map(|i| i as usize).collect();
    (scores, expected, kept)
}

#[test]
fn nms_is_torchvisions_ties_included() {
    let fixture = Fixture::load("nms");
    for count in [40, 400, 1000, 1001, 3000] {
        let (scores, expected, kept) = nms_case(&fixture, &count.to_string());
        let kept_scores: Vec<f32> = expected.iter().map(|&i| scores[i]).collect();
        assert_same_up_to_ties(&kept, &expected, &kept_scores);
        if count <= 1000 {
            assert_eq!(kept, expected, "{count} boxes");
        }
    }
}

/// Pairs whose IoU is one half but for rounding: they tell apart the two ways of `batched_nms`, and
/// every other order of its operations.
#[test]
fn nms_rounds_as_torchvision_does() {
    let fixture = Fixture::load("nms");
    for case in ["halves998", "halves1002"] {
        let (scores, expected, kept) = nms_case(&fixture, case);
        let pairs = scores.len() / 2;
        let both = expected.len() - pairs;
        assert!(
            (pairs / 10..pairs - pairs / 10).contains(&both),
            "{both} of {pairs}: no borderline case"
        );
        assert_eq!(kept, expected, "{case}");
    }
}

#[test]
fn roi_align_and_box_head() {
    for name in STAGED {
        let fixture = Fixture::load(name);
        let model = fixture.model().build();
        let rois = fixture.boxes("roi/rois");
        let found: Vec<i64> = roi_levels(&rois, model.backbone.strides())
            .unwrap()
            .into_iter()
            .map(|level| level as i64)
            .collect();
        assert_eq!(found, fixture.i64("roi/levels"));
        assert!((0..4).all(|level| found.contains(&level)), "RoIs of every level");

        let pooled =
            multi_scale_roi_align(&levels::<4>(&fixture, "fpn"), model.backbone.strides(), &rois)
                .unwrap();
        // torchvision's is [n, c, 7, 7].
        let shape = fixture.shape("roi/pooled");
        assert_close(
            &format!("{name} RoIAlign"),
            &values(&pooled.transpose(1, 2)),
            &fixture.f32("roi/pooled"),
        );
        let pooled = fixture.tensor("roi/pooled").reshape([shape[0], shape[1], 49]).transpose(1, 2);
        let hidden = model.head.features(&pooled.contiguous()).unwrap();
        assert_close(&format!("{name} box head"), &values(&hidden), &fixture.f32("roi/hidden"));
        let (logits, deltas) = model.head.predict(&fixture.tensor("roi/hidden")).unwrap();
        assert_close(&format!("{name} logits"), &values(&logits), &fixture.f32("roi/logits"));
        assert_close(&format!("{name} box deltas"), &values(&deltas), &fixture.f32("roi/deltas"));
    }
}

/// What `select` makes of torchvision's own predictions, with the logits changed by `change`.
fn selected(fixture: &Fixture, change: impl Fn(f32) -> f32) -> Vec<Scored> {
    let settings = fixture.model().settings();
    let settings = SelectionSettings {
        score_thr: settings.score_thr,
        nms_iou: settings.nms_iou,
        detections_per_image: settings.detections_per_image,
    };
    let logits: Vec<f32> = fixture.f32("select/logits").into_iter().map(change).collect();
    let logits = Tensor::from_slice(&logits).reshape(fixture.shape("select/logits"));
    let deltas = fixture.tensor("select/deltas");
    let proposals = fixture.boxes("rpn/proposals");
    select((&logits, &deltas), &proposals, resized(fixture), &settings).unwrap()
}

fn assert_same_detections(name: &str, found: &[Scored], expected: &[Scored]) {
    let labels = |list: &[Scored]| list.iter().map(|d| d.label).collect::<Vec<_>>();
    assert_eq!(labels(found), labels(expected), "{name}");
    let corners = |list: &[Scored]| list.iter().flat_map(|d| d.corners).collect::<Vec<_>>();
    assert_close(&format!("{name} boxes"), &corners(found), &corners(expected));
    let scores = |list: &[Scored]| list.iter().map(|d| d.score).collect::<Vec<_>>();
    assert_close(&format!("{name} scores"), &scores(found), &scores(expected));
}

#[test]
fn final_selection() {
    for name in STAGED {
        let fixture = Fixture::load(name);
        assert_same_detections(
            name,
            &selected(&fixture, |logit| logit),
            &fixture.detections("select"),
        );
    }
}

/// Of the case with few enough candidates that torchvision's order of equal scores is fixed.
#[test]
fn final_selection_of_scores_that_tie() {
    let fixture = Fixture::load("resnet50");
    let expected = fixture.detections("select_ties");
    let tied = expected.windows(2).filter(|pair| pair[0].score == pair[1].score).count();
    assert!(tied > 10, "{tied} ties");
    assert_same_detections("ties", &selected(&fixture, coarse), &expected);
}

#[test]
fn transform_at_torchvisions_default_size() {
    let fixture = Fixture::load("transform");
    let transform = Transform::new(800, 1333).unwrap();
    for (i, &(seed, width, height)) in fixture.index.images.iter().enumerate() {
        let input = transform.forward(&random::picture(seed, width, height)).unwrap();
        assert_eq!(input.batch.size(), fixture.i64(&format!("{i}/shape")));
        let size = fixture.i64(&format!("{i}/size"));
        assert_eq!(input.size, (size[0] as usize, size[1] as usize));
        let (all, expected) = (values(&input.batch), fixture.f32(&format!("{i}/samples")));
        let start = random::stream(20_261_122, &format!("samples{i}"));
        let at =
            |n| ((f64::from(random::uniform(start, n)) + 1.0) / 2.0 * all.len() as f64) as usize;
        let samples: Vec<f32> = (0..expected.len()).map(|n| all[at(n)]).collect();
        assert_close(&format!("transform of {width}x{height}"), &samples, &expected);
    }
}

#[test]
fn resized_sizes_are_eager_torchvisions() {
    let fixture = Fixture::load("transform");
    let table = fixture.i64("table");
    let rows = table.as_chunks::<6>().0;
    assert_eq!(rows.len(), 600);
    for &row in rows {
        let [height, width, low, high, new_height, new_width] = row.map(|n| n as usize);
        let transform = Transform::new(low, high).unwrap();
        let size = transform.resized((height, width));
        assert_eq!(size, (new_height, new_width), "{height}x{width} to {low}/{high}");
    }
}

#[test]
fn anchors_are_laid_out_in_rows() {
    let anchors = AnchorShapes::one_size_per_level().level(0, (4, 6), (16, 24));
    let flat: Vec<f32> = (0..3 * 24).flat_map(|i| anchors.get(i)).collect();
    assert_eq!(rows(&flat)[3 * 6 + 1], [-16.0, -12.0, 16.0, 20.0]);
}
