//! What the judge relies on when it turns replicates into intervals and claims.

use detgate::gate::statistics::{
    Distribution, LEAST_REPLICATES, benjamini_hochberg, holm, normal, smallest_detectable,
    units_needed,
};
use proptest::prelude::*;

fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * a.abs().max(b.abs()).max(f64::MIN_POSITIVE)
}

/// Replicates as an exactly normal statistic would have them.
fn normal_scores(count: usize) -> Vec<f64> {
    (1..=count).map(|i| normal::quantile(i as f64 / (count + 1) as f64)).collect()
}

/// Right-skewed and irregular, in no order.
fn skewed(count: usize) -> Vec<f64> {
    (0..count).map(|i| (((i * 7919) % count) as f64 / count as f64 * 3.0).exp()).collect()
}

/// Values computed with mpmath 1.3 at 40 digits.
#[test]
#[allow(clippy::excessive_precision, reason = "as the oracle prints them")]
fn the_normal_distribution_is_the_published_one() {
    let shares = [
        (-37.0, 5.7255712225245768e-300),
        (-30.0, 4.9067139271481871e-198),
        (-12.5, 3.7325642988777134e-36),
        (-8.0, 6.2209605742717841e-16),
        (-5.0, 2.8665157187919391e-7),
        (-3.2905, 0.00050004750903878162),
        (-1.0, 0.15865525393145705),
        (-0.25, 0.40129367431707628),
        (0.5, 0.6914624612740131),
        (2.5, 0.99379033467422386),
        (6.0, 0.99999999901341235),
    ];
    for (z, p) in shares {
        assert!(close(normal::cdf(z), p, 1e-12), "{z}: {} instead of {p}", normal::cdf(z));
    }
    let scores = [
        (1e-290, -36.420731673207999),
        (1e-100, -21.273453560965324),
        (1e-30, -11.464024688443616),
        (1e-12, -7.0344838253011319),
        (1e-6, -4.753424308822899),
        (0.0005, -3.2905267314918948),
        (0.025, -1.9599639845400542),
        (0.074, -1.4466320671589785),
        (0.0751, -1.43882539275254),
        (0.3, -0.52440051270804082),
        (0.5, 0.0),
        (0.6, 0.25334710313579974),
        (0.95, 1.6448536269514723),
        (0.99999, 4.2648907939238408),
    ];
    for (p, z) in scores {
        assert!(close(normal::quantile(p), z, 1e-14), "{p}: {} for {z}", normal::quantile(p));
    }
    assert_eq!(normal::quantile(0.0), -normal::LARGEST_Z);
    assert_eq!(normal::quantile(1.0), normal::LARGEST_Z);
    for nonsense in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert!(normal::quantile(nonsense).is_nan());
    }
}

/// The 15 law schools of Efron and Tibshirani 1993, table 3.1: correlation of LSAT and GPA without
/// each school; the numbers expected are computed with scipy 1.17 and numpy's method `weibull`.
#[test]
fn bca_is_efrons() {
    let (lsat, gpa) = (
        [576., 635., 558., 578., 666., 580., 555., 661., 651., 605., 653., 575., 545., 572., 594.],
        [3.39, 3.3, 2.81, 3.03, 3.44, 3.07, 3.0, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96],
    );
    let jackknife: Vec<f64> = (0..15)
        .map(|left_out| {
            let kept = |values: &[f64]| -> Vec<f64> {
                (0..15).filter(|&i| i != left_out).map(|i| values[i]).collect()
            };
            correlation(&kept(&lsat), &kept(&gpa))
        })
        .collect();
    let bca = Distribution::bca(0.1, normal_scores(999), &jackknife).unwrap();
    assert!(close(bca.acceleration(), -0.0756715649378792, 1e-9), "{}", bca.acceleration());
    assert!(close(bca.bias(), 0.0991741487003374, 1e-9), "{}", bca.bias());
    let quantiles = [
        (0.025, -2.0666814589042244),
        (0.05, -1.651258678028696),
        (0.5, 0.1976097144954561),
        (0.95, 1.6398899996680112),
        (0.975, 1.8807167279664314),
    ];
    for (level, expected) in quantiles {
        assert!(close(bca.quantile(level), expected, 1e-9), "{level}: {}", bca.quantile(level));
    }
}

fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let moment = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
        a.iter().zip(b).map(|(x, y)| f(x - mean_a, y - mean_b)).sum()
    };
    moment(&|x, y| x * y) / (moment(&|x, _| x * x) * moment(&|_, y| y * y)).sqrt()
}

