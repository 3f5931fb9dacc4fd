//! What is tried again, when, and how often.
//!
//! Two kinds of calls: those that may be repeated as they are ([`Client::repeated`]), and those that make
//! something ([`Client::once`]), whose answer may be lost after the server did its work. The latter carry a
//! mark of ours and are looked for before they are made again.
//!
//! Deliberately absent: a limit on the time of a whole publication (each call has its own), and a
//! circuit breaker: the first call that is given up ends the publication.

use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Client;
use super::{Event, RegistryError};

/// What is tried again on the way out, when the user or an error has already ended the publication.
const LAST_RETRIES: u32 = 3;
/// A server that asks for more patience than this is given up.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);
/// How often a wait looks whether the user has stopped it.
const SLICE: Duration = Duration::from_millis(50);

/// How calls that failed for the moment are repeated: after `first`, then each time after twice as
/// long up to `longest`, each wait shortened at random by up to half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often a call is repeated; 0 for never.
    pub max: u32,
    /// The first wait.
    pub first: Duration,
    /// The longest wait, where the server does not ask for more with `Retry-After`.
    pub longest: Duration,
    /// Of the random part, so that clients that failed together do not come back together.
    pub seed: u64,
}

impl Default for Retries {
    /// MLflow's 7, in a little more than a minute.
    fn default() -> Self {
        Self {
            max: 7,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            seed: 0,
        }
    }
}

impl Retries {
    /// The wait before repetition `number`, from 0; `random` is any number.
    fn wait(&self, number: u32, random: u64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(number)).min(self.longest);
        // 53 bits: all that a float can tell apart.
        let part = (random >> 11) as f64 / (1_u64 << 53) as f64;
        doubled.mul_f64(1.0 - part / 2.0)
    }
}

/// Something that was made.
pub(super) struct Made<T> {
    pub(super) value: T,
    /// An earlier request for it got no proper answer, so that it may have been made twice.
    pub(super) in_doubt: bool,
}

/// Something that was not made.
pub(super) struct Unmade {
    pub(super) error: Box<RegistryError>,
    /// Nobody could tell: it may have been made all the same.
    pub(super) in_doubt: bool,
}

impl Client {
    /// Repeats a call that does no harm when it is done twice.
    pub(super) fn repeated<T>(
        &self,
        call: impl Fn() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut number = 0;
        loop {
            match call() {
                Err(error) if self.is_worth_repeating(&error, number) => {
                    self.pause(&error, number)?;
                    number += 1;
                }
                other => return other,
            }
        }
    }

    /// Makes something once: after a lost answer `find` tells whether it was made.
    pub(super) fn once<T>(
        &self,
        make: impl Fn() -> Result<T, RegistryError>,
        find: impl Fn() -> Result<Option<T>, RegistryError>,
    ) -> Result<Made<T>, Unmade> {
        let mut number = 0;
        loop {
            let error = match make() {
                Ok(value) => return Ok(Made { value, in_doubt: number > 0 }),
                Err(error) if number == 0 && says_that_nothing_was_done(&error) => {
                    return Err(Unmade { error: Box::new(error), in_doubt: false });
                }
                Err(error) => error,
            };
            if !self.is_worth_repeating(&error, number) {
                return self.resolved(error, find);
            }
            let found = self.pause(&error, number).and_then(|()| self.repeated(&find));
            match found {
                Ok(Some(value)) => return Ok(Made { value, in_doubt: true }),
                Ok(None) => number += 1,
                Err(error) => return self.resolved(error, find),
            }
        }
    }

    /// The last look for something before it is given up.
    fn resolved<T>(
        &self,
        error: RegistryError,
        find: impl Fn() -> Result<Option<T>, RegistryError>,
    ) -> Result<Made<T>, Unmade> {
        let error = Box::new(error);
        match self.lastly(find) {
            Ok(Some(value)) => Ok(Made { value, in_doubt: true }),
            Ok(None) => Err(Unmade { error, in_doubt: false }),
            Err(_) => Err(Unmade { error, in_doubt: true }),
        }
    }

    /// A call on the way out: repeated a little, whether or not the user is waiting for the end.
    pub(super) fn lastly<T>(
        &self,
        call: impl Fn() -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let _hurry = self.hurried();
        let mut number = 0;
        loop {
            match call() {
                Err(error) if number < LAST_RETRIES && self.is_worth_repeating(&error, number) => {
                    sleep(self.retries.wait(number, self.random()));
                    number += 1;
                }
                other => return other,
            }
        }
    }

