//! The HTML page as a reader has it: what it says without a browser, and what it does in a real one.

#[path = "../common/chromium.rs"]
mod chromium;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/random.rs"]
mod random;

mod counts;
mod files;
mod first_run;
mod hostile;
mod large;
mod regression;
mod support;
