//! One question to the gate's statistics, asked of many pairs of detectors whose truth is known.

use detgate::dataset::ImageRecord;
use detgate::gate::statistics::{Distribution, Interval};
use rayon::prelude::*;

use crate::engine::{self, CLASSES, Metrics, Side};
use crate::world::{self, Damage, Random, Sample, World};

/// What is looked at: changes of metrics, then values of the candidate alone.
pub(crate) const STATISTICS: [&str; 6] = [
    "change of AP",
    "change of AP50",
    "change of AP50, class of 9 %",
    "change of AP50, class of 3 %",
    "AP itself",
    "AP50 itself",
];

/// The first statistic that is a value and no change.
pub(crate) const VALUES: usize = 4;

/// Margins at which each change is tested.
pub(crate) const MARGINS: [f64; 4] = [0.0, 0.01, 0.02, 0.03];

/// One value per statistic; NaN where undefined.
pub(crate) type Values = [f64; STATISTICS.len()];

/// At most as many groups of images are left out in turn for the acceleration.
const JACKKNIFE_GROUPS: usize = 100;

/// What is resampled.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Unit {
    /// Images, one by one.
    Image,
    /// Groups of images.
    Group,
}

/// How intervals are made.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Method {
    /// The replicates' quantiles.
    Percentile,
    /// The same, expanded for few units.
    Expanded,
    /// Expanded, and centred at the point.
    Centred,
    /// With Efron's corrections.
    Bca,
}

/// In the order of [`Method`].
pub(crate) const METHODS: [(Method, &str); 4] = [
    (Method::Percentile, "percentile"),
    (Method::Expanded, "expanded"),
    (Method::Centred, "centred"),
    (Method::Bca, "BCa"),
];

/// One setting of the simulation.
#[derive(Clone, Copy)]
pub(crate) struct Study {
    /// Where images come from.
    pub(crate) world: World,
    /// Images in a validation set.
    pub(crate) images: usize,
    /// What is wrong with the candidate.
    pub(crate) damage: Damage,
    /// What is resampled.
    pub(crate) unit: Unit,
    /// Replicates of each bootstrap.
    pub(crate) replicates: usize,
    /// The same seed gives the same pairs.
    pub(crate) seed: u64,
    /// Match at IoU 0.5 alone: a tenth of the work, and AP is AP50.
    pub(crate) only_ap50: bool,
}

/// What the gate would say of one statistic of one pair.
pub(crate) struct Reading {
    /// The statistic on the images as they are.
    pub(crate) point: f64,
    /// 95 %, two-sided.
    pub(crate) interval: Interval,
    /// By [`MARGINS`]: the p-value of "it dropped by the margin or less", small where a regression
    /// is claimed.
    pub(crate) regressed: [f64; MARGINS.len()],
    /// By [`MARGINS`]: the p-value of "it dropped by the margin or more", small where it passes.
    pub(crate) passed: [f64; MARGINS.len()],
    /// The replicates' standard deviation.
    pub(crate) standard_error: f64,
}

/// One pair's readings by statistic and by [`Method`]; `None` where there is no distribution.
pub(crate) type Readings = [[Option<Reading>; METHODS.len()]; STATISTICS.len()];

impl Study {
    /// Draws `pairs` pairs of detectors, each on images of its own, and asks the gate.
    pub(crate) fn run(&self, pairs: usize) -> Vec<Readings> {
        (0..pairs as u64).into_par_iter().map(|pair| self.pair(pair)).collect()
    }

