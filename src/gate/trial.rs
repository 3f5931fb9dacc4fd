//! All that a candidate is judged by, but for the baseline; and the way from detections to a verdict, which
//! is the same whoever asks.

use super::analysis::{Analysis, Known, analysis};
use super::evidence::{Baseline, Evidence, Found, Subject};
use super::why::{alone, details_of, why};
use super::{GateError, Judgement, Policy, Snapshot, Why, judge};
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
    /// What a person looks at; `None` where nothing but numbers is known.
    pub analysis: Option<Analysis>,
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
        let metrics = evaluation.candidate.table();
        let candidate = Snapshot { metrics, ..candidate };
        let judgement = judge(&candidate, baseline, &evidence, &self.policy, self.settings)?;
        let before = comparable.and_then(|baseline| baseline.found);
        let (why, analysis) = self.explain(&evaluation, before, found)?;
        let (evaluation, analysis) = (evaluation.candidate, Some(analysis));
        Ok(Assessment { candidate, evaluation, judgement, why, analysis })
    }

    /// What is behind the numbers.
    fn explain(
        &self,
        evaluation: &Known<Evaluation>,
        before: Option<&[Found]>,
        found: &[Found],
    ) -> Result<(Option<Why>, Analysis), GateError> {
        let subject = self.subject();
        let details = Known {
            baseline: before.map(|before| details_of(&subject, before)).transpose()?,
            candidate: details_of(&subject, found)?,
        };
        let both = before.zip(details.baseline.as_ref());
        let why = both.map(|(before, was)| {
            why(
                &subject,
                (before, &was.operating_points),
                (found, &details.candidate.operating_points),
            )
        });
        let why = why.transpose()?;
        let points = &details.candidate.operating_points;
        let alone = why.is_none().then(|| alone(&subject, found, points)).transpose()?;
        let found = Known { baseline: before, candidate: found };
        let analysis =
            analysis(&subject, evaluation.as_ref(), details.as_ref(), found, why.as_ref());
        Ok((why, Analysis { alone, ..analysis }))
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
