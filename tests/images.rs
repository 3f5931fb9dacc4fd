//! Images decode to Pillow's pixels, and damaged ones to errors that say what is wrong.
//!
//! The references are in `fixtures/images/expected.json`, written by the generator beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use detgate::dataset::image::{
    DecodeError, Format, ImageError, RgbImage, decode, decode_bytes, dimensions,
};
use proptest::prelude::{ProptestConfig, Strategy, any, prop, prop_assert_eq, proptest};
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

/// The references belong to the files beside them, not to an earlier or a damaged version.
#[test]
fn fixtures_are_those_that_pillow_read() {
    let sums = String::from_utf8(fixture("SHA256SUMS")).expect("text");
    let mut listed = Vec::new();
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").expect("sum, two spaces, name");
        assert_eq!(sha256(&fixture(name)), sum, "{name}");
        listed.push(name.to_owned());
    }
    listed.retain(|name| name != "expected.json");
    assert_eq!(listed, expected().images.into_keys().collect::<Vec<_>>());
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

/// Pillow clips 16-bit gray at 255 instead of scaling it; a decoder that scales would give black.
#[test]
fn sixteen_bit_gray_is_clipped_as_in_pillow() {
    let image = decode_bytes(&fixture("png/gray_16_dark.png")).expect("decodes");
    // The fixture's samples count up from 0, one per pixel.
    assert_eq!(image.data[3 * 200..3 * 200 + 3], [200; 3]);
    assert_eq!(image.data[3 * 300..3 * 300 + 3], [255; 3]);
}

#[test]
fn the_format_is_told_by_content_not_by_extension() {
    let folder = tempfile::tempdir().expect("tempdir");
    let path = folder.path().join("really_a_png.jpg");
    std::fs::copy(folder_of("png/rgb_8.png"), &path).expect("copy");
    let image = decode(&path).expect("decodes");
    assert_eq!(image, decode(&folder_of("png/rgb_8.png")).expect("decodes"));
}

fn folder_of(name: &str) -> PathBuf {
    folder().join(name)
}

#[test]
fn errors_name_the_file_and_what_to_do() {
    let folder = tempfile::tempdir().expect("tempdir");
    let cut = fixture("jpeg/photo_sized_420.jpg");
    let cases: [(&str, &[u8], &str); 4] = [
        ("empty.jpg", b"", "the file is empty"),
        ("page.jpg", b"<html>not found</html>", "JPEG, PNG, BMP and WebP are read"),
        ("photo.gif", b"GIF89a..........", "47 49 46 38 39 61"),
        ("cut.jpg", &cut[..cut.len() / 2], "the file is truncated; fetch or copy it again"),
    ];
    for (name, bytes, expected) in cases {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("write");
        let error = decode(&path).expect_err(name);
        assert_eq!(error.path(), path);
        let sentence = error.to_string();
        assert!(sentence.contains(&path.display().to_string()), "{sentence}");
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[test]
fn a_missing_file_is_a_read_error_that_names_it() {
    let path = folder_of("no_such_image.jpg");
    let error = decode(&path).expect_err("there is no such file");
    assert!(matches!(error, ImageError::Read { .. }), "{error}");
    assert!(error.to_string().contains("no_such_image.jpg"), "{error}");
}

/// Pillow raises for every one of these cuts, the last byte of the end-of-image marker included.
#[test]
fn a_jpeg_cut_anywhere_is_truncated() {
    for name in
        ["jpeg/baseline_420.jpg", "jpeg/progressive_420.jpg", "jpeg/restart_every_block.jpg"]
    {
        let whole = fixture(name);
        for len in 3..whole.len() {
            let error = decode_bytes(&whole[..len]).expect_err("a cut image");
            assert_eq!(
                error,
                DecodeError::Truncated { format: Format::Jpeg },
                "{name} cut to {len}"
            );
        }
    }
}

#[test]
fn a_png_bmp_or_webp_cut_anywhere_is_an_error() {
    let names = [
        "png/rgb_8.png",
        "png/palette_4_interlaced.png",
        "bmp/rgb_24.bmp",
        "bmp/palette_4.bmp",
        "webp/lossless_rgb.webp",
        "webp/lossy_80.webp",
    ];
    for name in names {
        let whole = fixture(name);
        // What may be missing at the end without loss: the checksum of PNG's end, BMP's padding.
        let spare = match name {
            _ if name.starts_with("png") => 4,
            _ if name.starts_with("bmp") => 3,
            _ => 0,
        };
        for len in 0..whole.len() - spare {
            assert!(decode_bytes(&whole[..len]).is_err(), "{name} cut to {len}");
        }
    }
}

#[test]
fn png_with_a_wrong_checksum_is_corrupt() {
    let mut bytes = fixture("png/rgb_8.png");
    let at = bytes.len() - 12 - 1; // the last byte of the last IDAT's checksum, before IEND
    bytes[at] ^= 1;
    let error = decode_bytes(&bytes).expect_err("a wrong checksum");
    assert!(matches!(error, DecodeError::Corrupt { format: Format::Png, .. }), "{error}");
}

/// A frame header that claims `width` x `height`, in front of the fixture's own data.
fn jpeg_claiming(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = fixture("jpeg/baseline_444.jpg");
    let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).expect("a frame header");
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

fn bmp_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = fixture("bmp/rgb_24.bmp");
    bytes[18..22].copy_from_slice(&width.to_le_bytes());
    bytes[22..26].copy_from_slice(&height.to_le_bytes());
    bytes
}

#[test]
fn decompression_bombs_are_refused_by_their_header() {
    let too_large = |width, height| Err(DecodeError::TooLarge { width, height });
    assert_eq!(decode_bytes(&jpeg_claiming(60_000, 60_000)), too_large(60_000, 60_000));
    assert_eq!(decode_bytes(&bmp_claiming(100_000, 100_000)), too_large(100_000, 100_000));
    let sentence = decode_bytes(&jpeg_claiming(60_000, 60_000)).expect_err("too large").to_string();
    assert!(sentence.contains("178956970"), "{sentence}");
}

#[test]
fn images_without_area_are_refused() {
    assert!(decode_bytes(&jpeg_claiming(57, 0)).is_err());
    let (width, height, format) = (0, 19, Format::Bmp);
    let expected = Err(DecodeError::NoArea { format, width, height });
    assert_eq!(decode_bytes(&bmp_claiming(0, 19)), expected);
}

#[test]
fn a_variant_that_is_not_read_is_said_to_be_unsupported() {
    let mut bytes = fixture("jpeg/baseline_444.jpg");
    let frame = bytes.windows(2).position(|w| w == [0xFF, 0xC0]).expect("a frame header");
    bytes[frame + 1] = 0xC9; // arithmetic coding
    let error = decode_bytes(&bytes).expect_err("arithmetic coding");
    assert!(matches!(error, DecodeError::Unsupported { format: Format::Jpeg, .. }), "{error}");
}

/// One damaged fixture: some bytes replaced, then perhaps cut.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let files: Vec<Vec<u8>> = expected().images.keys().map(|name| fixture(name)).collect();
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
    (prop::sample::select(files), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut bytes, changes, end, cut)| {
            for (at, value) in changes {
                // Half of the changes go where headers are.
                let range = if value % 2 == 0 { bytes.len().min(200) } else { bytes.len() };
                let at = at.index(range);
                bytes[at] = value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()) + 1);
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Whatever the bytes are: pixels of the promised number, or an error; never a panic.
    #[test]
    fn damaged_images_never_panic(bytes in damaged()) {
        if let Ok(image) = decode_bytes(&bytes) {
            prop_assert_eq!(image.data.len(), 3 * image.width as usize * image.height as usize);
        }
    }
}

