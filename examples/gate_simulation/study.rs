//! One question to the gate's statistics, asked of many pairs of detectors whose truth is known.

use detgate::dataset::ImageRecord;
use detgate::gate::statistics::{Distribution, Interval};
use detgate::matching::practical::PracticalParams;
use detgate::metrics::bootstrap::{self, Weights};
use rayon::prelude::*;

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

/// Of the candidate and of the baseline.
const METRICS: [&str; 4] = ["AP", "AP50", "AP50/class4", "AP50/class5"];

/// The first statistic that is a value and no change.
pub(crate) const VALUES: usize = 4;

/// Margins at which each change is tested.
pub(crate) const MARGINS: [f64; 4] = [0.0, 0.01, 0.02, 0.03];

/// One value per statistic; NaN where undefined.
pub(crate) type Values = [f64; STATISTICS.len()];

/// By statistic, its value in each replicate; NaN where undefined.
pub(crate) type Replicates = [Vec<f64>; STATISTICS.len()];

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
        self.run_with(pairs, |sample, size| {
            let engine = Engine::new(sample, size);
            move |weights: &Weights| engine.statistics(weights)
        })
    }

    /// As [`Self::run`], where `engine` evaluates a sample in units of so many images.
    pub(crate) fn run_with<E>(
        &self,
        pairs: usize,
        engine: impl Fn(&Sample, usize) -> E + Sync,
    ) -> Vec<Readings>
    where
        E: Fn(&Weights) -> Replicates,
    {
        (0..pairs as u64).into_par_iter().map(|pair| self.pair(pair, &engine)).collect()
    }

    fn pair<E>(&self, pair: u64, engine: &impl Fn(&Sample, usize) -> E) -> Readings
    where
        E: Fn(&Weights) -> Replicates,
    {
        let sample =
            world::draw(self.world, self.images, self.damage, Random::new(self.seed, pair));
        let size = match self.unit {
            Unit::Image => 1,
            Unit::Group => self.world.group_size,
        };
        let units = self.images.div_ceil(size);
        let statistics = engine(&sample, size);
        let draws = Weights::bootstrap(units, self.replicates, self.seed ^ (pair << 32));
        let replicates = statistics(&draws);
        let jackknife = statistics(&Weights::jackknife(units, JACKKNIFE_GROUPS));
        let points = statistics(&Weights::ones(units));
        let resting_on = [
            units,
            units,
            units_with(&sample, 4, size),
            units_with(&sample, 5, size),
            units,
            units,
        ];
        std::array::from_fn(|s| {
            let point = points[s][0];
            let percentile = Distribution::percentile(point, replicates[s].clone());
            let bca = Distribution::bca(point, replicates[s].clone(), &jackknife[s]);
            let expanded = percentile.clone().map(|d| d.expanded(resting_on[s]));
            let centred = expanded.clone().map(Distribution::centred);
            [percentile, expanded, centred, bca].map(|distribution| distribution.map(|d| read(&d)))
        })
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

/// The statistics on a very large sample: what they would be if there were no end of images.
pub(crate) fn truth(world: World, images: usize, damage: Damage, seed: u64) -> Values {
    let sample = world::draw(world, images, damage, Random::new(seed, u64::MAX));
    let statistics = Engine::new(&sample, 1).statistics(&Weights::ones(images));
    statistics.map(|values| values[0])
}

/// Of a study's images, how many hold the rarest class, on average.
pub(crate) fn rare_images(study: &Study, sampled: usize) -> f64 {
    let sample = world::draw(study.world, sampled, study.damage, Random::new(study.seed, u64::MAX));
    let rarest = world::categories().len() as i64;
    let holds = |image: &&ImageRecord| image.ground_truth.iter().any(|gt| gt.category_id == rarest);
    let holding = sample.images.iter().filter(holds).count();
    study.images as f64 * holding as f64 / sampled as f64
}

/// How many units (groups of `size` images) show the class.
fn units_with(sample: &Sample, class: i64, size: usize) -> usize {
    let shows = |image: &ImageRecord| image.ground_truth.iter().any(|gt| gt.category_id == class);
    sample.images.chunks(size).filter(|unit| unit.iter().any(shows)).count()
}

/// Both sides of a sample, evaluated by the library.
pub(crate) struct Engine([bootstrap::Sample; 2]);

impl Engine {
    /// Of units of `size` images.
    pub(crate) fn new(sample: &Sample, size: usize) -> Self {
        let units: Vec<u32> = (0..sample.images.len()).map(|image| (image / size) as u32).collect();
        let practical = PracticalParams { score_thr: 0.5, iou_thr: 0.5 };
        Self(sample.sides.each_ref().map(|side| {
            let images: Vec<_> =
                sample.images.iter().zip(side).map(|(image, dts)| (image, &dts[..])).collect();
            bootstrap::Sample::new(&world::categories(), &images, &units, &practical)
                .expect("images with different ids, one unit each")
        }))
    }

    /// Every statistic in each replicate.
    pub(crate) fn statistics(&self, weights: &Weights) -> Replicates {
        let [baseline, candidate] = self.0.each_ref().map(|side| {
            let replicates = side.replicate(weights).expect("weights of the units");
            METRICS.map(|name| replicates.values(name).unwrap_or_default().to_vec())
        });
        let change = |m: usize| -> Vec<f64> {
            candidate[m].iter().zip(&baseline[m]).map(|(after, before)| after - before).collect()
        };
        let changes = [0, 1, 2, 3].map(change);
        let [d0, d1, d2, d3] = changes;
        let [ap, ap50, ..] = candidate;
        [d0, d1, d2, d3, ap, ap50]
    }
}
