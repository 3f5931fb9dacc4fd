//! Access to a state dict that takes every parameter once, by its path, and notices what is missing
//! or left over.
//!
//! Problems are collected while the model is assembled and reported together by
//! [`Weights::finish`], so that a checkpoint of another architecture is explained by all of the
//! names that differ, not by the first. Until then a parameter that is missing or misshapen is
//! replaced by zeros of a shape that fits.
//!
//! Deliberately absent: any value for a parameter that the checkpoint does not have.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use tch::{Kind, Tensor};

use super::error::ModelError;
use crate::checkpoint::{self, StateDict};

/// A size that a parameter's shape must have, or `None` where the checkpoint decides.
pub type Dim = Option<i64>;

/// A state dict of which every entry is to be used exactly once.
#[derive(Debug)]
pub struct Weights<'a> {
    entries: BTreeMap<String, &'a checkpoint::Tensor>,
    state: RefCell<State>,
}

#[derive(Debug, Default)]
struct State {
    taken: BTreeSet<String>,
    missing: Vec<String>,
    problem: Option<ModelError>,
}

impl<'a> Weights<'a> {
    /// Looks at `weights`, under today's names: the paths that torchvision before 0.13 gave to the
    /// FPN's and the RPN's convolutions are read as their later ones
    /// (`FeaturePyramidNetwork._load_from_state_dict`, `RPNHead._load_from_state_dict`).
    pub fn new(weights: &'a StateDict) -> Self {
        let entries = weights.iter().map(|(name, tensor)| (current_name(name), tensor)).collect();
        Self { entries, state: RefCell::default() }
    }

    /// Whether there is a parameter of that name.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// The shape of the parameter of that name, if there is one; it is not taken by this.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|tensor| tensor.shape())
    }

    /// How many of `prefix.0`, `prefix.1`, ... there are, up to the first gap.
    pub fn count(&self, prefix: &str) -> usize {
        (0..).take_while(|i| self.has_prefix(&format!("{prefix}.{i}."))).count()
    }

    fn has_prefix(&self, prefix: &str) -> bool {
        self.entries
            .range(prefix.to_owned()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(prefix))
    }

    /// Takes a parameter as float32, contiguous. Its shape must fit `shape`; what does not is
    /// reported by [`finish`](Self::finish).
    pub fn take(&self, name: &str, shape: &[Dim]) -> Tensor {
        match self.try_take(name, shape) {
            Ok(tensor) => tensor,
            Err(problem) => {
                self.state.borrow_mut().problem.get_or_insert(problem);
                placeholder(shape)
            }
        }
    }

    fn try_take(&self, name: &str, shape: &[Dim]) -> Result<Tensor, ModelError> {
        let Some(found) = self.entries.get(name) else {
            self.state.borrow_mut().missing.push(name.to_owned());
            return Ok(placeholder(shape));
        };
        self.state.borrow_mut().taken.insert(name.to_owned());
        check_shape(name, found.shape(), shape)?;
        let values = found.to_f32();
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ModelError::NonFinite { name: name.to_owned() });
        }
        let size: Vec<i64> = found.shape().iter().map(|&n| n as i64).collect();
        Ok(Tensor::f_from_slice(&values)?.f_reshape(size)?)
    }

    /// Takes an entry whose value has no use in inference (`num_batches_tracked`).
    pub fn skip(&self, name: &str) {
        let mut state = self.state.borrow_mut();
        if self.contains(name) {
            state.taken.insert(name.to_owned());
        } else {
            state.missing.push(name.to_owned());
        }
    }

    /// Takes all entries whose names begin with `prefix`, if there are any: parts of the model that detgate does
    /// not compute.
    pub fn skip_all(&self, prefix: &str) {
        let names = self.entries.keys().filter(|name| name.starts_with(prefix)).cloned();
        self.state.borrow_mut().taken.extend(names);
    }

    /// Checks that every parameter was there, was used, and had the shape that was expected.
    ///
    /// # Errors
    /// [`ModelError::Parameters`] with every missing and surplus name; if there are none, the first
    /// parameter whose shape or values are wrong.
    pub fn finish(self) -> Result<(), ModelError> {
        let State { taken, missing, problem } = self.state.into_inner();
        let surplus: Vec<String> =
            self.entries.into_keys().filter(|name| !taken.contains(name)).collect();
        if missing.is_empty() && surplus.is_empty() {
            return problem.map_or(Ok(()), Err);
        }
        Err(ModelError::Parameters { missing, surplus })
    }
}

