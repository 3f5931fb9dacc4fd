//! The gate's intervals cover and its tests hold their level: `examples/gate_simulation` in small.
//!
//! The full simulation is in `docs/statistics.md`. This one is large enough to notice intervals that are
//! a fifth too narrow, a claim on the wrong side, or a resample that is not paired.

#[path = "../examples/gate_simulation/engine.rs"]
mod engine;
#[path = "../examples/gate_simulation/study.rs"]
#[allow(dead_code, reason = "the tables need more")]
mod study;
#[path = "../examples/gate_simulation/world.rs"]
#[allow(dead_code, reason = "the tables need more")]
mod world;

use detgate::matching::coco::ImageMatches;
use detgate::metrics::coco;
use engine::{Metrics, Side};
use study::{Method, Reading, Study, Unit};
use world::{Damage, INDEPENDENT, Random};

const STUDY: Study = Study {
    world: INDEPENDENT,
    images: 200,
    damage: Damage { missed: 0.0, extra: 0.0 },
    unit: Unit::Image,
    replicates: 200,
    seed: 1,
    only_ap50: true,
};

/// What the gate would say of the change of AP50, with its default method.
fn changes_of_ap50(study: Study, pairs: usize) -> Vec<Reading> {
    let readings: Vec<Reading> = study
        .run(pairs)
        .into_iter()
        .filter_map(|statistics| {
            let [_, ap50, ..] = statistics;
            ap50.into_iter().nth(Method::Expanded as usize).flatten()
        })
        .collect();
    assert_eq!(readings.len(), pairs);
    readings
}

fn share(readings: &[Reading], holds: impl Fn(&Reading) -> bool) -> f64 {
    readings.iter().filter(|reading| holds(reading)).count() as f64 / readings.len() as f64
}

/// Three binomial standard deviations.
fn close(share: f64, nominal: f64, pairs: usize) -> bool {
    (share - nominal).abs() < 3.0 * (nominal * (1.0 - nominal) / pairs as f64).sqrt()
}

#[test]
fn equally_good_detectors_are_called_so_as_often_as_promised() {
    const PAIRS: usize = 200;
    let readings = changes_of_ap50(STUDY, PAIRS);
    let covered = share(&readings, |r| r.interval.low <= 0.0 && 0.0 <= r.interval.high);
    let alarms = share(&readings, |r| r.regressed[0] < 0.05);
    let passes = share(&readings, |r| r.passed[0] < 0.05);
    assert!(close(covered, 0.95, PAIRS), "{covered}");
    assert!(close(alarms, 0.05, PAIRS), "{alarms}");
    assert!(close(passes, 0.05, PAIRS), "{passes}");
}

/// A gate that never claims anything would pass the test above.
#[test]
fn a_detector_that_misses_a_tenth_more_is_found_out() {
    let damage = Damage { missed: 0.1, extra: 0.0 };
    let readings = changes_of_ap50(Study { damage, ..STUDY }, 20);
    assert!(share(&readings, |r| r.regressed[0] < 0.05) >= 0.9);
    assert!(share(&readings, |r| r.passed[1] < 0.05) == 0.0);
}

/// The simulation's short cut is no other metric: images that are really there several times.
#[test]
fn the_simulation_evaluates_resamples_as_the_library_does() {
    let sample = world::draw(INDEPENDENT, 60, Damage::default(), Random::new(3, 0));
    let plan = engine::plan(false);
    let images = engine::matches(&plan, &sample.images, &sample.sides[0]);
    let side = Side::new(&images, 10);
    let mut random = Random::new(4, 0);
    for _ in 0..20 {
        let mut weights = vec![0; images.len()];
        (0..images.len()).for_each(|_| weights[random.below(images.len())] += 1);
        let copies = images.iter().zip(&weights).flat_map(|(image, &n)| (0..n).map(move |_| image));
        let copies =
            copies.zip(1..).map(|(image, image_id)| ImageMatches { image_id, ..image.clone() });
        let evaluated = coco::accumulate(&plan, copies.collect()).unwrap();
        let class = |place: usize| evaluated.per_class[place].summary.ap50;
        let expected: Metrics = [evaluated.summary.ap, evaluated.summary.ap50, class(3), class(4)]
            .map(|value| value.unwrap_or(f64::NAN));
        for (value, expected) in side.metrics(&weights).iter().zip(expected) {
            assert!((value - expected).abs() < 1e-12 || (value.is_nan() && expected.is_nan()));
        }
    }
}

/// The same seed, the same table, however many threads.
#[test]
fn the_simulation_is_deterministic() {
    let study = Study { images: 20, ..STUDY };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let readings = pool.install(|| changes_of_ap50(study, 6));
        readings.iter().map(|r| (r.point, r.interval, r.regressed)).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}