/// By hand: of 1000 replicates 1..=1000 the i-th stands at level i / 1001.
#[test]
fn replicates_stand_at_their_rank_over_one_more_than_their_number() {
    let replicates: Vec<f64> = (1..=1000).map(f64::from).rev().collect();
    let distribution = Distribution::percentile(500.0, replicates).unwrap();
    for rank in [10, 25, 500, 991] {
        let level = f64::from(rank) / 1001.0;
        assert!(close(distribution.quantile(level), rank.into(), 1e-9));
        assert!(close(distribution.p_at_most(rank.into()), level, 1e-9));
        assert!(close(distribution.p_at_least(rank.into()), 1.0 - level, 1e-9));
    }
    assert!(close(distribution.quantile(25.5 / 1001.0), 25.5, 1e-9));
    assert!(close(distribution.standard_error(), (1000.0 * 1001.0 / 12.0_f64).sqrt(), 1e-12));
}

/// With many rules a corrected p-value of 1e-5 must be reachable from 1,000 replicates.
#[test]
fn beyond_the_tenth_replicate_the_tail_is_normal() {
    let normal_tail = Distribution::percentile(0.0, normal_scores(1000)).unwrap();
    for z in [-6.0, -4.0, -2.8, 2.8, 4.0, 6.0] {
        let level = normal::cdf(z);
        assert!(close(normal_tail.quantile(level), z, 1e-6), "{}", normal_tail.quantile(level));
        assert!(close(normal_tail.p_at_most(z), level, 1e-4));
        assert!(close(normal_tail.p_at_least(z), normal::cdf(-z), 1e-4));
    }
    // No kink in the level where the tail takes over.
    for (anchor, side) in [(10.0 / 1001.0, 1e-9), (991.0 / 1001.0, 1e-9)] {
        let (before, after) =
            (normal_tail.quantile(anchor - side), normal_tail.quantile(anchor + side));
        assert!(before <= after && after - before < 1e-6);
    }
}

/// A tail that is heavier than the middle must not be drawn as a light one: a claim beyond the
/// replicates would come too easily.
#[test]
fn a_heavy_tail_stays_heavy() {
    let mut replicates = normal_scores(1000);
    for value in replicates.iter_mut().filter(|value| **value < -2.4) {
        *value *= 10.0;
    }
    let heavy = Distribution::percentile(0.0, replicates).unwrap();
    assert!(heavy.p_at_most(-20.0) > 1e-3, "{}", heavy.p_at_most(-20.0));
    assert!(heavy.p_at_least(20.0) < 1e-9);
}

/// Nearly all replicates 0, a few below: what was seen five times in a thousand is not impossible,
/// and neither is what was not seen.
#[test]
fn a_distribution_that_is_nearly_one_value_claims_nothing_extreme() {
    let mut replicates = vec![0.0; 995];
    replicates.extend([-0.3; 5]);
    let distribution = Distribution::percentile(0.0, replicates).unwrap();
    let seen = distribution.p_at_most(-0.3);
    assert!((1e-3..0.02).contains(&seen), "{seen}");
    assert!(distribution.p_at_least(0.0) > 0.98);
    assert!(distribution.p_at_least(0.01) > 1e-4);
}

/// Two identical sides change by exactly 0 on every resample.
#[test]
fn a_statistic_that_does_not_vary_is_known_exactly_and_claims_nothing_at_its_own_value() {
    for distribution in [
        Distribution::percentile(0.0, vec![0.0; 300]).unwrap(),
        Distribution::bca(0.0, vec![0.0; 300], &[0.0; 40]).unwrap(),
    ] {
        let interval = distribution.interval(0.95);
        assert_eq!((interval.low, interval.high), (0.0, 0.0));
        assert_eq!(distribution.standard_error(), 0.0);
        // H0 "at most 0" and H0 "at least 0" are both true.
        assert_eq!(distribution.p_at_most(0.0), 1.0);
        assert_eq!(distribution.p_at_least(0.0), 1.0);
        // A margin of 0.01: certainly above -0.01, certainly below 0.01.
        for p in [distribution.p_at_most(-0.01), distribution.p_at_least(0.01)] {
            assert!(p > 0.0 && p < 1e-200, "{p}");
        }
        assert_eq!(distribution.p_at_most(0.01), 1.0);
        assert_eq!(distribution.p_at_least(-0.01), 1.0);
    }
}

