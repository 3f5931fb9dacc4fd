//! The images in slices and groups, as the policy wants them.

use super::{Evidence, Found, GateError, MetricTable, Policy, Subject};
use crate::config::GateConfig;
use crate::dataset::{self, Dataset, ImageRecord, Slice};
use crate::matching::practical::PracticalParams;

/// Some of a data set's images, divided.
#[derive(Debug, Clone, PartialEq)]
pub struct Division<'d> {
    dataset: &'d Dataset,
    images: Vec<&'d ImageRecord>,
    slices: Vec<Slice>,
    groups: Option<Vec<u32>>,
    practical: PracticalParams,
}

impl<'d> Division<'d> {
    /// Looks every image's slices and group up.
    ///
    /// # Errors
    /// [`GateError::Slice`]: a table cannot be read or is of other images, a slice has no image, or
    /// two metrics would have the same name.
    pub fn of(
        gate: &GateConfig,
        practical: PracticalParams,
        dataset: &'d Dataset,
        images: Vec<&'d ImageRecord>,
    ) -> Result<Self, GateError> {
        dataset::check_names(&dataset.categories, &gate.slices)?;
        let slices = dataset::slices(&images, &gate.slices)?;
        let groups = gate.groups.as_ref();
        let groups = groups.map(|groups| dataset::groups(&images, groups)).transpose()?;
        Ok(Self { dataset, images, slices, groups, practical })
    }

    /// What a person should know of the slices.
    pub fn notices(&self) -> impl Iterator<Item = &str> {
        self.slices.iter().filter_map(|slice| slice.notice.as_deref())
    }

    /// What is judged.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            categories: &self.dataset.categories,
            slices: &self.slices,
            groups: self.groups.as_deref(),
            practical: self.practical,
        }
    }

    /// Whether every rule has a metric: names do not depend on what is found.
    ///
    /// # Errors
    /// [`GateError::RuleWithoutMetric`].
    pub fn check(&self, policy: &Policy) -> Result<(), GateError> {
        let nothing: Vec<Found> = self.images.iter().map(|image| (*image, &[][..])).collect();
        let (evidence, _) = Evidence::gather(self.subject(), &nothing, None, None)?;
        policy.rules_for(&evidence.names()).map(drop)
    }

    /// The metrics of a side over all images.
    ///
    /// # Errors
    /// [`GateError::Evaluate`], where two images have the same id.
    pub fn table(&self, images: &[Found]) -> Result<MetricTable, GateError> {
        Ok(self.subject().evaluate(images)?.table())
    }
}
