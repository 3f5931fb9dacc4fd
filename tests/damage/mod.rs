//! Damage to a good JSON file: bytes that are changed, inserted or cut off.

use proptest::prelude::*;

/// Where, with which byte, and how.
pub(crate) type Edit = (prop::sample::Index, u8, u8);

pub(crate) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4)
}

pub(crate) fn apply(edits: Vec<Edit>, bytes: &mut Vec<u8>) {
    for (place, byte, edit) in edits {
        let at = place.index(bytes.len());
        match edit {
            0 => bytes[at] = byte,
            1 => bytes[at] = b"[]{},:\"\\0eE-.N"[usize::from(byte) % 14],
            2 => bytes.insert(at, byte),
            _ => bytes.truncate(at + 1),
        }
    }
}