    fn pair(&self, pair: u64) -> Readings {
        let random = Random::new(self.seed, 2 * pair);
        let sample = world::draw(self.world, self.images, self.damage, random);
        let engine = Engine::new(&sample, self.only_ap50);
        let size = self.unit_size();
        let units = self.images.div_ceil(size);
        let mut random = Random::new(self.seed, 2 * pair + 1);
        let resamples: Vec<Vec<u32>> =
            (0..self.replicates).map(|_| resample(units, &mut random)).collect();
        let jackknife = leave_out(units);
        let all = vec![1; units];
        let drawn = |weights: &[Vec<u32>]| -> Vec<Values> {
            let of_images = |weights: &Vec<u32>| self.of_images(weights);
            weights.iter().map(|weights| engine.values(&of_images(weights))).collect()
        };
        let (point, replicates, jackknife) =
            (drawn(&[all])[0], drawn(&resamples), drawn(&jackknife));
        std::array::from_fn(|s| {
            let of = |values: &[Values]| -> Vec<f64> { values.iter().map(|v| v[s]).collect() };
            let percentile = Distribution::percentile(point[s], of(&replicates));
            let bca = Distribution::bca(point[s], of(&replicates), &of(&jackknife));
            let expanded = percentile.clone().map(|d| d.expanded(engine.units(s, size, units)));
            let centred = expanded.clone().map(Distribution::centred);
            [percentile, expanded, centred, bca].map(|distribution| distribution.map(|d| read(&d)))
        })
    }

    /// The images' weights, from the units'.
    fn of_images(&self, weights: &[u32]) -> Vec<u32> {
        (0..self.images).map(|image| weights[image / self.unit_size()]).collect()
    }

    fn unit_size(&self) -> usize {
        match self.unit {
            Unit::Image => 1,
            Unit::Group => self.world.group_size,
        }
    }
}

fn read(distribution: &Distribution) -> Reading {
    Reading {
        point: distribution.point(),
        interval: distribution.interval(0.95),
        regressed: MARGINS.map(|margin| distribution.p_at_least(-margin)),
        passed: MARGINS.map(|margin| distribution.p_at_most(-margin)),
        standard_error: distribution.standard_error(),
    }
}

/// How often each unit is drawn in as many draws as there are units.
fn resample(units: usize, random: &mut Random) -> Vec<u32> {
    let mut weights = vec![0; units];
    for _ in 0..units {
        weights[random.below(units)] += 1;
    }
    weights
}

/// Weights that leave out one group of units after the other.
fn leave_out(units: usize) -> Vec<Vec<u32>> {
    let groups = units.min(JACKKNIFE_GROUPS);
    (0..groups).map(|group| (0..units).map(|u| u32::from(u % groups != group)).collect()).collect()
}

/// The statistics on a very large sample: what they would be if there were no end of images.
pub(crate) fn truth(world: World, images: usize, damage: Damage, seed: u64) -> Values {
    let sample = world::draw(world, images, damage, Random::new(seed, u64::MAX));
    Engine::new(&sample, false).values(&vec![1; images])
}

/// Of a study's images, how many hold the rarest class, on average.
pub(crate) fn rare_images(study: &Study, sampled: usize) -> f64 {
    let sample = world::draw(study.world, sampled, study.damage, Random::new(study.seed, u64::MAX));
    let rarest = world::categories().len() as i64;
    let holds = |image: &&ImageRecord| image.ground_truth.iter().any(|gt| gt.category_id == rarest);
    let holding = sample.images.iter().filter(holds).count();
    study.images as f64 * holding as f64 / sampled as f64
}

/// Both sides of a sample.
struct Engine([Side; 2]);

impl Engine {
    fn new(sample: &Sample, only_ap50: bool) -> Self {
        let plan = engine::plan(only_ap50);
        let thresholds = if only_ap50 { 1 } else { 10 };
        let side = |s: usize| {
            Side::new(&engine::matches(&plan, &sample.images, &sample.sides[s]), thresholds)
        };
        Self([side(0), side(1)])
    }

    /// With each image as often as `weights` says.
    fn values(&self, weights: &[u32]) -> Values {
        let [baseline, candidate] = self.0.each_ref().map(|side| side.metrics(weights));
        let change: Metrics = std::array::from_fn(|m| candidate[m] - baseline[m]);
        let [ap, ap50, ..] = candidate;
        let [d0, d1, d2, d3] = change;
        [d0, d1, d2, d3, ap, ap50]
    }

    /// The units on which a statistic rests, of all.
    fn units(&self, statistic: usize, size: usize, all: usize) -> usize {
        match statistic {
            2 | 3 => self.0[0].units_with(CLASSES[statistic - 2], size),
            _ => all,
        }
    }
}
