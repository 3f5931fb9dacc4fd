//! What is kept and recalled, by whom, and what is removed.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use detgate::inference::cache::{Key, gc, list};

use crate::support::{Folder, NO_LIMIT, image, key, known, outcome};

fn set(images: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    images.into_iter().collect()
}

#[test]
fn the_next_run_knows_what_was_kept_to_the_last_bit() {
    let folder = Folder::new();
    assert_eq!(folder.known("a"), set([]));
    folder.keep("a", 0..50);
    assert_eq!(folder.known("a"), set(0..50));
}

#[test]
fn a_run_that_is_killed_loses_nothing_that_it_finished() {
    let folder = Folder::new();
    let mut cache = folder.cache("a");
    (0..9).for_each(|n| cache.keep(&image(n), &outcome(n)));
    // It never gets to `finish`.
    std::mem::forget(cache);
    assert_eq!(folder.known("a"), set(0..9));
}

#[test]
fn another_model_or_other_settings_are_other_predictions() {
    let folder = Folder::new();
    folder.keep("a", 0..5);
    assert_eq!(folder.known("b"), set([]));
    let facts = |min_size: &str| {
        Key::new([("model_blake3", "a".to_owned()), ("min_size", min_size.to_owned())])
    };
    assert_eq!(facts("800"), key("a"));
    assert_ne!(facts("320"), key("a"));
    // What one fact lacks, another cannot lend it.
    let split = |a: &str, b: &str| Key::new([("a", a.to_owned()), ("b", b.to_owned())]);
    assert_ne!(split("12", "3"), split("1", "23"));
}

#[test]
fn files_of_one_model_under_the_name_of_another_are_worth_nothing() {
    let folder = Folder::new();
    folder.keep("a", 0..5);
    folder.keep("b", 10..12);
    let files = folder.files();
    let [a, b] = &files[..] else { panic!("{files:?}") };
    let (of_a, of_b) = (std::fs::read(a).unwrap(), std::fs::read(b).unwrap());
    std::fs::write(a, of_b).unwrap();
    std::fs::write(b, of_a).unwrap();
    assert_eq!((folder.known("a"), folder.known("b")), (set([]), set([])));
}

#[test]
fn many_runs_leave_few_files_and_lose_nothing() {
    let folder = Folder::new();
    for n in 0..60 {
        folder.keep("a", [n, n / 2]);
    }
    assert_eq!(folder.known("a"), set(0..60));
    assert!(folder.files().len() < 12, "{:?}", folder.files());
    let [group] = &list(&folder.path()).unwrap()[..] else { panic!("one model") };
    assert_eq!(group.images, 60);
}

#[test]
fn a_run_whose_files_another_one_merges_meanwhile_reads_them_all() {
    let folder = Folder::new();
    std::thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|n| folder.keep("a", [n])));
        let mut last = 0;
        while last < 200 {
            let found = folder.known("a").len();
            assert!(found >= last, "{found} images after {last}");
            last = found;
        }
    });
}

#[test]
fn what_was_not_used_for_longest_is_removed_first() {
    let folder = Folder::new();
    for (model, hours) in [("a", 3), ("b", 2), ("c", 1)] {
        folder.keep(model, 0..40);
        let used = SystemTime::now() - Duration::from_secs(hours * 3600);
        let newest = folder
            .files()
            .into_iter()
            .max_by_key(|file| file.metadata().unwrap().modified().unwrap());
        std::fs::File::open(newest.unwrap()).unwrap().set_modified(used).unwrap();
    }
    let size = |model: &str| {
        list(&folder.path())
            .unwrap()
            .into_iter()
            .find(|g| g.facts["model_blake3"] == model)
            .unwrap()
            .bytes
    };
    let all = ["a", "b", "c"].map(size).iter().sum::<u64>();
    // To be recalled is to be used.
    assert_eq!(folder.known("a"), set(0..40));
    let removed = gc(&folder.path(), all - 1, None).unwrap();
    assert_eq!((removed.files, removed.left), (1, all - size("a")));
    assert_eq!(folder.known("b"), set([]));
    assert_eq!((folder.known("a"), folder.known("c")), (set(0..40), set(0..40)));
    assert_eq!(gc(&folder.path(), 0, None).unwrap().left, 0);
    assert_eq!(folder.files(), [""; 0].map(std::path::PathBuf::from));
}

#[test]
fn what_a_run_uses_is_not_removed() {
    let folder = Folder::new();
    folder.keep("read", 0..5);
    let mut reader = folder.cache("read");
    assert_eq!(known(&mut reader), set(0..5));
    let mut writer = folder.cache("written");
    (0..5).for_each(|n| writer.keep(&image(n), &outcome(n)));
    folder.keep("idle", 0..5);
    assert_eq!(gc(&folder.path(), 0, None).unwrap().files, 1);
    assert_eq!(folder.known("idle"), set([]));
    assert_eq!((folder.known("read"), folder.known("written")), (set(0..5), set(0..5)));
    drop((reader, writer));
    assert_eq!(gc(&folder.path(), 0, None).unwrap().left, 0);
}

#[test]
fn a_run_keeps_to_the_limit_but_spares_its_own() {
    let folder = Folder::new();
    folder.keep("old", 0..40);
    let mut cache = folder.cache("new");
    (0..40).for_each(|n| cache.keep(&image(n), &outcome(n)));
    cache.finish(1);
    assert_eq!((folder.known("old"), folder.known("new")), (set([]), set(0..40)));
}

#[test]
fn the_list_says_what_is_there() {
    let folder = Folder::new();
    assert_eq!(list(&folder.path()).unwrap(), []);
    folder.keep("a", 0..7);
    let [group] = &list(&folder.path()).unwrap()[..] else { panic!("one model") };
    assert_eq!((group.images, group.facts["model_blake3"].as_str()), (7, "a"));
    assert_eq!(group.bytes, folder.files()[0].metadata().unwrap().len());
    assert!(group.used.elapsed().unwrap() < Duration::from_secs(60));
    assert_eq!(folder.cache("a").finish(NO_LIMIT), Vec::<String>::new());
}
