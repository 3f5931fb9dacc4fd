//! Damage, full disks, folders that cannot be used, several processes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use detgate::inference::cache::Cache;

use crate::support::{Folder, NO_LIMIT, image, key, known, outcome};

/// What a process of its own is to do, which is this program again.
const CHILD: &str = "DETGATE_TEST_CACHE_CHILD";

fn child(command: &mut Command, test: &str, folder: &Folder, first: u32) -> Child {
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, format!("{first} {}", folder.path().display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the parent asked for: a number and a folder.
fn asked() -> Option<(u32, String)> {
    let asked = std::env::var(CHILD).ok()?;
    let (first, folder) = asked.split_once(' ').unwrap();
    Some((first.parse().unwrap(), folder.to_owned()))
}

#[test]
fn a_bit_that_flips_anywhere_costs_one_image_at_most() {
    let folder = Folder::new();
    folder.keep("a", 0..4);
    let file = folder.files().remove(0);
    let whole = std::fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        std::fs::write(&file, &bytes).unwrap();
        assert!(folder.known("a").len() >= 3, "byte {at}");
    }
}

#[test]
fn a_file_that_ends_anywhere_is_used_as_far_as_it_goes_and_the_rest_kept_again() {
    let folder = Folder::new();
    folder.keep("a", 0..4);
    let file = folder.files().remove(0);
    let whole = std::fs::read(&file).unwrap();
    let mut last = 4;
    for end in (0..whole.len()).rev() {
        std::fs::write(&file, &whole[..end]).unwrap();
        let known = folder.known("a");
        assert!(
            known.len() <= last && known.iter().copied().eq(0..known.len() as u32),
            "{known:?}"
        );
        last = known.len();
    }
    assert_eq!(last, 0);
    folder.keep("a", 0..4);
    assert_eq!(folder.known("a").len(), 4);
}

#[test]
fn a_file_of_another_version_is_said_once_and_left_alone() {
    let folder = Folder::new();
    folder.keep("a", 0..4);
    let file = folder.files().remove(0);
    let later = b"detgate predictions 2\nwhatever that will be".to_vec();
    std::fs::write(&file, &later).unwrap();
    let mut cache = folder.cache("a");
    assert_eq!(known(&mut cache), BTreeSet::new());
    cache.keep(&image(1), &outcome(1));
    let said = cache.finish(NO_LIMIT);
    assert!(said.len() == 1 && said[0].contains("another version"), "{said:?}");
    assert_eq!(std::fs::read(&file).unwrap(), later);
    assert_eq!(folder.known("a"), [1].into());
}

/// Whatever the reason: one notice, and results all the same.
fn goes_on_without(folder: &Path) {
    let mut cache = Cache::new(folder, key("a"));
    assert_eq!(known(&mut cache), BTreeSet::new());
    (0..9).for_each(|n| cache.keep(&image(n), &outcome(n)));
    let said = cache.finish(NO_LIMIT);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("goes on without it"), "{said:?}");
    assert!(said[0].contains(&folder.display().to_string()), "{said:?}");
}

#[test]
fn a_folder_that_cannot_be_used_is_a_notice() {
    let folder = Folder::new();
    std::fs::write(folder.path(), "a file where the folder should be").unwrap();
    goes_on_without(&folder.path());
    goes_on_without(&folder.path().join("below it"));
    if cfg!(target_os = "linux") {
        // Nobody can write there, not even root.
        goes_on_without(Path::new("/proc/detgate"));
    }
}

#[test]
fn a_cache_that_can_only_be_read_is_read() {
    let folder = Folder::new();
    folder.keep("a", 0..4);
    // What root, too, cannot write to is not portable; a name that cannot be made is.
    let mut cache = folder.cache("a");
    assert_eq!(known(&mut cache).len(), 4);
    std::fs::rename(folder.path(), folder.path().with_extension("moved")).unwrap();
    std::fs::write(folder.path(), "a file where the folder should be").unwrap();
    cache.keep(&image(7), &outcome(7));
    cache.keep(&image(8), &outcome(8));
    assert_eq!(cache.finish(NO_LIMIT).len(), 1);
}

/// A limit on the size of files is to a program what a full disk is: a write that ends early.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_notice_and_what_was_written_counts() {
    const TEST: &str = "faults::a_full_disk_is_a_notice_and_what_was_written_counts";
    if let Some((_, folder)) = asked() {
        let mut cache = Cache::new(Path::new(&folder), key("a"));
        (0..1000).for_each(|n| cache.keep(&image(n), &outcome(n)));
        let said = cache.finish(NO_LIMIT);
        assert!(said.len() == 1 && said[0].contains("File too large"), "{said:?}");
        return;
    }
    let folder = Folder::new();
    let this = std::env::current_exe().unwrap();
    let mut shell = Command::new("sh");
    // 20 blocks of 512 bytes; without the trap the system would end the process.
    shell.args(["-c", "trap '' XFSZ; ulimit -f 20; exec \"$0\" \"$@\""]).arg(this);
    let output = child(&mut shell, TEST, &folder, 0).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    let known = folder.known("a");
    assert!(known.len() > 20 && known.iter().copied().eq(0..known.len() as u32), "{known:?}");
}

#[test]
fn processes_that_use_one_cache_at_once_lose_nothing() {
    const TEST: &str = "faults::processes_that_use_one_cache_at_once_lose_nothing";
    if let Some((first, folder)) = asked() {
        // Each run reads what there is, keeps some, merges and removes with the others.
        for n in (first..first + 200).step_by(10) {
            let mut cache = Cache::new(Path::new(&folder), key("a"));
            known(&mut cache);
            (n..n + 10).for_each(|n| cache.keep(&image(n), &outcome(n)));
            assert_eq!(cache.finish(NO_LIMIT), Vec::<String>::new());
        }
        return;
    }
    let folder = Folder::new();
    let start =
        |first| child(&mut Command::new(std::env::current_exe().unwrap()), TEST, &folder, first);
    // They overlap: some images are kept twice.
    let children: Vec<Child> = [0, 100, 200, 300].map(start).into();
    for process in children {
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
    assert_eq!(folder.known("a"), (0..500).collect());
}

#[test]
fn a_process_that_is_killed_while_it_writes_leaves_whole_records() {
    const TEST: &str = "faults::a_process_that_is_killed_while_it_writes_leaves_whole_records";
    if let Some((first, folder)) = asked() {
        let mut cache = Cache::new(Path::new(&folder), key("a"));
        (first..1000).for_each(|n| cache.keep(&image(n), &outcome(n)));
        loop {
            std::thread::park();
        }
    }
    let folder = Folder::new();
    let mut last = 0;
    while last < 1000 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let mut process = child(&mut command, TEST, &folder, last);
        // Until it has got somewhere; it then is anywhere.
        let begun = last;
        while last < 1000 && last < begun + 150 {
            let known = folder.known("a");
            assert!(known.iter().copied().eq(0..known.len() as u32), "{known:?}");
            last = known.len() as u32;
        }
        process.kill().unwrap();
        process.wait().unwrap();
        last = folder.known("a").len() as u32;
    }
}