    /// As long as two requests in doubt may still be on their way.
    pub(super) fn settle(&self) -> Result<(), RegistryError> {
        self.sleep(self.retries.first)
    }

    fn is_worth_repeating(&self, error: &RegistryError, number: u32) -> bool {
        // Nobody restarts a server of ours.
        let is_gone = self.is_ours() && matches!(error, RegistryError::Unreachable { .. });
        let is_too_long = retry_after(error).is_some_and(|wait| wait > LONGEST_RETRY_AFTER);
        number < self.retries.max && is_transient(error) && !is_gone && !is_too_long
    }

    fn pause(&self, error: &RegistryError, number: u32) -> Result<(), RegistryError> {
        let wait = self.retries.wait(number, self.random());
        let wait = wait.max(retry_after(error).unwrap_or_default());
        let (number, of) = (number + 1, self.retries.max);
        (self.on_event)(Event::Retrying { error, wait, number, of });
        self.sleep(wait)
    }

    fn sleep(&self, wait: Duration) -> Result<(), RegistryError> {
        let end = Instant::now() + wait;
        loop {
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(RegistryError::Interrupted);
            }
            match end.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => sleep(left.min(SLICE)),
                _ => return Ok(()),
            }
        }
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let state = self.random.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^ (state >> 31)
    }
}

/// Whether a first request that failed in this way has changed nothing: it was not sent, or refused as it was. What
/// stands between here and the server knows less: a gateway that has waited too long, or a page where MLflow's
/// answer should be, may hide work that was done.
fn says_that_nothing_was_done(error: &RegistryError) -> bool {
    !is_transient(error)
        && match error {
            RegistryError::Refused { status, code, .. } => {
                code.is_some() || (300..500).contains(status)
            }
            RegistryError::Answer { .. } => false,
            _ => true,
        }
}

/// Whether the same request may well be answered properly a little later. MLflow's list of statuses
/// (`mlflow/utils/request_utils.py`, `_TRANSIENT_FAILURE_RESPONSE_CODES`), and those by which gateways say that
/// the server did not answer them (520 to 524).
pub(super) fn is_transient(error: &RegistryError) -> bool {
    match error {
        RegistryError::Unreachable { is_permanent, .. } => !is_permanent,
        RegistryError::Answer { is_page, .. } => !is_page,
        RegistryError::Refused { status, .. } => {
            matches!(status, 408 | 429 | 500 | 502 | 503 | 504 | 520..=524)
        }
        _ => false,
    }
}

fn retry_after(error: &RegistryError) -> Option<Duration> {
    match error {
        RegistryError::Refused { retry_after, .. } => *retry_after,
        _ => None,
    }
}

/// The wait that an answer's `Retry-After` asks for: seconds, or a date (RFC 9110, 10.2.3), which is
/// counted from the answer's own `Date`, because clocks differ.
pub(super) fn asked_wait(header: &str, date: Option<&str>) -> Option<Duration> {
    let header = header.trim();
    if header.bytes().all(|byte| byte.is_ascii_digit()) {
        return header.parse().ok().map(Duration::from_secs);
    }
    let instant = |text: &str| jiff::fmt::rfc2822::parse(text.trim()).ok();
    let until = instant(header)?.timestamp();
    let now = date.and_then(instant).map_or_else(jiff::Timestamp::now, |date| date.timestamp());
    // A moment that has passed asks for no wait.
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_are_shortened_by_up_to_half() {
        let retries = Retries::default();
        let seconds = |number, random| retries.wait(number, random).as_secs_f64();
        assert_eq!([0, 1, 2, 6, 7, 99].map(|n| seconds(n, 0)), [0.5, 1.0, 2.0, 30.0, 30.0, 30.0]);
        assert!((seconds(1, u64::MAX) - 0.5).abs() < 1e-9);
        let all: f64 = (0..retries.max).map(|number| seconds(number, 0)).sum();
        assert!((60.0..70.0).contains(&all), "{all}");
    }

    #[test]
    fn a_server_asks_for_patience_in_seconds_or_with_a_date() {
        let seconds = |header, date| asked_wait(header, date).map(|wait| wait.as_secs());
        assert_eq!(seconds("7", None), Some(7));
        let now = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        assert_eq!(seconds("Wed, 21 Oct 2015 07:28:30 GMT", now), Some(30));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:00:00 GMT", now), Some(0));
        assert_eq!(seconds("Wed, 21 Oct 2015 07:00:00 GMT", None), Some(0));
        for odd in ["", "soon", "-3", "99999999999999999999999"] {
            assert_eq!(seconds(odd, now), None, "{odd}");
        }
    }
}
