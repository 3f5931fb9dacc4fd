//! Images decode to Pillow's pixels, and damaged ones to errors that say what is wrong.
//!
//! The references are in `fixtures/images/expected.json`, written by the generator beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use detgate::dataset::image::{DecodeError, Format, ImageError, RgbImage, decode, decode_bytes};
use proptest::prelude::*;
use sha2::{Digest, Sha256};

#[derive(serde::Deserialize)]
struct Expected {
    images: BTreeMap<String, Reference>,
}

/// What Pillow made of one file.
#[derive(serde::Deserialize)]
struct Reference {
    width: u32,
    height: u32,
    sha256: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images")
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).expect(name)
}

fn expected() -> Expected {
    serde_json::from_slice(&fixture("expected.json")).expect("expected.json")
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn difference(name: &str, reference: &Reference) -> Option<String> {
    let image = match decode(&folder().join(name)) {
        Ok(image) => image,
        Err(error) => return Some(error.to_string()),
    };
    let RgbImage { width, height, ref data } = image;
    if (width, height) != (reference.width, reference.height) {
        return Some(format!("{name} is {width} x {height}"));
    }
    (sha256(data) != reference.sha256).then(|| format!("{name} differs from Pillow"))
}

/// All files of one folder, each compared with Pillow; at least `count` of them.
fn assert_equal_to_pillow(format: &str, count: usize) {
    let images = expected().images;
    let of_format: Vec<_> = images.iter().filter(|(name, _)| name.starts_with(format)).collect();
    assert!(of_format.len() >= count, "only {} references in {format}", of_format.len());
    let wrong: Vec<_> = of_format.iter().filter_map(|(name, r)| difference(name, r)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn jpeg_decodes_to_pillows_pixels() {
    assert_equal_to_pillow("jpeg/", 30);
}

#[test]
fn png_decodes_to_pillows_pixels() {
    assert_equal_to_pillow("png/", 35);
}

#[test]
fn bmp_decodes_to_pillows_pixels() {
    assert_equal_to_pillow("bmp/", 25);
}

#[test]
fn webp_decodes_to_pillows_pixels() {
    assert_equal_to_pillow("webp/", 9);
}
