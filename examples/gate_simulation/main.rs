//! Shows by simulation how far the gate's statistics can be trusted: see `docs/statistics.md`, which
//! holds what this prints.
//!
//!     cargo run --release --example gate_simulation
//!
//! The same arguments print the same, on every platform and with any number of threads.

mod study;
mod table;
mod world;

use clap::{Parser, ValueEnum};

/// Coverage, false alarms and power of the gate's statistics, on generated detectors.
#[derive(Parser)]
struct Arguments {
    /// Pairs of detectors in each setting.
    #[arg(long, default_value_t = 1000)]
    pairs: usize,
    /// Replicates of each bootstrap.
    #[arg(long, default_value_t = 500)]
    replicates: usize,
    /// The same seed gives the same numbers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Sizes of the validation sets of the first table.
    #[arg(long, value_delimiter = ',', default_values_t = [200, 1000])]
    images: Vec<usize>,
    /// Images from which the truth is read where it is not known.
    #[arg(long, default_value_t = 200_000)]
    truth_images: usize,
    /// Which tables; all of them if none is named.
    #[arg(long, value_enum)]
    table: Vec<Table>,
}

/// The tables of `docs/statistics.md`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// Coverage, false alarms and what margins do, where nothing changed.
    Null,
    /// How often known drops are found.
    Power,
    /// Classes that are on few images.
    Rare,
    /// Images that come in groups.
    Groups,
}

fn main() {
    let arguments = Arguments::parse();
    let wanted = |table| arguments.table.is_empty() || arguments.table.contains(&table);
    let tables = [
        (Table::Null, table::null as fn(&Arguments) -> String),
        (Table::Power, table::power),
        (Table::Rare, table::rare),
        (Table::Groups, table::groups),
    ];
    for (name, make) in tables {
        if wanted(name) {
            println!("{}", make(&arguments));
        }
    }
}
