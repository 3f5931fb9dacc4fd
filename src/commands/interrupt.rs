//! SIGINT and SIGTERM, for the whole process.
//!
//! A signal ends the process at once, as it would without us, except while something is being done with
//! [`Careful`]: then the first one asks for the end, and the second ends the process at once. Handlers are
//! installed once, however often care is taken.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

static WATCH: OnceLock<Watch> = OnceLock::new();

/// What the handlers know and set.
struct Watch {
    /// The next signal ends the process.
    at_once: Arc<AtomicBool>,
    /// A signal has come while care was taken.
    interrupted: Arc<AtomicBool>,
    /// Which, 0 for none.
    signal: Arc<AtomicUsize>,
}

impl Watch {
    fn install() -> std::io::Result<Self> {
        let watch = Self {
            at_once: Arc::new(AtomicBool::new(true)),
            interrupted: Arc::default(),
            signal: Arc::default(),
        };
        for signal in [SIGINT, SIGTERM] {
            // They run in this order.
            flag::register_conditional_shutdown(signal, 128 + signal, watch.at_once.clone())?;
            flag::register_usize(signal, watch.signal.clone(), signal as usize)?;
            flag::register(signal, watch.interrupted.clone())?;
            flag::register(signal, watch.at_once.clone())?;
        }
        Ok(watch)
    }
}

/// While it lives, the first signal asks for the end instead of bringing it.
pub(crate) struct Careful(&'static Watch);

/// Takes care from now on.
pub(crate) fn careful() -> anyhow::Result<Careful> {
    let watch = match WATCH.get() {
        Some(watch) => watch,
        None => {
            let watch = Watch::install().context("cannot watch for signals")?;
            WATCH.get_or_init(|| watch)
        }
    };
    // A signal that has come before is not forgotten: the next one ends the process.
    watch.at_once.store(watch.interrupted.load(Ordering::SeqCst), Ordering::SeqCst);
    Ok(Careful(watch))
}

impl Careful {
    /// Set when the end is asked for.
    pub(crate) fn interrupted(&self) -> &Arc<AtomicBool> {
        &self.0.interrupted
    }
}

impl Drop for Careful {
    fn drop(&mut self) {
        self.0.at_once.store(true, Ordering::SeqCst);
    }
}

/// The exit code of a process that was asked to end: 130 for SIGINT, 143 for SIGTERM.
pub(crate) fn exit_code() -> Option<u8> {
    let signal = WATCH.get()?.signal.load(Ordering::SeqCst);
    u8::try_from(128 + signal).ok().filter(|_| signal > 0)
}
