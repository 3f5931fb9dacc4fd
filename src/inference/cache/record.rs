//! One prediction as bytes: what was found on one image, under a checksum of its own.
//!
//! ```text
//! mark 8 | length of the payload, u32 | BLAKE3 of the image 32 | payload | checksum 16
//! payload: 0, then per detection x y w h score (f64) and category_id (i64); or 1 and a reason (UTF-8)
//! ```
//!
//! All numbers are little-endian, and floats keep every bit. The checksum is BLAKE3 keyed with the key of
//! the predictions: a record that was moved to those of another model is as wrong as a damaged one.
//! [`Scan`] finds every whole record in whatever bytes, so damage costs the records that it touches and
//! no other. Deliberately absent: files.

use super::Outcome;
use crate::dataset::Bbox;
use crate::detections::Detection;

/// Begins every record, so that the next one is found behind a damaged one. Eight bytes that are neither
/// text nor a plausible float.
const MARK: [u8; 8] = *b"\xffdt\x01gp\xfe\n";
const HEAD: usize = MARK.len() + 4 + 32;
const CHECK: usize = 16;
/// Longer ones are not kept: a length beyond this is damage, and not worth a checksum over half a file.
const MAX_PAYLOAD: usize = 1 << 24;
const DETECTION: usize = 48;

/// What keys the checksums: the whole key of the predictions.
pub(in crate::inference) type KeyBytes = [u8; 32];

/// The bytes of a record; `None` where there are more detections than any image has.
pub(in crate::inference) fn encode(
    key: &KeyBytes,
    image: &blake3::Hash,
    outcome: &Outcome,
) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(HEAD + 1 + CHECK + 100 * DETECTION);
    bytes.extend(MARK);
    bytes.extend([0; 4]);
    bytes.extend(image.as_bytes());
    match outcome {
        Ok(detections) => {
            bytes.push(0);
            detections.iter().for_each(|detection| put(&mut bytes, detection));
        }
        Err(reason) => {
            bytes.push(1);
            bytes.extend(reason.as_bytes());
        }
    }
    let length = bytes.len() - HEAD;
    if length > MAX_PAYLOAD {
        return None;
    }
    bytes[MARK.len()..MARK.len() + 4].copy_from_slice(&(length as u32).to_le_bytes());
    let check = checksum(key, &bytes[MARK.len()..]);
    bytes.extend(check);
    Some(bytes)
}

fn put(bytes: &mut Vec<u8>, detection: &Detection) {
    let Bbox { x, y, w, h } = detection.bbox;
    for number in [x, y, w, h, detection.score] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(detection.category_id.to_le_bytes());
}

/// Of the length, the image and the payload.
fn checksum(key: &KeyBytes, covered: &[u8]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&blake3::keyed_hash(key, covered).as_bytes()[..CHECK]);
    check
}

/// A whole record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::inference) struct Record<'b> {
    pub(in crate::inference) image: blake3::Hash,
    /// All of it, to be copied as it is.
    pub(in crate::inference) bytes: &'b [u8],
}

impl Record<'_> {
    /// What became of the image; `None` where a later detgate put something else there.
    pub(in crate::inference) fn outcome(&self) -> Option<Outcome> {
        let payload = &self.bytes[HEAD..self.bytes.len() - CHECK];
        match payload.split_first()? {
            (0, numbers) => {
                let (detections, []) = numbers.as_chunks::<DETECTION>() else { return None };
                Some(Ok(detections.iter().map(get).collect()))
            }
            (1, reason) => Some(Err(String::from_utf8(reason.to_vec()).ok()?)),
            _ => None,
        }
    }
}

fn get(bytes: &[u8; DETECTION]) -> Detection {
    let numbers = bytes.as_chunks::<8>().0;
    let number = |at: usize| f64::from_le_bytes(numbers[at]);
    Detection {
        bbox: Bbox { x: number(0), y: number(1), w: number(2), h: number(3) },
        score: number(4),
        category_id: i64::from_le_bytes(numbers[5]),
    }
}

/// The whole records in some bytes, in their order.
#[derive(Debug)]
pub(in crate::inference) struct Scan<'b> {
    key: &'b KeyBytes,
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Scan<'b> {
    pub(in crate::inference) fn new(key: &'b KeyBytes, bytes: &'b [u8]) -> Self {
        Self { key, bytes, at: 0 }
    }

    /// The record that begins here, if it is whole.
    fn here(&self) -> Option<Record<'b>> {
        let rest = &self.bytes[self.at..];
        let head = rest.get(..HEAD)?;
        let (mark, head) = head.split_at(MARK.len());
        if mark != MARK {
            return None;
        }
        let (length, image) = head.split_at(4);
        let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
        if length > MAX_PAYLOAD {
            return None;
        }
        let bytes = rest.get(..HEAD + length + CHECK)?;
        let (covered, check) = bytes[MARK.len()..].split_at(4 + 32 + length);
        let image = blake3::Hash::from_bytes(image.try_into().ok()?);
        (checksum(self.key, covered) == check).then_some(Record { image, bytes })
    }
}

