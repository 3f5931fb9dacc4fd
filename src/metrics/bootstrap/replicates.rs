//! Every metric's values in every replicate, under the names of `Evaluation::table`.
//!
//! Deliberately absent: what follows from them (`gate`).

use std::collections::BTreeMap;

use super::Sample;
use super::coco::NAMES;
use super::practical::RATIOS;
use super::weights::Drawn;

/// Every metric in every replicate; the names are those of [`Evaluation::table`].
///
/// [`Evaluation::table`]: crate::metrics::Evaluation::table
#[derive(Debug, Clone, PartialEq)]
pub struct Replicates {
    replicates: usize,
    /// Places in `rows`.
    names: BTreeMap<String, usize>,
    /// `[rows][replicates]`; NaN where undefined. The first is that of all metrics that are undefined in
    /// every replicate: in a data set of thousands of classes they are many.
    rows: Vec<Vec<f64>>,
}

impl Replicates {
    pub(super) fn new(sample: &Sample, weights: &Drawn) -> Self {
        let mut replicates = Self {
            replicates: weights.replicates(),
            names: BTreeMap::new(),
            rows: vec![vec![f64::NAN; weights.replicates()]],
        };
        replicates.add_coco(sample, weights);
        replicates.add_practical(sample, weights);
        replicates
    }

    /// The replicates of the same sample that follow.
    pub(super) fn append(mut self, next: Self) -> Self {
        self.replicates += next.replicates;
        for (row, next) in self.rows.iter_mut().zip(next.rows) {
            row.extend(next);
        }
        self
    }

    fn add_coco(&mut self, sample: &Sample, weights: &Drawn) {
        let classes = sample.coco(weights);
        for (i, name) in NAMES.into_iter().enumerate() {
            let of_classes = classes.iter().flatten().map(|rows| &rows[i][..]);
            let mean = mean_of_defined(of_classes, self.replicates);
            self.add(name.to_owned(), mean);
        }
        for (class, rows) in sample.coco_names().zip(classes) {
            let names = NAMES.into_iter().map(|name| format!("{name}/{class}"));
            match rows {
                Some(rows) => names.zip(rows).for_each(|(name, row)| self.add(name, row)),
                None => self.names.extend(names.map(|name| (name, 0))),
            }
        }
    }

    fn add_practical(&mut self, sample: &Sample, weights: &Drawn) {
        for (name, row) in RATIOS.into_iter().zip(sample.practical.replicate_global(weights)) {
            self.add(name.to_owned(), row);
        }
        let classes = sample.practical(weights);
        let mut mean = mean_of_defined(classes.iter().map(|rows| &rows[3][..]), self.replicates);
        // Without classes it is 0, not undefined.
        mean.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = 0.0);
        self.add("mAP50_approx".to_owned(), mean);
        for (class, rows) in sample.practical_names().zip(classes) {
            let names = RATIOS.into_iter().chain(["ap50_approx"]);
            for (name, row) in names.zip(rows) {
                self.add(format!("{name}/{class}"), row);
            }
        }
    }

    fn add(&mut self, name: String, row: Vec<f64>) {
        self.names.insert(name, self.rows.len());
        self.rows.push(row);
    }

    /// All metrics, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// `[replicates]`: a metric's values, **NaN where it is undefined**, which is where no ground truth
    /// was drawn. `None` if there is no such metric.
    pub fn values(&self, name: &str) -> Option<&[f64]> {
        self.names.get(name).map(|&row| &self.rows[row][..])
    }
}

/// The mean over the classes that are defined in a replicate, added in their order; NaN of none.
fn mean_of_defined<'r>(rows: impl Iterator<Item = &'r [f64]>, replicates: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); replicates];
    for row in rows {
        for ((sum, count), value) in sums.iter_mut().zip(row) {
            if !value.is_nan() {
                *sum += value;
                *count += 1.0;
            }
        }
    }
    // 0/0 is NaN.
    sums.into_iter().map(|(sum, count)| sum / count).collect()
}
