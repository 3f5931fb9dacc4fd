//! Where and when: what has to stand beside any measured time.

use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Such as `2026-11-23, AMD EPYC 7713 64-Core Processor, 2 cores, linux x86_64`.
pub(crate) fn describe() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = civil(seconds / 86_400);
    let processor = processor().unwrap_or_else(|| "unknown processor".into());
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("{year}-{month:02}-{day:02}, {processor}, {} cores, {os} {arch}", threads())
}

/// As many threads as this process may use at once.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn processor() -> Option<String> {
    if cfg!(target_os = "macos") {
        let mut sysctl = Command::new("sysctl");
        let output =
            sysctl.args(["-n", "machdep.cpu.brand_string"]).stdin(Stdio::null()).output().ok()?;
        return Some(String::from_utf8(output.stdout).ok()?.trim().to_owned());
    }
    if cfg!(windows) {
        return std::env::var("PROCESSOR_IDENTIFIER").ok();
    }
    model_name(&std::fs::read_to_string("/proc/cpuinfo").ok()?)
}

fn model_name(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Year, month and day of a day counted from 1970-01-01, by counting off years and months.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(civil(11_017), (2000, 3, 1));
        assert_eq!(civil(20_818), (2026, 12, 31));
        assert_eq!(civil(20_819), (2027, 1, 1));
    }

    #[test]
    fn the_processors_name_is_read() {
        let text =
            "processor\t: 0\nmodel name\t: AMD EPYC 7713 64-Core Processor\nprocessor\t: 1\n";
        assert_eq!(model_name(text).as_deref(), Some("AMD EPYC 7713 64-Core Processor"));
        assert_eq!(model_name("processor: 0\n"), None);
    }
}
