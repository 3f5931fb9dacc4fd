//! How fast this machine reads and copies memory: the bound that parsing is held against.

use std::time::Instant;

/// One of the two buffers in a real measurement: larger than any cache.
pub(crate) const BYTES: usize = 512 << 20;

/// Bytes per second, all cores together.
#[derive(Clone, Copy)]
pub(crate) struct Bandwidth {
    /// Two buffers read and compared.
    pub(crate) read: f64,
    /// One buffer copied to the other; counts the bytes copied, though each is both read and written.
    pub(crate) copy: f64,
}

/// The best of three goes over two buffers of so many bytes. Uses memcmp and memcpy, which are fast in any build profile.
pub(crate) fn measure(threads: usize, bytes: usize) -> Bandwidth {
    let (mut from, mut to) = (vec![1u8; bytes], vec![1u8; bytes]);
    let chunk = bytes.div_ceil(threads.max(1));
    let mut best = Bandwidth { read: 0.0, copy: 0.0 };
    for go in 0..3 {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (a, b) in from.chunks(chunk).zip(to.chunks(chunk)) {
                scope.spawn(move || assert!(std::hint::black_box(a) == std::hint::black_box(b)));
            }
        });
        best.read = best.read.max(2.0 * bytes as f64 / start.elapsed().as_secs_f64());
        // Something that has to arrive, so that nobody may leave the copying out.
        from[bytes - 1] = go;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for (a, b) in from.chunks(chunk).zip(to.chunks_mut(chunk)) {
                scope.spawn(move || b.copy_from_slice(std::hint::black_box(a)));
            }
        });
        best.copy = best.copy.max(bytes as f64 / start.elapsed().as_secs_f64());
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_plausible_for_any_computer() {
        let Bandwidth { read, copy } = measure(2, 8 << 20);
        for speed in [read, copy] {
            assert!((1e8..1e13).contains(&speed), "{speed}");
        }
    }
}
