//! Which images a share has.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::config::Shard;
use crate::dataset::ImageRecord;

/// The places in `images` of those that belong to a share, in their order.
///
/// The largest image goes to the share with the fewest pixels so far, then the next (longest processing time
/// first: Graham 1969, "Bounds on multiprocessing timing anomalies", whose largest share is at most 4/3 of the
/// best possible). Equals go by id, so the order of the file makes no difference.
pub fn share(images: &[ImageRecord], shard: Shard) -> Vec<usize> {
    let mut places: Vec<usize> = (0..images.len()).collect();
    places.sort_unstable_by_key(|&place| (Reverse(pixels(&images[place])), images[place].id));
    let mut shares: BinaryHeap<Reverse<(u64, u32)>> =
        (1..=shard.count()).map(|index| Reverse((0, index))).collect();
    let mut mine = Vec::with_capacity(images.len() / shard.count() as usize + 1);
    for place in places {
        let Some(mut least) = shares.peek_mut() else { break };
        let Reverse((sum, index)) = &mut *least;
        if *index == shard.index() {
            mine.push(place);
        }
        *sum += pixels(&images[place]);
    }
    mine.sort_unstable();
    mine
}

/// Of what the annotation file says; one where it says nothing.
fn pixels(image: &ImageRecord) -> u64 {
    (u64::from(image.width) * u64::from(image.height)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn images(sizes: &[(u32, u32)]) -> Vec<ImageRecord> {
        let image = |(id, &(width, height)): (usize, &(u32, u32))| ImageRecord {
            id: id as i64,
            file_name: String::new(),
            path: std::path::PathBuf::new(),
            width,
            height,
            ground_truth: Vec::new(),
        };
        sizes.iter().enumerate().map(image).collect()
    }

    fn ids(images: &[ImageRecord], count: u32) -> Vec<Vec<i64>> {
        let ids = |index| {
            let mine = share(images, Shard::new(index, count).unwrap());
            assert!(mine.is_sorted());
            let mut ids: Vec<i64> = mine.into_iter().map(|place| images[place].id).collect();
            ids.sort_unstable();
            ids
        };
        (1..=count).map(ids).collect()
    }

    proptest! {
        #[test]
        fn every_image_is_in_one_share_whatever_the_order_of_the_file(
            sizes in prop::collection::vec((0..2000_u32, 0..2000_u32), 0..200),
            count in 1..40_u32,
            turn in 0..200_usize,
        ) {
            let images = images(&sizes);
            let shares = ids(&images, count);
            let mut all: Vec<i64> = shares.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..sizes.len() as i64).collect::<Vec<_>>());
            let mut turned = images.clone();
            turned.reverse();
            turned.rotate_left(turn.min(sizes.len()));
            prop_assert_eq!(ids(&turned, count), shares);
        }

        #[test]
        fn no_share_has_more_pixels_than_another_by_more_than_one_image(
            sizes in prop::collection::vec((1..2000_u32, 1..2000_u32), 1..200),
            count in 1..40_u32,
        ) {
            let images = images(&sizes);
            let largest = images.iter().map(pixels).max().unwrap_or(0);
            let sum = |ids: &Vec<i64>| ids.iter().map(|&id| pixels(&images[id as usize])).sum::<u64>();
            let sums: Vec<u64> = ids(&images, count).iter().map(sum).collect();
            let (least, most) = (sums.iter().min().unwrap(), sums.iter().max().unwrap());
            prop_assert!(most - least <= largest, "{:?}", sums);
        }
    }
}
