//! Which files are read again; what one changed image costs.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use detgate::dataset::image::RgbImage;
use detgate::dataset::{Bbox, ImageRecord};
use detgate::detections::{DetectError, Detection, Detector};
use detgate::inference::cache::{FileIndex, digest};
use detgate::inference::resume::recall;
use detgate::inference::{ImageResult, InferenceError, Settings, run_until};

use crate::support::{Folder, NO_LIMIT};

const SETTINGS: Settings = Settings { workers: 2, skip_bad_images: false };

/// Counts how often it is asked.
struct Counting(AtomicUsize);

impl Detector for Counting {
    fn detect(&self, image: &RgbImage) -> Result<Vec<Detection>, DetectError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let bbox = Bbox::from([0.1, 0.2, f64::from(image.width), f64::from(image.data[0])]);
        Ok(vec![Detection { bbox, score: 0.1 + 0.2, category_id: 1 }])
    }
}

fn write_png(path: &Path, width: u32, gray: u8) {
    let file = std::fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, width, 1);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&vec![gray; width as usize * 3]).unwrap();
}

fn images(folder: &Path) -> Vec<ImageRecord> {
    let record = |width: u32| {
        let file_name = format!("{width}.png");
        let path = folder.join(&file_name);
        write_png(&path, width, 9);
        ImageRecord { id: 1, file_name, path, width, height: 1, ground_truth: vec![] }
    };
    (1..=6).map(record).collect()
}

/// An evaluation's results, and how many images were run for it.
fn evaluate(
    folder: &Folder,
    images: &[ImageRecord],
    settings: Settings,
) -> (Vec<ImageResult>, usize) {
    let mut cache = folder.cache("a");
    let mut index = FileIndex::read(&folder.path(), &folder.path());
    let mut results = recall(images, settings, &mut cache, &mut index, false).unwrap();
    let missing: Vec<usize> = (0..images.len()).filter(|&i| results[i].is_none()).collect();
    let asked: Vec<&ImageRecord> = missing.iter().map(|&i| &images[i]).collect();
    let detector = Counting(AtomicUsize::new(0));
    let never = AtomicBool::new(false);
    let keep =
        |_: usize, result: &ImageResult, _| cache.keep(&result.digest.unwrap(), &result.outcome);
    let found = run_until(&never, &detector, &asked, settings, keep).unwrap();
    for (place, result) in missing.into_iter().zip(found) {
        results[place] = result;
    }
    assert_eq!(cache.finish(NO_LIMIT), Vec::<String>::new());
    (results.into_iter().map(Option::unwrap).collect(), detector.0.into_inner())
}

#[test]
fn one_changed_image_is_one_run_of_the_model() {
    let (folder, data) = (Folder::new(), tempfile::tempdir().unwrap());
    let images = images(data.path());
    let (first, runs) = evaluate(&folder, &images, SETTINGS);
    assert_eq!(runs, 6);
    assert_eq!(evaluate(&folder, &images, SETTINGS), (first.clone(), 0));
    write_png(&images[2].path, 3, 200);
    let (changed, runs) = evaluate(&folder, &images, SETTINGS);
    assert_eq!(runs, 1);
    assert_ne!(changed[2], first[2]);
    assert_eq!((&changed[..2], &changed[3..]), (&first[..2], &first[3..]));
    // An image under another name is the same image.
    std::fs::copy(&images[0].path, &images[5].path).unwrap();
    assert_eq!(evaluate(&folder, &images, SETTINGS).1, 0);
}