fn check_shape(name: &str, found: &[usize], expected: &[Dim]) -> Result<(), ModelError> {
    let fits =
        |(&found, expected): (&usize, &Dim)| expected.is_none_or(|size| size == found as i64);
    if found.len() == expected.len() && found.iter().zip(expected).all(fits) && !found.contains(&0)
    {
        return Ok(());
    }
    let sizes: Vec<String> =
        expected.iter().map(|size| size.map_or("*".to_owned(), |size| size.to_string())).collect();
    Err(ModelError::Shape {
        name: name.to_owned(),
        found: found.to_vec(),
        expected: format!("[{}]", sizes.join(", ")),
    })
}

fn placeholder(shape: &[Dim]) -> Tensor {
    let size: Vec<i64> = shape.iter().map(|size| size.unwrap_or(1)).collect();
    Tensor::zeros(size, (Kind::Float, tch::Device::Cpu))
}

/// `backbone.fpn.inner_blocks.0.weight` -> `backbone.fpn.inner_blocks.0.0.weight`, and
/// `rpn.head.conv.weight` -> `rpn.head.conv.0.0.weight`; any other name as it is.
fn current_name(name: &str) -> String {
    let Some((path, kind @ ("weight" | "bias"))) = name.rsplit_once('.') else {
        return name.to_owned();
    };
    if path == "rpn.head.conv" {
        return format!("{path}.0.0.{kind}");
    }
    let index = ["backbone.fpn.inner_blocks.", "backbone.fpn.layer_blocks."]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix));
    match index {
        Some(index) if !index.contains('.') => format!("{path}.0.{kind}"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_torchvision_names_are_read_as_todays() {
        for (old, new) in [
            ("backbone.fpn.inner_blocks.3.weight", "backbone.fpn.inner_blocks.3.0.weight"),
            ("backbone.fpn.layer_blocks.0.bias", "backbone.fpn.layer_blocks.0.0.bias"),
            ("rpn.head.conv.bias", "rpn.head.conv.0.0.bias"),
            ("backbone.fpn.layer_blocks.0.0.bias", "backbone.fpn.layer_blocks.0.0.bias"),
            ("rpn.head.cls_logits.bias", "rpn.head.cls_logits.bias"),
            ("rpn.head.conv.1.0.bias", "rpn.head.conv.1.0.bias"),
        ] {
            assert_eq!(current_name(old), new);
        }
    }

    #[test]
    fn names_are_counted_up_to_the_first_gap() {
        let one = checkpoint::Tensor::from_f32(&[1], vec![1.0]);
        let names = ["a.0.w", "a.1.w", "a.3.w", "a.10.w", "ab.0.w"];
        let dict: StateDict = names.iter().map(|name| (name.to_string(), one.clone())).collect();
        let weights = Weights::new(&dict);
        assert_eq!(weights.count("a"), 2);
        assert_eq!(weights.count("b"), 0);
    }

    #[test]
    fn every_missing_and_every_surplus_name_is_reported() {
        let one = checkpoint::Tensor::from_f32(&[2], vec![1.0, 2.0]);
        let dict: StateDict = [("used".to_owned(), one.clone()), ("left".to_owned(), one)].into();
        let weights = Weights::new(&dict);
        assert_eq!(weights.take("used", &[None]).size(), [2]);
        assert_eq!(weights.take("gone", &[Some(3), None]).size(), [3, 1]);
        let text = weights.finish().unwrap_err().to_string();
        assert!(
            text.contains("misses the parameter gone and has a surplus of the parameter left"),
            "{text}"
        );
    }

    #[test]
    fn a_wrong_shape_and_a_nan_name_their_parameter() {
        let dict: StateDict = [
            ("flat".to_owned(), checkpoint::Tensor::from_f32(&[2], vec![1.0, 2.0])),
            ("sick".to_owned(), checkpoint::Tensor::from_f32(&[1], vec![f32::NAN])),
        ]
        .into();
        let weights = Weights::new(&dict);
        let _ = weights.take("flat", &[None, Some(3)]);
        let _ = weights.take("sick", &[None]);
        let text = weights.finish().unwrap_err().to_string();
        assert_eq!(text, "parameter flat has the shape [2], expected [*, 3]");
        let weights = Weights::new(&dict);
        let _ = weights.take("flat", &[None]);
        let _ = weights.take("sick", &[None]);
        assert!(weights.finish().unwrap_err().to_string().starts_with("parameter sick holds"));
    }
}
