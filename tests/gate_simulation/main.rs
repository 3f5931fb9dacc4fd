//! The gate's intervals cover and its tests hold their level: `examples/gate_simulation` in small.
//!
//! The full simulation is in `docs/statistics.md`. This one is large enough to notice intervals that are
//! a fifth too narrow, a claim on the wrong side, or a resample that is not paired.

mod ap50;
#[path = "../../examples/gate_simulation/study.rs"]
#[allow(dead_code, reason = "the tables need more")]
mod study;
#[path = "../../examples/gate_simulation/world.rs"]
#[allow(dead_code, reason = "the tables need more")]
mod world;

use detgate::metrics::bootstrap::Weights;
use study::{Engine, Method, Reading, Replicates, Study, Unit};
use world::{Damage, INDEPENDENT, Random, Sample};

const STUDY: Study = Study {
    world: INDEPENDENT,
    images: 200,
    damage: Damage { missed: 0.0, extra: 0.0 },
    unit: Unit::Image,
    replicates: 200,
    seed: 1,
};

/// Where `study::STATISTICS` has the change of AP50, the only one that is computed here.
const AP50: usize = 1;

fn only_ap50(sample: &Sample, size: usize) -> impl Fn(&Weights) -> Replicates + use<> {
    let sides = ap50::sides(sample, size);
    move |weights| {
        let [baseline, candidate] = sides.each_ref().map(|side| side.ap50(weights));
        let change: Vec<f64> =
            candidate.iter().zip(&baseline).map(|(after, before)| after - before).collect();
        std::array::from_fn(
            |s| if s == AP50 { change.clone() } else { vec![f64::NAN; change.len()] },
        )
    }
}

/// What the gate would say of the change of AP50, with its default method.
fn changes_of_ap50(study: Study, pairs: usize) -> Vec<Reading> {
    let readings = study.run_with(pairs, only_ap50).into_iter();
    let readings = readings.filter_map(|mut all| all[AP50][Method::Expanded as usize].take());
    let readings: Vec<Reading> = readings.collect();
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

/// What these tests say of their short cut holds for the library's bootstrap too.
#[test]
fn the_short_cut_is_the_librarys_ap50() {
    for (size, units) in [(1, 60), (4, 15)] {
        let sample = world::draw(INDEPENDENT, 60, Damage::default(), Random::new(3, 0));
        let weights = Weights::bootstrap(units, 30, 4);
        let short_cut = &only_ap50(&sample, size)(&weights)[AP50];
        let library = &Engine::new(&sample, size).statistics(&weights)[AP50];
        assert_eq!(short_cut.len(), 30);
        assert!(short_cut.iter().zip(library).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!(library.iter().any(|change| *change != 0.0));
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