/// A jackknife in which a single image carries everything has the largest acceleration there is.
#[test]
fn whatever_the_replicates_everything_is_finite_and_no_p_value_is_0() {
    let mut one_carries_all = vec![0.0; 200];
    one_carries_all[7] = 1.0;
    let replicates = [normal_scores(200), skewed(1000), vec![0.25; 200]];
    let jackknives = [vec![], vec![f64::NAN; 3], vec![0.1; 50], one_carries_all];
    for values in &replicates {
        for jackknife in &jackknives {
            for point in [-1e9, 0.0, 0.25, 1e9] {
                let bca = Distribution::bca(point, values.clone(), jackknife).unwrap().expanded(2);
                for level in [0.0, 1e-300, 1e-20, 0.025, 0.5, 0.975, 1.0] {
                    assert!(bca.quantile(level).is_finite());
                }
                for x in [-1e300, -1.0, 0.0, 0.25, 1.0, 1e300] {
                    for p in [bca.p_at_most(x), bca.p_at_least(x)] {
                        assert!(p > 0.0 && p <= 1.0, "{p} at {x}, point {point}");
                    }
                }
            }
        }
    }
}

/// A configuration's level may be anything; a metric may be undefined.
#[test]
fn nonsense_is_answered_with_nothing() {
    let distribution = Distribution::percentile(0.0, normal_scores(300)).unwrap().expanded(5);
    for level in [-0.1, 1.1, f64::NAN] {
        assert!(distribution.quantile(level).is_nan());
    }
    assert!(distribution.interval(f64::NAN).low.is_nan());
    assert_eq!(distribution.p_at_most(f64::NAN), 1.0);
    assert_eq!(distribution.p_at_least(f64::NAN), 1.0);
    assert!(distribution.p_at_most(f64::NEG_INFINITY) > 0.0);
    assert_eq!(distribution.p_at_most(f64::INFINITY), 1.0);
}

#[test]
fn of_too_few_replicates_nothing_is_said() {
    let enough = LEAST_REPLICATES;
    assert!(Distribution::percentile(0.0, normal_scores(enough)).is_some());
    assert!(Distribution::percentile(0.0, normal_scores(enough - 1)).is_none());
    assert!(Distribution::percentile(f64::NAN, normal_scores(enough)).is_none());
    // A class that is missing from one resample in nine is on two images or on one.
    let with_undefined = |undefined: usize| {
        let mut replicates = normal_scores(900);
        replicates.extend(vec![f64::NAN; undefined]);
        Distribution::percentile(0.0, replicates)
    };
    let at_the_limit = with_undefined(100).unwrap();
    assert_eq!(at_the_limit, Distribution::percentile(0.0, normal_scores(900)).unwrap());
    assert_eq!(at_the_limit.replicates(), 900);
    assert!(with_undefined(101).is_none());
}

/// statsmodels 0.15, `multipletests`, methods `holm` and `fdr_bh`.
#[test]
fn corrected_p_values_are_those_of_statsmodels() {
    let p = [0.001, 0.02, 0.04, 0.0004, 0.5, 0.02, 0.9, 0.012, 1.0, 0.003];
    let expected_holm = [0.009, 0.12, 0.16, 0.004, 1.0, 0.12, 1.0, 0.084, 1.0, 0.024];
    let third = 1.0 / 30.0;
    let expected_bh = [0.005, third, 0.04 * 10.0 / 7.0, 0.004, 0.625, third, 1.0, 0.03, 1.0, 0.01];
    for (adjusted, expected) in [(holm(&p), expected_holm), (benjamini_hochberg(&p), expected_bh)] {
        for (a, b) in adjusted.iter().zip(expected) {
            assert!(close(*a, b, 1e-12), "{adjusted:?}");
        }
    }
    assert!(holm(&[]).is_empty() && benjamini_hochberg(&[]).is_empty());
    // A test that could not be made counts, and claims nothing.
    assert_eq!(holm(&[f64::NAN, 0.01]), [1.0, 0.02]);
    assert_eq!(benjamini_hochberg(&[f64::NAN, 0.01]), [1.0, 0.02]);
}

/// 1.6449 + 0.8416 standard errors: the textbook sum for 5 % and a power of 80 %.
#[test]
fn planning_is_the_textbooks() {
    assert!(close(smallest_detectable(0.01, 0.05, 0.8), 0.024864748605, 1e-9));
    // Half of the detectable distance needs four times the images.
    let detectable = smallest_detectable(0.01, 0.05, 0.8);
    assert_eq!(units_needed(500, 0.01, detectable / 2.0 * 1.000001, 0.05, 0.8), Some(2000));
    assert_eq!(units_needed(500, 0.01, -detectable * 10.0, 0.05, 0.8), Some(5));
    assert_eq!(units_needed(500, 0.01, 0.0, 0.05, 0.8), None);
    assert_eq!(units_needed(500, 0.0, 0.0, 0.05, 0.8), None);
    assert_eq!(units_needed(500, 0.01, f64::NAN, 0.05, 0.8), None);
    assert_eq!(units_needed(500, 0.0, 0.1, 0.05, 0.8), Some(1));
}