impl<'b> Iterator for Scan<'b> {
    type Item = Record<'b>;

    fn next(&mut self) -> Option<Record<'b>> {
        loop {
            if let Some(record) = self.here() {
                self.at += record.bytes.len();
                return Some(record);
            }
            let beyond = self.bytes.get(self.at + 1..)?;
            self.at += 1 + beyond.windows(MARK.len()).position(|window| window == MARK)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: KeyBytes = [7; 32];

    fn image(n: u8) -> blake3::Hash {
        blake3::hash(&[n])
    }

    /// What differs between images, and numbers that a text form would spoil.
    fn outcome(n: u8) -> Outcome {
        if n % 4 == 3 {
            return Err(format!("the JPEG data end too early ({n})"));
        }
        let detection = |i: u8| Detection {
            bbox: Bbox { x: -0.0, y: f64::from(n) / 3.0, w: f64::MIN_POSITIVE, h: 1e300 },
            score: f64::from(i) / 255.0,
            category_id: i64::MIN + i64::from(i),
        };
        Ok((0..n % 4).map(detection).collect())
    }

    fn file(images: std::ops::Range<u8>) -> Vec<u8> {
        let records = images.map(|n| encode(&KEY, &image(n), &outcome(n)).unwrap());
        std::iter::once(b"a header\n".to_vec()).chain(records).flatten().collect()
    }

    /// Bits, not values: -0.0 == 0.0.
    fn bits(outcome: &Outcome) -> String {
        let bits = |d: &Detection| {
            let Bbox { x, y, w, h } = d.bbox;
            ([x, y, w, h, d.score].map(f64::to_bits), d.category_id)
        };
        format!("{:?}", outcome.as_ref().map(|found| found.iter().map(bits).collect::<Vec<_>>()))
    }

    /// Which images are found; each must be as it was written.
    fn found(bytes: &[u8], images: std::ops::Range<u8>) -> Vec<u8> {
        let check = |record: Record| {
            let n = images.clone().find(|&n| image(n) == record.image).expect("no image of ours");
            assert_eq!(bits(&record.outcome().unwrap()), bits(&outcome(n)), "image {n}");
            n
        };
        Scan::new(&KEY, bytes).map(check).collect()
    }

    #[test]
    fn every_bit_comes_back() {
        assert_eq!(found(&file(0..12), 0..12), (0..12).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_ends_anywhere_keeps_what_was_whole() {
        let (whole, start) = (file(0..6), file(0..0).len());
        let mut ends = vec![start];
        for n in 0..6 {
            ends.push(ends[n as usize] + file(n..n + 1).len() - start);
        }
        for end in 0..=whole.len() {
            let expected = ends.iter().filter(|&&e| e > start && e <= end).count() as u8;
            assert_eq!(
                found(&whole[..end], 0..6),
                (0..expected).collect::<Vec<_>>(),
                "{end} bytes"
            );
        }
    }

    #[test]
    fn a_flipped_bit_costs_its_own_record_and_no_other() {
        let (mut bytes, header) = (file(0..5), file(0..0).len());
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let lost = 5 - found(&bytes, 0..5).len();
            assert_eq!(lost, usize::from(bit / 8 >= header), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn what_follows_a_torn_record_is_found() {
        let torn = &file(0..3)[..file(0..3).len() - 5];
        let bytes = [torn, &file(3..5)].concat();
        assert_eq!(found(&bytes, 0..5), [0, 1, 3, 4]);
    }

    #[test]
    fn records_of_another_key_are_none() {
        assert_eq!(Scan::new(&[8; 32], &file(0..5)).count(), 0);
    }

    proptest! {
        #[test]
        fn whatever_happens_to_a_file_no_result_is_wrong(
            damage in prop::collection::vec((any::<prop::sample::Index>(), 0..4, any::<u8>()), 1..12)
        ) {
            let mut bytes = file(0..9);
            for (place, kind, byte) in damage {
                let at = place.index(bytes.len());
                match kind {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    // A block is written twice, or another file's.
                    _ => {
                        let again = bytes[at..(at + 64).min(bytes.len())].to_vec();
                        bytes.splice(at..at, again);
                    }
                }
            }
            found(&bytes, 0..9);
        }

        #[test]
        fn bytes_that_are_no_records_are_none(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert_eq!(Scan::new(&KEY, &bytes).count(), 0);
        }
    }
}
