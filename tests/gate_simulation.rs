//! The gate's intervals cover and its tests hold their level: `examples/gate_simulation` in small.
//!
//! The full simulation is in `docs/statistics.md`. This one is large enough to notice an interval that
//! is a fifth too narrow, as one from a subsample without replacement is, or a side that is swapped.

#[path = "../examples/gate_simulation/study.rs"]
#[allow(dead_code, reason = "the tables need more")]
mod study;
#[path = "../examples/gate_simulation/world.rs"]
#[allow(dead_code, reason = "the tables need more")]
mod world;

use study::{Method, Reading, Study, Unit};
use world::{Damage, INDEPENDENT};

const PAIRS: usize = 8;

const SMALL: Study = Study {
    world: INDEPENDENT,
    images: 200,
    damage: Damage { missed: 0.0, extra: 0.0 },
    unit: Unit::Image,
    replicates: 200,
    seed: 1,
    only_ap50: true,
};

/// The change of AP50, by percentiles.
fn changes(study: Study, pairs: usize) -> Vec<Reading> {
    let readings = study.run(pairs).into_iter();
    readings
        .filter_map(|reading| {
            let [_, [percentile, _], ..] = reading;
            percentile
        })
        .collect()
}

fn share(readings: &[Reading], holds: impl Fn(&Reading) -> bool) -> f64 {
    readings.iter().filter(|reading| holds(reading)).count() as f64 / readings.len() as f64
}

/// Limits three binomial standard deviations wide.
#[test]
fn equally_good_detectors_are_called_so_as_often_as_promised() {
    let start = std::time::Instant::now();
    let readings = changes(SMALL, PAIRS);
    eprintln!("{:?}", start.elapsed());
    assert_eq!(readings.len(), PAIRS);
    let covered = share(&readings, |r| r.interval.low <= 0.0 && 0.0 <= r.interval.high);
    let alarms = share(&readings, |r| r.regressed[0] < 0.05);
    let passes = share(&readings, |r| r.passed[0] < 0.05);
    eprintln!("{covered} {alarms} {passes}");
    let deviation = |expected: f64| 3.0 * (expected * (1.0 - expected) / PAIRS as f64).sqrt();
    assert!((covered - 0.95).abs() < deviation(0.95), "{covered}");
    assert!((alarms - 0.05).abs() < deviation(0.05), "{alarms}");
    assert!((passes - 0.05).abs() < deviation(0.05), "{passes}");
}