/// Sizes are read without decoding; they must be those that decoding gives, for every variant that
/// can be decoded.
#[test]
fn dimensions_are_those_of_the_decoded_image() {
    for (name, reference) in expected().images {
        let read = dimensions(&folder().join(&name)).expect(&name);
        assert_eq!((read.width, read.height), (reference.width, reference.height), "{name}");
        let turned = name.contains("exif_orientation_6");
        assert_eq!(read.on_its_side, turned, "{name}");
        let upright = if turned { (read.height, read.width) } else { (read.width, read.height) };
        assert_eq!(read.upright(), upright);
    }
}

#[test]
fn a_file_without_dimensions_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    let refusal = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        let error = dimensions(&path).unwrap_err();
        assert_eq!(error.path(), path);
        error.to_string().replace(&path.display().to_string(), "a.jpg")
    };
    let jpeg = fixture("jpeg/baseline_420.jpg");
    assert_eq!(
        refusal(&jpeg[..100]),
        "cannot decode image a.jpg: the JPEG data end too early: the file is truncated; fetch or \
         copy it again"
    );
    assert_eq!(
        refusal(b"\xff\xd8\xff\xd9"),
        "cannot decode image a.jpg: the JPEG data are corrupt: there is no frame header before the \
         picture; fetch or copy it again"
    );
    assert!(refusal(b"").starts_with("cannot decode image a.jpg: the file is empty"));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(dimensions(&path), Err(ImageError::Read { .. })));
}

/// EXIF comes from cameras and phones; whatever it holds, the size of the picture is there.
#[test]
fn damaged_exif_is_as_none() {
    let whole = fixture("jpeg/exif_orientation_6.jpg");
    let at = whole.windows(6).position(|window| window == b"Exif\0\0").unwrap() + 6;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.jpg");
    for offset in 0..26 {
        for value in [0, 1, 0x7F, 0xFF] {
            let mut bytes = whole.clone();
            bytes[at + offset] = value;
            std::fs::write(&path, &bytes).unwrap();
            let read = dimensions(&path).unwrap();
            assert_eq!(decode(&path).unwrap().width, read.width);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// A size that is read is the right one: whatever happens to a file, if it can be decoded at all
    /// then its header says what comes out.
    #[test]
    fn a_damaged_header_never_panics_and_never_gives_another_size(
        which in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        within in prop::sample::select(vec![40_usize, 200, 1_000, 100_000]),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let names: Vec<String> = expected().images.into_keys().collect();
        let mut bytes = fixture(&names[which.index(names.len())]);
        let within = within.min(bytes.len());
        for (at, value) in flips {
            bytes[at.index(within)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let read = dimensions(file.path());
        if let Ok(image) = decode_bytes(&bytes) {
            let read = read.unwrap();
            prop_assert_eq!((read.width, read.height), (image.width, image.height));
        }
    }
}
