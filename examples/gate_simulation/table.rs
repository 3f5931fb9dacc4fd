//! The tables, as Markdown.

use std::fmt::Write;

use detgate::gate::statistics::normal;

use crate::Arguments;
use crate::study::{
    MARGINS, METHODS, Method, Reading, Readings, STATISTICS, Study, Unit, VALUES, Values,
    rare_images, truth,
};
use crate::world::{Damage, INDEPENDENT, World};

/// The level of every test.
const ALPHA: f64 = 0.05;

/// Videos of ten images, on which a detector can have a good or a bad day.
const VIDEOS: World = World { group_size: 10, group_noise: 0.5 };

/// What is worth a row for a change: centring is for values.
const OF_CHANGES: [(Method, &str); 3] = [METHODS[0], METHODS[1], METHODS[3]];

/// What became of many pairs' readings of one statistic.
struct Tally {
    /// Pairs with a distribution.
    readings: usize,
    covered: f64,
    /// The whole interval lies below the truth.
    below: f64,
    /// The whole interval lies above the truth.
    above: f64,
    /// By margin.
    regressed: [f64; MARGINS.len()],
    /// By margin.
    passed: [f64; MARGINS.len()],
    standard_error: f64,
    /// Mean of the statistic itself.
    point: f64,
}

impl Tally {
    fn new(pairs: &[Readings], statistic: usize, method: Method, truth: f64) -> Self {
        let readings: Vec<&Reading> =
            pairs.iter().filter_map(|pair| pair[statistic][method as usize].as_ref()).collect();
        let mean = |value: &dyn Fn(&Reading) -> f64| {
            readings.iter().map(|reading| value(reading)).sum::<f64>() / readings.len() as f64
        };
        let share = |holds: &dyn Fn(&Reading) -> bool| mean(&|r| f64::from(u8::from(holds(r))));
        let (below, above) =
            (share(&|r| r.interval.high < truth), share(&|r| r.interval.low > truth));
        Self {
            readings: readings.len(),
            covered: 1.0 - below - above,
            below,
            above,
            regressed: std::array::from_fn(|m| share(&|r| r.regressed[m] < ALPHA)),
            passed: std::array::from_fn(|m| share(&|r| r.passed[m] < ALPHA)),
            standard_error: mean(&|r| r.standard_error),
            point: mean(&|r| r.point),
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}", 100.0 * share)
}

/// One standard deviation of a share near `expected` of so many pairs.
fn monte_carlo(expected: f64, pairs: usize) -> String {
    percent((expected * (1.0 - expected) / pairs as f64).sqrt())
}

impl Arguments {
    fn study(&self, images: usize) -> Study {
        Study {
            world: INDEPENDENT,
            images,
            damage: Damage::default(),
            unit: Unit::Image,
            replicates: self.replicates,
            seed: self.seed,
        }
    }