/// Student's 97.5 % quantile of 10 degrees of freedom is 2.228139, the normal's 1.959964.
#[test]
fn few_units_widen_an_interval_as_students_distribution_and_their_own_mean_ask_for() {
    let normal = Distribution::percentile(0.0, normal_scores(20_000)).unwrap();
    let plain = normal.interval(0.95);
    let expanded = normal.clone().expanded(11).interval(0.95);
    let factor = 2.228139 / 1.959964 * (11.0_f64 / 10.0).sqrt();
    assert!(close(expanded.high, plain.high * factor, 0.005), "{expanded:?}");
    assert!(close(expanded.low, plain.low * factor, 0.005), "{expanded:?}");
    // The middle stays, and many units change nothing.
    assert_eq!(normal.clone().expanded(11).quantile(0.5), normal.quantile(0.5));
    let many = normal.clone().expanded(1_000_000).interval(0.95);
    assert!(close(many.low, plain.low, 1e-5) && close(many.high, plain.high, 1e-5));
    // Of one unit or none nothing can be said; of two hardly anything.
    assert_eq!(normal.clone().expanded(0), normal.clone().expanded(2));
    assert!(normal.expanded(2).interval(0.95).high > 10.0);
}

/// AP on resamples is too high as a rule: a floor must not be passed for that.
#[test]
fn a_centred_distribution_has_its_mean_at_the_point() {
    let replicates: Vec<f64> = normal_scores(999).iter().map(|v| 0.52 + 0.01 * v).collect();
    let plain = Distribution::percentile(0.5, replicates).unwrap();
    let centred = plain.clone().centred();
    assert!(close(centred.quantile(0.5), 0.5, 1e-9) && close(plain.quantile(0.5), 0.52, 1e-9));
    for level in [1e-4, 0.05, 0.7, 0.9999] {
        assert!(close(centred.quantile(level) + 0.02, plain.quantile(level), 1e-9));
    }
    assert!(plain.p_at_most(0.5) < 0.05 && close(centred.p_at_most(0.5), 0.5, 1e-6));
    // What does not vary is not moved by the rounding of its mean.
    let constant = Distribution::percentile(0.1, vec![0.1; 333]).unwrap();
    assert_eq!(constant.clone().centred(), constant);
}

prop_compose! {
    /// Replicates with or without ties, a point somewhere, and every way to read them.
    fn distributions()(
        steps in prop_oneof![Just(1e9), Just(20.0), Just(3.0)],
        raw in prop::collection::vec(-1.0..1.0_f64, 200..400),
        power in 1..4_i32,
        point in -0.5..0.5_f64,
        jackknife in prop::collection::vec(-1.0..1.0_f64, 0..60),
        corrected in any::<bool>(),
        units in prop::option::of(2..500_usize),
        centred in any::<bool>(),
    ) -> (Distribution, Vec<f64>) {
        let round = |value: f64| (value * steps).round() / steps;
        let replicates: Vec<f64> =
            raw.iter().map(|v| round(v.abs().powi(power) * v.signum())).collect();
        let distribution = if corrected {
            Distribution::bca(point, replicates.clone(), &jackknife)
        } else {
            Distribution::percentile(point, replicates.clone())
        };
        let distribution = distribution.unwrap();
        let distribution =
            if let Some(units) = units { distribution.expanded(units) } else { distribution };
        (if centred { distribution.centred() } else { distribution }, replicates)
    }
}

