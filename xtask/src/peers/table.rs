//! Measurements in, Markdown out.

use super::measure::{Run, Usage, median};
use super::numbers::{Numbers, agreement};

/// One engine at one size.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) version: String,
    /// The measurements, or why there are none.
    pub(crate) outcome: Result<Measured, String>,
}

/// What an engine's runs gave.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// Wall time of each timed run; at least one.
    pub(crate) seconds: Vec<f64>,
    /// Of the same runs, where the platform tells.
    pub(crate) usage: Vec<Usage>,
    /// What the same runs wrote to standard error.
    pub(crate) said: Vec<String>,
    pub(crate) numbers: Numbers,
}

impl Measured {
    /// No run yet, but its numbers.
    pub(crate) fn new(numbers: Numbers) -> Measured {
        Measured { seconds: Vec::new(), usage: Vec::new(), said: Vec::new(), numbers }
    }

    /// Takes a run into account.
    pub(crate) fn add(&mut self, run: Run) {
        self.seconds.push(run.seconds);
        self.usage.extend(run.usage);
        self.said.push(run.stderr);
    }

    /// The median wall time.
    pub(crate) fn median(&self) -> f64 {
        median(&self.seconds)
    }

    fn cpu_seconds(&self) -> Option<f64> {
        let seconds: Vec<f64> = self.usage.iter().map(|usage| usage.cpu_seconds).collect();
        (!seconds.is_empty()).then(|| median(&seconds))
    }

    fn peak_bytes(&self) -> Option<u64> {
        self.usage.iter().map(|usage| usage.peak_bytes).max()
    }
}

/// Seconds are wall time but for `CPU s`, which adds up all threads; `ratio` is to detgate's median.
const HEADER: [&str; 8] = [
    "engine",
    "version",
    "median s",
    "min s",
    "ratio",
    "CPU s",
    "peak MB",
    "12 numbers equal detgate's",
];

/// A table with the fastest first and the missing last; `rounds` is how many were asked for.
pub(crate) fn render(rows: &[Row], reference: &Measured, rounds: usize) -> String {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    let seconds = |row: &Row| row.outcome.as_ref().map_or(f64::INFINITY, Measured::median);
    sorted.sort_by(|a, b| seconds(a).total_cmp(&seconds(b)));
    let mut lines = vec![HEADER.map(str::to_owned)];
    lines.extend(sorted.iter().map(|row| cells(row, reference, rounds)));
    aligned(&lines, |column| (2..7).contains(&column))
}

fn cells(row: &Row, reference: &Measured, rounds: usize) -> [String; 8] {
    let (name, version) = (row.name.clone(), row.version.clone());
    let none = || "-".to_owned();
    let measured = match &row.outcome {
        Ok(measured) => measured,
        Err(why) => {
            return [name, version, none(), none(), none(), none(), none(), one_cell(why)];
        }
    };
    let time = measured.median();
    let fewer = match measured.seconds.len() {
        n if n >= rounds => String::new(),
        1 => " (1 run)".into(),
        n => format!(" ({n} runs)"),
    };
    let fastest = measured.seconds.iter().copied().fold(f64::INFINITY, f64::min);
    [
        name,
        version,
        format!("{time:.3}{fewer}"),
        format!("{fastest:.3}"),
        format!("{:.2}", time / reference.median()),
        measured.cpu_seconds().map_or_else(none, |seconds| format!("{seconds:.3}")),
        measured.peak_bytes().map_or_else(none, |bytes| format!("{:.0}", bytes as f64 / 1e6)),
        agreement(&reference.numbers, &measured.numbers),
    ]
}

/// An error's words, which may hold anything, as one cell.
fn one_cell(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/")
}

/// Markdown: words to the left, numbers to the right.
pub(crate) fn aligned<const N: usize>(
    lines: &[[String; N]],
    numeric: impl Fn(usize) -> bool,
) -> String {
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0).max(3)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let rule = widths.iter().enumerate().map(|(column, &width)| {
        if numeric(column) { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(width) }
    });
    let rule = format!("| {} |\n", rule.collect::<Vec<_>>().join(" | "));
    let mut text = String::new();
    for (i, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if numeric(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
        if i == 0 {
            text += &rule;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(seconds: &[f64], peak_mb: u64, numbers: Numbers) -> Measured {
        let mut measured = Measured::new(numbers);
        for &seconds in seconds {
            let usage = Usage { cpu_seconds: 2.0 * seconds, peak_bytes: peak_mb * 1_000_000 };
            let (stdout, stderr) = (String::new(), String::new());
            measured.add(Run { seconds, usage: Some(usage), stdout, stderr });
        }
        measured
    }

    fn row(name: &str, outcome: Result<Measured, String>) -> Row {
        Row { name: name.into(), version: "1.0".into(), outcome }
    }

    #[test]
    fn the_fastest_is_first_and_what_is_missing_says_why() {
        let ours = measured(&[0.2, 0.1, 0.3], 90, [0.5; 12]);
        let mut off = [0.5; 12];
        off[3] = 0.25;
        let rows = [
            row("absent", Err("no wheel\n".into())),
            row("slow", Ok(measured(&[60.0], 1900, off))),
            row("detgate", Ok(ours.clone())),
        ];
        let expected = "\
| engine  | version |       median s |  min s |  ratio |   CPU s | peak MB | 12 numbers equal detgate's          |
| ------- | ------- | -------------: | -----: | -----: | ------: | ------: | ----------------------------------- |
| detgate | 1.0     |          0.200 |  0.100 |   1.00 |   0.400 |      90 | all 12, to the last bit             |
| slow    | 1.0     | 60.000 (1 run) | 60.000 | 300.00 | 120.000 |    1900 | 11 of 12, others up to 2.5e-1 apart |
| absent  | 1.0     |              - |      - |      - |       - |       - | no wheel                            |
";
        assert_eq!(render(&rows, &ours, 3), expected);
    }
}