#[test]
fn an_image_that_cannot_be_decoded_is_known_too() {
    let (folder, data) = (Folder::new(), tempfile::tempdir().unwrap());
    let images = images(data.path());
    std::fs::write(&images[1].path, "no image at all").unwrap();
    let skipping = Settings { skip_bad_images: true, ..SETTINGS };
    let (first, runs) = evaluate(&folder, &images, skipping);
    assert_eq!(runs, 5);
    assert!(first[1].outcome.as_ref().unwrap_err().contains("not a supported image"));
    assert_eq!(evaluate(&folder, &images, skipping), (first, 0));
    // Whoever does not skip it is told at once, in the same words as without a cache.
    let mut cache = folder.cache("a");
    let mut index = FileIndex::read(&folder.path(), &folder.path());
    let recalled = recall(&images, SETTINGS, &mut cache, &mut index, false).unwrap_err();
    let (never, detector) = (AtomicBool::new(false), Counting(AtomicUsize::new(0)));
    let all: Vec<&ImageRecord> = images.iter().collect();
    let run = run_until(&never, &detector, &all, SETTINGS, |_, _, _| ()).unwrap_err();
    assert!(matches!(recalled, InferenceError::BadImage(_)), "{recalled}");
    assert_eq!(recalled.to_string(), run.to_string());
}

/// Asks for the end while it works on its second image.
struct Interrupted<'s> {
    stop: &'s AtomicBool,
    asked: AtomicUsize,
}

impl Detector for Interrupted<'_> {
    fn detect(&self, _: &RgbImage) -> Result<Vec<Detection>, DetectError> {
        self.stop.fetch_or(self.asked.fetch_add(1, Ordering::Relaxed) == 1, Ordering::Relaxed);
        Ok(Vec::new())
    }
}

#[test]
fn once_it_is_stopped_no_image_is_begun_and_those_in_flight_are_finished() {
    let data = tempfile::tempdir().unwrap();
    let images = images(data.path());
    let all: Vec<&ImageRecord> = images.iter().collect();
    let one = Settings { workers: 1, ..SETTINGS };
    let stop = AtomicBool::new(false);
    let detector = Interrupted { stop: &stop, asked: AtomicUsize::new(0) };
    let mut kept = Vec::new();
    let results = run_until(&stop, &detector, &all, one, |place, _, _| kept.push(place)).unwrap();
    let finished: Vec<bool> = results.iter().map(Option::is_some).collect();
    assert_eq!(finished, [true, true, false, false, false, false]);
    assert_eq!(kept, [0, 1]);
    let results = run_until(&stop, &detector, &all, one, |_, _, _| ()).unwrap();
    assert_eq!(results, vec![None; 6]);
}

fn age(path: &Path) {
    let long_ago = SystemTime::now() - Duration::from_secs(1000);
    std::fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

/// The digest that an index that was written and read again gives.
fn remembered(folder: &Folder, file: &Path) -> Option<blake3::Hash> {
    FileIndex::read(&folder.path(), Path::new("data")).get(file)
}

fn remember(folder: &Folder, file: &Path) {
    let mut index = FileIndex::read(&folder.path(), Path::new("data"));
    index.insert(file, &digest(file).unwrap());
    index.write().unwrap();
}

#[test]
fn a_file_is_read_again_unless_nothing_of_it_has_changed() {
    let (folder, data) = (Folder::new(), tempfile::tempdir().unwrap());
    let file: PathBuf = data.path().join("image");
    std::fs::write(&file, "before").unwrap();
    age(&file);
    remember(&folder, &file);
    assert_eq!(remembered(&folder, &file), None, "its status has changed within the last tick");
    // The time of status change cannot be set, so there is no other way than to wait.
    std::thread::sleep(Duration::from_millis(3200));
    remember(&folder, &file);
    assert_eq!(remembered(&folder, &file), Some(blake3::hash(b"before")));

    let index = folder.path().read_dir().unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&index).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        std::fs::write(&index, &bytes).unwrap();
        assert_eq!(remembered(&folder, &file), None);
        std::fs::write(&index, &whole[..at]).unwrap();
        assert_eq!(remembered(&folder, &file), None);
    }
    std::fs::write(&index, &whole).unwrap();
    assert_eq!(remembered(&folder, &file), Some(blake3::hash(b"before")));

    let modified = file.metadata().unwrap().modified().unwrap();
    std::fs::write(&file, "after!").unwrap();
    std::fs::File::options().write(true).open(&file).unwrap().set_modified(modified).unwrap();
    assert_eq!(remembered(&folder, &file), None, "same size, same time of modification");
}
