//! All that a candidate is judged by, but for the baseline; and the way from detections to a verdict, which
//! is the same whoever asks.

use super::evidence::{Baseline, Evidence, Found, Subject};
use super::{GateError, Judgement, Policy, Snapshot, Why, judge, why};
use crate::config::GateConfig;
use crate::dataset::{self, Dataset, ImageRecord, Slice};
use crate::matching::practical::PracticalParams;
use crate::metrics::Evaluation;

/// Some of a data set's images, divided as the policy wants it, and the policy.
#[derive(Debug, Clone)]
pub struct Trial<'d> {
    dataset: &'d Dataset,
    images: Vec<&'d ImageRecord>,
    slices: Vec<Slice>,
    groups: Option<Vec<u32>>,
    practical: PracticalParams,
    policy: Policy,
    settings: &'d GateConfig,
}

/// A candidate, measured, judged and explained.
#[derive(Debug, Clone)]
pub struct Assessment {
    /// The candidate, with its metrics.
    pub candidate: Snapshot,
    /// Its metrics.
    pub evaluation: Evaluation,
    /// The verdict on it.
    pub judgement: Judgement,
    /// What is behind that, where the baseline's detections are known and comparable.
    pub why: Option<Why>,
}

impl<'d> Trial<'d> {
    /// Looks every image's slices and group up.
    ///
    /// # Errors
    /// A [`GateError`]: a policy that cannot fail, nothing to measure it on, two classes that cannot be
    /// told apart, or a table of slices or groups that cannot be read or is of other images.
    pub fn new(
        settings: &'d GateConfig,
        practical: PracticalParams,
        dataset: &'d Dataset,
        images: Vec<&'d ImageRecord>,
    ) -> Result<Self, GateError> {
        let policy = Policy::new(settings.rules.clone())?;
        dataset::check_names(&dataset.categories, &settings.slices)?;
        if images.iter().all(|image| image.ground_truth.is_empty()) {
            return Err(GateError::NothingToFind { images: images.len() });
        }
        let slices = dataset::slices(&images, &settings.slices)?;
        let groups = settings.groups.as_ref();
        let groups = groups.map(|groups| dataset::groups(&images, groups)).transpose()?;
        Ok(Self { dataset, images, slices, groups, practical, policy, settings })
    }

    /// What a person should know of the slices.
    pub fn notices(&self) -> impl Iterator<Item = &str> {
        self.slices.iter().filter_map(|slice| slice.notice.as_deref())
    }

    /// Whether every rule judges something: that does not depend on what is found.
    ///
    /// # Errors
    /// [`GateError::RuleWithoutMetric`] and [`GateError::RuleWithoutObjects`].
    pub fn check(&self) -> Result<(), GateError> {
        let nothing: Vec<Found> = self.images.iter().map(|image| (*image, &[][..])).collect();
        let (evidence, _) = Evidence::gather(self.subject(), &nothing, None)?;
        self.policy.rules_for(&evidence.values()).map(drop)
    }

    /// Measures what was found on the images, in their order, and judges it. The candidate's metrics are
    /// filled in.
    ///
    /// # Errors
    /// A [`GateError`]: a rule judges nothing, or the baseline's numbers are not those of its detections.
    pub fn assess<'f>(
        &'f self,
        candidate: Snapshot,
        found: &[Found<'f>],
        baseline: Option<&Baseline<'f>>,
    ) -> Result<Assessment, GateError> {
        let same = |baseline: &&Baseline| {
            baseline.fingerprint.differences(&candidate.fingerprint).is_empty()
        };
        // What was found on other data says nothing here.
        let comparable = baseline.filter(same);
        let (evidence, evaluation) = Evidence::gather(self.subject(), found, comparable)?;
        if let Some(baseline) = comparable {
            evidence.check(baseline, self.settings.numeric_noise)?;
        }
        let candidate = Snapshot { metrics: evaluation.table(), ..candidate };
        let judgement = judge(&candidate, baseline, &evidence, &self.policy, self.settings)?;
        let before = comparable.and_then(|baseline| baseline.found);
        let why = before.map(|before| why(&self.subject(), before, found)).transpose()?;
        Ok(Assessment { candidate, evaluation, judgement, why })
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            categories: &self.dataset.categories,
            slices: &self.slices,
            groups: self.groups.as_deref(),
            practical: self.practical,
        }
    }
}