    /// Where nothing changed: 0 for the changes, and the metrics' own values.
    fn null_truth(&self) -> Values {
        let truth = truth(INDEPENDENT, self.truth_images, Damage::default(), self.seed);
        let mut values = [0.0; STATISTICS.len()];
        values[VALUES..].copy_from_slice(&truth[VALUES..]);
        values
    }
}

/// Coverage, false claims, and what margins do, between equally good detectors.
pub(crate) fn null(arguments: &Arguments) -> String {
    let truth = arguments.null_truth();
    let mut text = format!(
        "### Nothing changed\n\n{} pairs, {} replicates. Nominal: 95.0 covered, 2.5 and 2.5 missed, 5.0 \
         false alarms and 5.0 false passes. One standard deviation of the simulation: {} and {}. On {} \
         images the detectors have AP {:.4} and AP50 {:.4}.\n\n\
         | images | statistic | interval | covered % | truth above % | truth below % | \
         false alarms % | false passes % |\n|--:|---|---|--:|--:|--:|--:|--:|\n",
        arguments.pairs,
        arguments.replicates,
        monte_carlo(0.95, arguments.pairs),
        monte_carlo(0.05, arguments.pairs),
        arguments.truth_images,
        truth[4],
        truth[5],
    );
    let mut margins = String::from(
        "\n### Equally good detectors and a margin\n\nOf the same pairs: what a rule with this \
         `max_drop` says, expanded percentiles.\n\n\
         | images | metric | max_drop | passed % | inconclusive % | regressed % |\n\
         |--:|---|--:|--:|--:|--:|\n",
    );
    for &images in &arguments.images {
        let pairs = arguments.study(images).run(arguments.pairs);
        for (s, statistic) in STATISTICS.iter().enumerate() {
            coverage_rows(&mut text, (images, statistic), &pairs, s, truth[s]);
        }
        for (s, metric) in [(0, "AP"), (1, "AP50"), (3, "AP50, class of 3 %")] {
            let tally = Tally::new(&pairs, s, Method::Expanded, 0.0);
            for (m, margin) in MARGINS.iter().enumerate() {
                let undecided = 1.0 - tally.passed[m] - tally.regressed[m];
                let _ = writeln!(
                    margins,
                    "| {images} | {metric} | {margin} | {} | {} | {} |",
                    percent(tally.passed[m]),
                    percent(undecided),
                    percent(tally.regressed[m]),
                );
            }
        }
    }
    text + &margins
}

/// By method; a change is not centred, and a value not tested against 0, but held against two truths.
fn coverage_rows(
    text: &mut String,
    (images, name): (usize, &str),
    pairs: &[Readings],
    statistic: usize,
    truth: f64,
) {
    for (method, method_name) in METHODS {
        let tally = Tally::new(pairs, statistic, method, truth);
        let limits = [tally.covered, tally.below, tally.above].map(percent).join(" | ");
        if statistic < VALUES {
            if method != Method::Centred {
                let claims = [tally.regressed[0], tally.passed[0]].map(percent).join(" | ");
                let _ =
                    writeln!(text, "| {images} | {name} | {method_name} | {limits} | {claims} |");
            }
            continue;
        }
        let _ = writeln!(text, "| {images} | {name} | {method_name} | {limits} | - | - |");
        let expected = Tally::new(pairs, statistic, method, tally.point);
        let limits = [expected.covered, expected.below, expected.above].map(percent).join(" | ");
        let _ = writeln!(
            text,
            "| {images} | {name}, as expected of {images} images ({:.4}) | {method_name} | {limits} | - | - |",
            tally.point,
        );
    }
}

/// How often drops of known size are found, against what the planning formula foretells.
pub(crate) fn power(arguments: &Arguments) -> String {
    let pairs = arguments.pairs.div_ceil(5);
    let mut text = format!(
        "### Known drops\n\n{pairs} pairs, {} replicates, expanded percentiles, `max_drop = 0`. The true drop is \
         measured on {} images. Foretold: from the mean standard error, as `units_needed` does. One \
         standard deviation of the simulation: at most {}.\n\n\
         | candidate | metric | true drop | images | standard error | regressed % | foretold % | \
         covered % |\n|---|---|--:|--:|--:|--:|--:|--:|\n",
        arguments.replicates,
        arguments.truth_images,
        monte_carlo(0.5, pairs),
    );
    let damages = [
        ("misses 2 % more", Damage { missed: 0.02, extra: 0.0 }),
        ("misses 5 % more", Damage { missed: 0.05, extra: 0.0 }),
        ("misses 10 % more", Damage { missed: 0.1, extra: 0.0 }),
        ("a tenth more false positives", Damage { missed: 0.0, extra: 0.5 }),
    ];
    for (name, damage) in damages {
        let truth = truth(INDEPENDENT, arguments.truth_images, damage, arguments.seed);
        for images in [200, 500, 1000] {
            let readings = Study { damage, ..arguments.study(images) }.run(pairs);
            for (s, metric) in [(0, "AP"), (1, "AP50")] {
                let tally = Tally::new(&readings, s, Method::Expanded, truth[s]);
                let z = -truth[s] / tally.standard_error + normal::quantile(ALPHA);
                let _ = writeln!(
                    text,
                    "| {name} | {metric} | {:.4} | {images} | {:.4} | {} | {} | {} |",
                    -truth[s],
                    tally.standard_error,
                    percent(tally.regressed[0]),
                    percent(normal::cdf(z)),
                    percent(tally.covered),
                );
            }
        }
    }
    text
}

/// A class that is on few images, where nothing changed.
pub(crate) fn rare(arguments: &Arguments) -> String {
    let mut text = format!(
        "### A class on few images\n\n{} pairs, {} replicates, nothing changed: the change of AP50 of \
         the class of 3 %.\n\n\
         | images | of them with the class, on average | interval | no distribution % | covered % | \
         false alarms % |\n|--:|--:|---|--:|--:|--:|\n",
        arguments.pairs, arguments.replicates,
    );
    for images in [25, 50, 100, 200, 400] {
        let study = arguments.study(images);
        let pairs = study.run(arguments.pairs);
        let holding = rare_images(&study, arguments.truth_images);
        for (method, name) in OF_CHANGES {
            let tally = Tally::new(&pairs, 3, method, 0.0);
            let _ = writeln!(
                text,
                "| {images} | {holding:.1} | {name} | {} | {} | {} |",
                percent(1.0 - tally.readings as f64 / pairs.len() as f64),
                percent(tally.covered),
                percent(tally.regressed[0]),
            );
        }
    }
    text
}

/// Images that come in groups, drawn one by one and drawn as groups.
pub(crate) fn groups(arguments: &Arguments) -> String {
    let count = arguments.pairs.div_ceil(2);
    let mut text = format!(
        "### Images in groups of {}\n\n{} pairs, {} replicates, nothing changed; a detector's luck is \
         partly the same on all images of a group.\n\n\
         | groups | images | resampled | statistic | interval | covered % | false alarms % |\n\
         |--:|--:|---|---|---|--:|--:|\n",
        VIDEOS.group_size, count, arguments.replicates,
    );
    for images in [200, 1000] {
        for (unit, resampled) in [(Unit::Image, "images"), (Unit::Group, "groups")] {
            let study = Study { world: VIDEOS, unit, ..arguments.study(images) };
            let pairs = study.run(count);
            for s in [0, 1] {
                for (method, name) in OF_CHANGES {
                    let tally = Tally::new(&pairs, s, method, 0.0);
                    let _ = writeln!(
                        text,
                        "| {} | {images} | {resampled} | {} | {name} | {} | {} |",
                        images / VIDEOS.group_size,
                        STATISTICS[s],
                        percent(tally.covered),
                        percent(tally.regressed[0]),
                    );
                }
            }
        }
    }
    text
}
