//! The images in slices and groups, as the policy wants them.

use detgate::config::GateConfig;
use detgate::dataset::{self, Dataset, ImageRecord, Slice};
use detgate::gate::{Evidence, Found, Policy, Subject};
use detgate::matching::coco::CocoParams;
use detgate::matching::practical::PracticalParams;
use detgate::metrics::{self, Evaluation};

/// Some of a data set's images, divided.
pub(crate) struct Division<'d> {
    dataset: &'d Dataset,
    images: Vec<&'d ImageRecord>,
    slices: Vec<Slice>,
    groups: Option<Vec<u32>>,
    practical: PracticalParams,
}

impl<'d> Division<'d> {
    pub(crate) fn of(
        gate: &GateConfig,
        practical: PracticalParams,
        dataset: &'d Dataset,
        images: Vec<&'d ImageRecord>,
    ) -> anyhow::Result<Self> {
        let slices = dataset::slices(&images, &gate.slices)?;
        let groups = gate.groups.as_ref();
        let groups = groups.map(|groups| dataset::groups(&images, groups)).transpose()?;
        Ok(Self { dataset, images, slices, groups, practical })
    }

    /// Says what a person should know of the slices.
    pub(crate) fn say_notices(&self) {
        let notices = self.slices.iter().filter_map(|slice| slice.notice.as_ref());
        notices.for_each(|notice| eprintln!("note: {notice}"));
    }

    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            categories: &self.dataset.categories,
            slices: &self.slices,
            groups: self.groups.as_deref(),
            practical: self.practical,
        }
    }

    /// Whether every rule has a metric: names do not depend on what is found.
    pub(crate) fn check(&self, policy: &Policy) -> anyhow::Result<()> {
        let nothing: Vec<Found> = self.images.iter().map(|image| (*image, &[][..])).collect();
        let (subject, evaluation) = (self.subject(), evaluate(&self.subject(), &nothing)?);
        Ok(Evidence::gather(subject, &evaluation, &nothing, None, None)?.check(policy)?)
    }
}

pub(crate) fn evaluate(subject: &Subject, images: &[Found]) -> anyhow::Result<Evaluation> {
    let coco = CocoParams::default();
    Ok(metrics::evaluate(subject.categories, images, &subject.practical, &coco)?)
}
