//! The confusion matrix with background: sums over [`crate::matching::confusion`], which has the rule.
//!
//! Deliberately absent: normalised matrices; whoever shows one divides by a row or a column.

use std::cmp::Reverse;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MergeError, check_unique};
use crate::dataset::Category;
use crate::matching::confusion::{ImageConfusion, Pair};

/// How often which class was taken for which.
///
/// Rows are the truth, columns the prediction (as in scikit-learn and supervision; Ultralytics has
/// them the other way round); the last of both is background. A row sums to the ground truths of
/// its class, a column to the counted detections of its class; background on background is 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionMatrix {
    /// The classes by ascending id, without background.
    pub classes: Vec<ConfusionClass>,
    /// `[classes + 1, classes + 1]`.
    pub counts: Vec<Vec<u64>>,
}

/// A row and a column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfusionClass {
    /// Its id.
    pub category_id: i64,
    /// Its name.
    pub name: String,
}

/// One class taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Row.
    pub truth: usize,
    /// Column.
    pub prediction: usize,
    /// How often.
    pub count: u64,
}

/// What [`ConfusionMatrix::totals`] sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ConfusionTotals {
    /// Objects found under their class: the diagonal.
    pub correct: u64,
    /// Objects taken for another class.
    pub confused: u64,
    /// Objects taken for background.
    pub missed: u64,
    /// Detections on background.
    pub background: u64,
}

/// Sums the images up; any order of `images` gives the same result. Classes ascend by id, each once.
///
/// # Errors
/// [`MergeError`], where two images have the same id or one has a class that is not among
/// `categories`.
pub(super) fn accumulate(
    categories: &[Category],
    images: &[ImageConfusion],
) -> Result<ConfusionMatrix, MergeError> {
    let mut images: Vec<&ImageConfusion> = images.iter().collect();
    images.sort_unstable_by_key(|image| image.image_id);
    check_unique("id", images.iter().map(|image| image.image_id))?;
    let background = categories.len();
    let place = |class: Option<i64>| match class {
        Some(id) => categories.binary_search_by_key(&id, |c| c.id).ok(),
        None => Some(background),
    };
    let mut counts = vec![vec![0; background + 1]; background + 1];
    for image in images {
        for Pair { truth, prediction } in &image.pairs {
            let (Some(row), Some(column)) = (place(*truth), place(*prediction)) else {
                return Err(MergeError::Foreign(image.image_id));
            };
            counts[row][column] += 1;
        }
    }
    let class = |c: &Category| ConfusionClass { category_id: c.id, name: c.name.clone() };
    Ok(ConfusionMatrix { classes: categories.iter().map(class).collect(), counts })
}

impl ConfusionMatrix {
    /// Row and column of background.
    pub fn background(&self) -> usize {
        self.classes.len()
    }

    /// Sum of a class's row: its ground truths. `None` where there is no such row.
    pub fn ground_truths(&self, class: usize) -> Option<u64> {
        Some(self.counts.get(class)?.iter().sum())
    }

    /// Sum of a class's column: its counted detections. `None` where there is no such column.
    pub fn detections(&self, class: usize) -> Option<u64> {
        self.counts.iter().map(|row| row.get(class)).sum()
    }

    /// The most frequent confusions of two classes, at most `limit`: by descending count, then row,
    /// then column. Background is no class.
    pub fn largest_confusions(&self, limit: usize) -> Vec<Confusion> {
        let classes = 0..self.background();
        let cells = classes.clone().flat_map(|t| classes.clone().map(move |p| (t, p)));
        let mut confusions: Vec<Confusion> = cells
            .filter(|(truth, prediction)| truth != prediction)
            .map(|(truth, prediction)| Confusion {
                truth,
                prediction,
                count: self.counts[truth][prediction],
            })
            .filter(|confusion| confusion.count > 0)
            .collect();
        confusions.sort_by_key(|confusion| Reverse(confusion.count));
        confusions.truncate(limit);
        confusions
    }

    /// The sums of the matrix's four regions.
    pub fn totals(&self) -> ConfusionTotals {
        let mut totals = ConfusionTotals::default();
        for (truth, row) in self.counts.iter().enumerate() {
            for (prediction, count) in row.iter().enumerate() {
                *match (truth, prediction) {
                    (t, p) if t == self.background() && p == t => continue,
                    (t, _) if t == self.background() => &mut totals.background,
                    (_, p) if p == self.background() => &mut totals.missed,
                    (t, p) if t == p => &mut totals.correct,
                    _ => &mut totals.confused,
                } += count;
            }
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn categories() -> Vec<Category> {
        [(1, "person"), (3, "car"), (7, "bus")]
            .map(|(id, name)| Category { id, name: name.into() })
            .into()
    }

    fn image(image_id: i64, pairs: &[(i64, i64)]) -> ImageConfusion {
        let class = |id| (id > 0).then_some(id);
        let pair = |&(t, p): &(i64, i64)| Pair { truth: class(t), prediction: class(p) };
        ImageConfusion { image_id, pairs: pairs.iter().map(pair).collect() }
    }

    #[test]
    fn rows_are_the_truth_columns_the_prediction_and_background_is_last() {
        let images = [image(1, &[(1, 1), (1, 3), (3, 0)]), image(2, &[(1, 3), (0, 7)])];
        let matrix = accumulate(&categories(), &images).unwrap();
        assert_eq!(matrix.counts, [[1, 2, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]);
        assert_eq!(matrix.classes[1], ConfusionClass { category_id: 3, name: "car".into() });
        let totals = ConfusionTotals { correct: 1, confused: 2, missed: 1, background: 1 };
        assert_eq!(matrix.totals(), totals);
        assert_eq!((matrix.ground_truths(0), matrix.detections(1)), (Some(3), Some(2)));
        assert_eq!((matrix.ground_truths(4), matrix.detections(4)), (None, None));
    }

    #[test]
    fn the_largest_confusions_come_first_and_background_is_none() {
        let pairs = [(1, 3), (7, 1), (7, 1), (3, 1), (0, 1), (0, 1), (0, 1), (1, 1)];
        let matrix = accumulate(&categories(), &[image(1, &pairs)]).unwrap();
        let found: Vec<_> =
            matrix.largest_confusions(2).iter().map(|c| (c.truth, c.prediction, c.count)).collect();
        assert_eq!(found, [(2, 0, 2), (0, 1, 1)]);
        assert_eq!(matrix.largest_confusions(20).len(), 3);
    }

    #[test]
    fn images_that_do_not_belong_here_are_refused() {
        let twice = [image(4, &[]), image(2, &[]), image(4, &[])];
        let error = accumulate(&categories(), &twice).unwrap_err();
        assert_eq!(error, MergeError::Duplicate { key: "id", value: 4 });
        let error = accumulate(&categories(), &[image(5, &[(2, 1)])]).unwrap_err();
        assert_eq!(error, MergeError::Foreign(5));
    }
}
