//! The worker pool over a fake detector: order, independence of the number of workers, bad images.

use std::path::Path;

use detgate::dataset::image::RgbImage;
use detgate::dataset::{Bbox, ImageRecord};
use detgate::detections::{DetectError, Detection, Detector};
use detgate::inference::{ImageResult, InferenceError, Settings, run};

/// Finds one box whose size tells which image it saw; fails on images 13 pixels wide.
struct FakeDetector;

impl Detector for FakeDetector {
    fn detect(&self, image: &RgbImage) -> Result<Vec<Detection>, DetectError> {
        if image.width == 13 {
            return Err(DetectError("13 is unlucky".to_owned()));
        }
        // The first images take longest, so that workers finish out of order.
        std::thread::sleep(std::time::Duration::from_millis(u64::from(30 - image.width)));
        let bbox = Bbox::from([0.0, 0.0, f64::from(image.width), f64::from(image.height)]);
        Ok(vec![Detection { bbox, score: 0.5, category_id: 1 }])
    }
}

fn write_png(path: &Path, width: u32) {
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, width, 2);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![7; width as usize * 2 * 3]).unwrap();
}

fn record(folder: &Path, width: u32) -> ImageRecord {
    let file_name = format!("{width}.png");
    let path = folder.join(&file_name);
    write_png(&path, width);
    ImageRecord { id: i64::from(width), file_name, path, width, height: 2, ground_truth: vec![] }
}

fn settings(workers: usize, skip_bad_images: bool) -> Settings {
    Settings { workers, skip_bad_images }
}

fn width_found(result: &ImageResult) -> Option<f64> {
    result.outcome.as_ref().ok().map(|detections| detections[0].bbox.w)
}

#[test]
fn results_keep_the_order_of_the_images_whatever_the_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<ImageRecord> = (1..=9).map(|width| record(folder.path(), width)).collect();
    let mut finished = 0;
    let one = run(&FakeDetector, &images, settings(1, false), || finished += 1).unwrap();
    let widths: Vec<_> = one.iter().map(|result| width_found(result).unwrap()).collect();
    assert_eq!(widths, (1..=9).map(f64::from).collect::<Vec<_>>());
    assert_eq!(finished, images.len());
    for workers in [2, 4, 32] {
        assert_eq!(run(&FakeDetector, &images, settings(workers, false), || ()).unwrap(), one);
    }
}

#[test]
fn a_bad_image_stops_the_run_or_is_listed_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let images: Vec<ImageRecord> = (1..=3).map(|width| record(folder.path(), width)).collect();
    std::fs::write(&images[1].path, b"\x89PNG\r\n\x1a\n, and then nothing of the kind").unwrap();

    let error = run(&FakeDetector, &images, settings(1, false), || ()).unwrap_err();
    assert!(matches!(error, InferenceError::BadImage(_)), "{error}");
    assert!(error.to_string().contains("2.png"), "{error}");
    assert!(error.to_string().contains("--skip-bad-images"), "{error}");

    let results = run(&FakeDetector, &images, settings(2, true), || ()).unwrap();
    assert!(results[1].outcome.as_ref().unwrap_err().contains("PNG"));
    assert_eq!([width_found(&results[0]), width_found(&results[2])], [Some(1.0), Some(3.0)]);
}

#[test]
fn a_failing_detector_and_a_vanished_file_name_the_image() {
    let folder = tempfile::tempdir().unwrap();
    let mut images = vec![record(folder.path(), 13)];
    let error = run(&FakeDetector, &images, settings(1, true), || ()).unwrap_err().to_string();
    assert!(error.contains("13.png: 13 is unlucky"), "{error}");
    images[0].path.set_file_name("gone.png");
    let error = run(&FakeDetector, &images, settings(1, true), || ()).unwrap_err().to_string();
    assert!(error.contains("gone.png"), "{error}");
}

#[test]
fn equal_bytes_have_equal_digests() {
    let folder = tempfile::tempdir().unwrap();
    let images = [4, 5].map(|width| record(folder.path(), width));
    let first = run(&FakeDetector, &images, settings(2, false), || ()).unwrap();
    std::fs::copy(&images[0].path, &images[1].path).unwrap();
    let second = run(&FakeDetector, &images, settings(2, false), || ()).unwrap();
    assert_ne!(first[0].digest, first[1].digest);
    assert_eq!(first[0].digest, second[0].digest);
    assert_eq!(second[0].digest, second[1].digest);
}
