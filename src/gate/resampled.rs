//! How chance moves the metrics: both sides on the same resampled images.

use super::GateError;
use super::evidence::{Evidence, Part};
use super::statistics::Distribution;
use crate::config::{GateConfig, Interval};
use crate::metrics::bootstrap::{Replicates, Sample, Weights};

/// The groups of images that the jackknife leaves out, one at a time, at most: what is learnt from it
/// is one number, the skewness of the metric's influence, and as many say enough of it.
const FOLDS: usize = 200;

/// Both sides' metrics in every replicate.
pub(super) struct Resampled {
    bootstrap: Pair,
    /// For the acceleration of BCa intervals.
    jackknife: Option<Pair>,
}

/// The same weights on both sides.
struct Pair {
    baseline: Replicates,
    candidate: Replicates,
}

impl Resampled {
    /// Resamples the units of all images, of which a slice sees its own.
    pub(super) fn new(
        evidence: &Evidence,
        part: &Part,
        settings: &GateConfig,
        replicates: usize,
    ) -> Result<Self, GateError> {
        let subject = &evidence.subject;
        let sample =
            |images| Sample::new(subject.categories, images, &part.units, &subject.practical);
        let baseline = sample(part.baseline.as_deref().unwrap_or(&[]))?;
        let candidate = sample(&part.candidate)?;
        let pair = |weights: &Weights| -> Result<Pair, GateError> {
            Ok(Pair {
                baseline: baseline.replicate(weights)?,
                candidate: candidate.replicate(weights)?,
            })
        };
        let drawn = Weights::bootstrap(evidence.units, replicates, settings.seed);
        let bca = settings.interval == Interval::Bca;
        Ok(Self {
            bootstrap: pair(&drawn)?,
            jackknife: bca.then(|| pair(&Weights::jackknife(evidence.units, FOLDS))).transpose()?,
        })
    }

    /// The distribution of a statistic of the baseline's and the candidate's value; `None` where it is
    /// defined in too few replicates.
    pub(super) fn distribution(
        &self,
        metric: &str,
        point: f64,
        statistic: &dyn Fn(f64, f64) -> f64,
    ) -> Option<Distribution> {
        let replicates = self.bootstrap.statistic(metric, statistic)?;
        match &self.jackknife {
            Some(jackknife) => {
                let left_out = jackknife.statistic(metric, statistic)?;
                Distribution::bca(point, replicates, &left_out)
            }
            None => Distribution::percentile(point, replicates),
        }
    }
}

impl Pair {
    /// In every replicate; not finite where a side is undefined.
    fn statistic(&self, metric: &str, statistic: &dyn Fn(f64, f64) -> f64) -> Option<Vec<f64>> {
        let (before, after) = (self.baseline.values(metric)?, self.candidate.values(metric)?);
        Some(before.iter().zip(after).map(|(&before, &after)| statistic(before, after)).collect())
    }
}
