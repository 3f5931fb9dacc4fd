//! A broken JPEG is an error and nothing else: libjpeg's way of failing, unwinding out of C, must not
//! reach the panic hook, which would print to the terminal in the middle of a progress bar.
//!
//! A test binary of its own, because the panic hook belongs to the whole process.

use std::sync::atomic::{AtomicUsize, Ordering};

use detgate::dataset::image::decode_bytes;

static PANICS: AtomicUsize = AtomicUsize::new(0);

#[test]
fn broken_jpegs_never_reach_the_panic_hook() {
    std::panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::SeqCst);
    }));
    let whole = include_bytes!("../fixtures/images/jpeg/baseline_420.jpg");
    let mut no_quantization_tables = whole.to_vec();
    for i in 0..no_quantization_tables.len() - 1 {
        if no_quantization_tables[i..i + 2] == [0xFF, 0xDB] {
            no_quantization_tables[i + 1] = 0xFE; // a comment
        }
    }
    let outcomes = [
        decode_bytes(&whole[..whole.len() / 2]),
        decode_bytes(&whole[..40]),
        decode_bytes(&no_quantization_tables),
        decode_bytes(&[0xFF, 0xD8, 0xFF, 0xD9]),
    ];
    drop(std::panic::take_hook());
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}
