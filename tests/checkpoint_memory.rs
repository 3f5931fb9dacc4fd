//! Loading a checkpoint maps it: the weights are not read before somebody looks at them. This is the
//! only test of its file, so that nothing else changes the process's memory meanwhile.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;

use detgate::checkpoint::load;
use zip::write::{SimpleFileOptions, ZipWriter};

const ELEMENTS: i32 = 16 << 20;
const BYTES: usize = ELEMENTS as usize * size_of::<f32>();

/// Resident memory of this process, in bytes, mapped files included.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
}

#[test]
fn loading_costs_no_memory_of_the_file_s_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("best_large.pt");
    let count = ELEMENTS.to_le_bytes();
    let pickle = [
        &b"\x80\x02}\x8c\x01wctorch._utils\n_rebuild_tensor_v2\n((\x8c\x07storage"[..],
        b"ctorch\nFloatStorage\n\x8c\x010\x8c\x03cpuJ",
        &count,
        b"tQK\0J",
        &count,
        b"\x85K\x01\x85\x89NtRs.",
    ]
    .concat();
    let mut zip = ZipWriter::new(File::create(&path).unwrap());
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    zip.start_file("best/data.pkl", stored).unwrap();
    zip.write_all(&pickle).unwrap();
    zip.start_file("best/data/0", stored).unwrap();
    let chunk = vec![0x40; 1 << 16];
    (0..BYTES / chunk.len()).for_each(|_| zip.write_all(&chunk).unwrap());
    zip.finish().unwrap();

    let before = resident();
    let checkpoint = load(&path).unwrap();
    let grown = resident().saturating_sub(before);
    assert!(grown < BYTES / 8, "loading {BYTES} bytes took {grown}");

    let weight = &checkpoint.state_dict["w"];
    assert_eq!(weight.as_contiguous_bytes().unwrap().len(), BYTES);
    assert!(weight.to_f32().iter().all(|v| v.to_bits() == 0x4040_4040));
}
