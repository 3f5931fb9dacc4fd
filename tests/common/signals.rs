//! A running evaluation that gets a signal.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::common::Demo;

fn bytes_in_cache(demo: &Demo) -> u64 {
    let Ok(entries) = demo.path("cache/predictions").read_dir() else { return 0 };
    let is_of_predictions = |name: &str| name.ends_with(".predictions");
    let entries = entries.flatten();
    let ours = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_of_predictions));
    ours.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
}

/// Waits until an image is finished, and so until inference has begun.
pub(crate) fn wait_for_images(demo: &Demo, child: &mut Child) {
    let header = 2000;
    let deadline = Instant::now() + Duration::from_secs(60);
    while bytes_in_cache(demo) < header {
        assert!(child.try_wait().unwrap().is_none(), "it has ended already");
        assert!(Instant::now() < deadline, "no image was ever finished");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn kill(signals: &[&str], child: &Child) {
    let each = signals.iter().map(|signal| format!("kill -{signal} {}", child.id()));
    let script = each.collect::<Vec<_>>().join("; ");
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}
