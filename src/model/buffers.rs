//! Memory of activations that the next layer, and the next image, uses again.
//!
//! An image's activations take some hundred megabytes. Where the system hands out each of them anew, a
//! tenth of an image's time goes into its clearing pages that are overwritten at once.
//!
//! Whoever is done with a tensor that no one else holds may [give it back](give_back); whoever does not
//! only gives up its reuse. Each thread has its own memory.
//!
//! Deliberately absent: any tracking of who holds what.

use std::cell::RefCell;

use tch::{Device, Kind, TchError, Tensor};

/// Smaller ones are left to the allocator, which keeps them anyhow, numbers.
const MIN_LEN: i64 = 1 << 16;
/// Memory that is kept per thread while no one uses it, numbers: 384 MiB, about what an image of 800x1088 uses at once in
/// a ResNet-50-FPN.
const MAX_KEPT: i64 = 96 << 20;

thread_local! {
    /// Flat, of whole size classes; the one given back last is the last.
    static KEPT: RefCell<Vec<Tensor>> = const { RefCell::new(Vec::new()) };
}

/// A contiguous float32 tensor of that size. Its values are whatever they are.
///
/// # Errors
/// libtorch's.
pub(super) fn take(size: &[i64]) -> Result<Tensor, TchError> {
    let len = size.iter().product();
    if len < MIN_LEN {
        return Tensor::f_empty(size, (Kind::Float, Device::Cpu));
    }
    let class = size_class(len);
    let flat = match KEPT.with_borrow_mut(|kept| remove(kept, class)) {
        Some(flat) => flat,
        None => Tensor::f_empty([class], (Kind::Float, Device::Cpu))?,
    };
    flat.f_narrow(0, 0, len)?.f_view(size)
}

/// Keeps the memory of `tensor`, which [`take`] made (another is dropped), and of which there must be no
/// other view that is still read.
pub(super) fn give_back(tensor: Tensor) {
    let len = tensor.numel() as i64;
    if len < MIN_LEN {
        return;
    }
    // A storage of another origin is too small for its class, or is as good.
    let Ok(flat) = tensor.f_as_strided([size_class(len)], [1], 0) else { return };
    KEPT.with_borrow_mut(|kept| {
        kept.push(flat);
        while kept.iter().map(|flat| flat.numel() as i64).sum::<i64>() > MAX_KEPT {
            drop(kept.remove(0));
        }
    });
}

fn remove(kept: &mut Vec<Tensor>, class: i64) -> Option<Tensor> {
    let index = kept.iter().rposition(|flat| flat.numel() as i64 == class)?;
    Some(kept.remove(index))
}

/// The length, rounded up to one of eight steps per power of two: images of almost the same size use the
/// same memory.
fn size_class(len: i64) -> i64 {
    let step = 1 << (len.ilog2() - 3);
    (len + step - 1) / step * step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again_by_what_is_almost_as_large() {
        let first = take(&[300, 1000]).unwrap();
        let place = first.data_ptr();
        give_back(first.permute([1, 0]));
        drop(first);
        let other = take(&[1 << 20]).unwrap();
        assert_ne!(other.data_ptr(), place);
        let second = take(&[1, 301, 999]).unwrap();
        assert_eq!((second.data_ptr(), second.size()), (place, vec![1, 301, 999]));
        assert_ne!(take(&[300, 1000]).unwrap().data_ptr(), place, "it is in use");
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let all: Vec<Tensor> = (0..5).map(|_| take(&[MAX_KEPT / 4]).unwrap()).collect();
        let places: Vec<_> = all.iter().map(Tensor::data_ptr).collect();
        all.into_iter().for_each(give_back);
        let kept = KEPT.with_borrow(|kept| kept.iter().map(Tensor::data_ptr).collect::<Vec<_>>());
        assert_eq!(kept, places[1..]);
    }

    #[test]
    fn a_tensor_of_another_origin_is_not_grown() {
        give_back(Tensor::zeros([70_001], (Kind::Float, Device::Cpu)));
        assert_eq!(take(&[70_001]).unwrap().size(), [70_001]);
        give_back(Tensor::zeros([3], (Kind::Float, Device::Cpu)));
    }

    #[test]
    fn classes_hold_their_lengths_with_little_waste() {
        for len in (MIN_LEN..MIN_LEN * 40).step_by(977) {
            let class = size_class(len);
            assert!(class >= len && class * 8 <= len * 9 && size_class(class) == class, "{len}");
        }
    }
}