proptest! {
    #[test]
    fn quantiles_ascend_and_intervals_nest(
        (distribution, _) in distributions(),
        levels in prop::collection::vec(0.0..=1.0_f64, 2..40),
    ) {
        let mut levels = levels;
        levels.extend([1e-12, 1e-5, 1.0 - 1e-5]);
        levels.sort_by(f64::total_cmp);
        for pair in levels.windows(2) {
            let (low, high) = (distribution.quantile(pair[0]), distribution.quantile(pair[1]));
            prop_assert!(low <= high + 1e-12, "{:?}: {} {}", pair, low, high);
            let (narrow, wide) = (distribution.interval(pair[0]), distribution.interval(pair[1]));
            prop_assert!(wide.low <= narrow.low + 1e-12 && narrow.high <= wide.high + 1e-12);
        }
    }

    /// The judge says "passed" by the p-value and prints the interval: they must not disagree.
    #[test]
    fn a_test_claims_exactly_what_its_interval_shows(
        (distribution, replicates) in distributions(),
        level in 1e-4..0.9999_f64,
        x in prop_oneof![-1.2..1.2_f64, Just(0.0)],
        index in any::<prop::sample::Index>(),
    ) {
        for x in [x, *index.get(&replicates)] {
            let at_most = distribution.p_at_most(x);
            if (at_most - level).abs() > 1e-9 {
                prop_assert_eq!(at_most < level, distribution.quantile(level) > x);
            }
            let at_least = distribution.p_at_least(x);
            if (at_least - level).abs() > 1e-9 {
                prop_assert_eq!(at_least < level, distribution.quantile(1.0 - level) < x);
            }
            // Both claims at once are never made.
            prop_assert!(at_most + at_least >= 1.0 - 1e-9);
        }
    }

    #[test]
    fn the_p_value_is_the_inverse_of_the_quantile(
        point in -1.0..1.0_f64,
        jackknife in prop::collection::vec(-1.0..1.0_f64, 3..60),
        level in prop_oneof![1e-7..1e-3_f64, 1e-3..0.999_f64],
    ) {
        for distribution in [
            Distribution::percentile(point, skewed(500)).unwrap(),
            Distribution::bca(point + 4.0, skewed(500), &jackknife).unwrap(),
        ] {
            let x = distribution.quantile(level);
            prop_assert!(close(distribution.p_at_most(x), level, 1e-6));
            prop_assert!(close(distribution.p_at_least(x), 1.0 - level, 1e-6));
        }
    }

    /// The unit of a metric, or a margin that is added, changes no claim.
    #[test]
    fn shifting_and_scaling_change_no_claim(
        shift in -10.0..10.0_f64,
        scale in 0.01..100.0_f64,
        point in 0.5..15.0_f64,
        jackknife in prop::collection::vec(-1.0..1.0_f64, 3..60),
        x in -5.0..30.0_f64,
    ) {
        let moved = |value: f64| value * scale + shift;
        let all = |values: &[f64]| values.iter().copied().map(moved).collect::<Vec<_>>();
        let before = Distribution::bca(point, skewed(400), &jackknife).unwrap();
        let after = Distribution::bca(moved(point), all(&skewed(400)), &all(&jackknife)).unwrap();
        prop_assert!(close(before.p_at_most(x), after.p_at_most(moved(x)), 1e-6));
        prop_assert!(close(before.standard_error() * scale, after.standard_error(), 1e-9));
        // And the other way round, left and right change places.
        let mirrored: Vec<f64> = skewed(400).iter().map(|v| -v).collect();
        let jackknife: Vec<f64> = jackknife.iter().map(|v| -v).collect();
        let mirrored = Distribution::bca(-point, mirrored, &jackknife).unwrap();
        prop_assert!(close(before.p_at_most(x), mirrored.p_at_least(-x), 1e-6));
    }

    #[test]
    fn bca_without_bias_and_skew_is_the_percentile_method(
        half in prop::collection::vec(0.001..1.0_f64, 150..200),
        level in 0.0..=1.0_f64,
    ) {
        let both: Vec<f64> = half.iter().flat_map(|v| [*v, -v]).collect();
        let percentile = Distribution::percentile(0.0, both.clone()).unwrap();
        let bca = Distribution::bca(0.0, both, &[1.0, -1.0, 0.5, -0.5]).unwrap();
        prop_assert_eq!((bca.bias(), bca.acceleration()), (0.0, 0.0));
        prop_assert_eq!(percentile.quantile(level), bca.quantile(level));
    }

    #[test]
    fn corrections_never_lower_a_p_value_and_keep_their_order(
        p in prop::collection::vec(0.0..=1.0_f64, 1..50),
    ) {
        for (raw, strict, mild) in zipped(&p, &holm(&p), &benjamini_hochberg(&p)) {
            prop_assert!(raw <= mild && mild <= strict + 1e-15 && strict <= 1.0);
        }
        let adjusted = holm(&p);
        for (i, j) in (0..p.len()).flat_map(|i| (0..p.len()).map(move |j| (i, j))) {
            prop_assert!(p[i] > p[j] || adjusted[i] <= adjusted[j]);
        }
    }
}

fn zipped(a: &[f64], b: &[f64], c: &[f64]) -> Vec<(f64, f64, f64)> {
    a.iter().zip(b).zip(c).map(|((a, b), c)| (*a, *b, *c)).collect()
}
