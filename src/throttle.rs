//! A limit of bytes a second that many threads share.
//!
//! Bytes are paid for after they were moved: who moved some waits until the limit has let as many
//! pass. Who comes first goes on first, and nobody pays for more than a portion at once: a thread
//! that moves much at a time gets no more than one that moves little.
//!
//! Invariant: while the rate stays the same, what was paid for within a time is at most the rate
//! times that time, and the burst.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What may pass at once after a pause: the bytes of so much time.
const BURST_NS: u64 = 100_000_000;
/// What is paid for at once: the bytes of so much time.
const PORTION_NS: u64 = 20_000_000;
/// The smallest portion, in bytes: less is not worth a sleep.
const PORTION_BYTES_MIN: u64 = 4096;
/// A sleep is no longer than this: then it is seen that the run was cancelled, or the rate changed.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// How often a source is asked for the rate.
const ASK_EVERY_NS: u64 = NS_PER_S;
const NS_PER_S: u64 = 1_000_000_000;
/// The source is not asked: there is none.
const NEVER: u64 = u64::MAX;

/// Bytes a second; `None`: as many as there are.
pub type Rate = Option<NonZeroU64>;

type RateSource = Arc<dyn Fn() -> Rate + Send + Sync>;

/// A limit that all who move bytes ask. It may change at any time, also for those who wait.
pub struct Throttle {
    started: Instant,
    bucket: Mutex<Bucket>,
    source: Mutex<Option<RateSource>>,
    /// When the source is asked next.
    ask_at_ns: AtomicU64,
    is_limited: AtomicBool,
}

impl Default for Throttle {
    /// Without a limit.
    fn default() -> Self {
        Self {
            started: Instant::now(),
            bucket: Mutex::default(),
            source: Mutex::default(),
            ask_at_ns: AtomicU64::new(NEVER),
            is_limited: AtomicBool::new(false),
        }
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Throttle({:?})", self.lock().rate)
    }
}

impl Throttle {
    /// A limit of `rate`.
    pub fn new(rate: Rate) -> Self {
        let throttle = Self::default();
        throttle.set_rate(rate);
        throttle
    }

    /// From now on the limit is `rate`. What a source said does not count any more.
    pub fn set_rate(&self, rate: Rate) {
        self.ask_at_ns.store(NEVER, Ordering::Relaxed);
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.change(rate);
    }

    /// From now on the limit is what `source` says, such as by the time of day. It is asked now, and
    /// later by those who move bytes, once a second at most; it should not wait for anything.
    pub fn follow(&self, source: impl Fn() -> Rate + Send + Sync + 'static) {
        let source: RateSource = Arc::new(source);
        self.change(source());
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
        self.ask_at_ns.store(self.now_ns().saturating_add(ASK_EVERY_NS), Ordering::Relaxed);
    }

    /// The limit as it is now.
    pub fn rate(&self) -> Rate {
        self.refresh();
        self.lock().rate
    }

    /// Pays for `bytes` that were moved: waits until the limit has let them pass, and tells how long
    /// that took. It stops to wait once `is_cancelled` says so; the bytes count all the same.
    pub fn pay(&self, bytes: u64, is_cancelled: &dyn Fn() -> bool) -> Duration {
        self.refresh();
        if bytes == 0 || !self.is_limited.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let begun = Instant::now();
        let mut rest = bytes;
        while rest > 0 {
            let (ticket, portion) = self.lock().reserve(rest, self.now_ns());
            rest -= portion;
            if !self.wait(ticket, is_cancelled) {
                self.lock().owe(rest);
                break;
            }
        }
        begun.elapsed()
    }

    /// Whether the ticket's turn came.
    fn wait(&self, ticket: Ticket, is_cancelled: &dyn Fn() -> bool) -> bool {
        loop {
            let left = self.lock().time_left(ticket, self.now_ns());
            if left.is_zero() {
                return true;
            }
            if is_cancelled() {
                return false;
            }
            std::thread::sleep(left.min(SLEEP_MAX));
            self.refresh();
        }
    }

    /// Asks the source, when it is time.
    fn refresh(&self) {
        let due = self.ask_at_ns.load(Ordering::Relaxed);
        if due == NEVER {
            return;
        }
        let now = self.now_ns();
        let next = now.saturating_add(ASK_EVERY_NS);
        let is_mine = now >= due
            && self
                .ask_at_ns
                .compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !is_mine {
            return;
        }
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(source) = source {
            self.change(source());
        }
    }

    fn change(&self, rate: Rate) {
        self.lock().set_rate(rate, self.now_ns());
        self.is_limited.store(rate.is_some(), Ordering::Relaxed);
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limit of what goes over the network, of all this process does: every TCP connection to and
/// from an NBD export asks it, in both directions. Without a limit until one is set.
pub fn network() -> &'static Throttle {
    static NETWORK: LazyLock<Throttle> = LazyLock::new(Throttle::default);
    &NETWORK
}

/// A place in the order of those who pay, in bytes times nanoseconds a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u128);

/// The books, with the time passed in. All amounts are bytes times nanoseconds a second, since the
/// beginning: so that nothing is lost by rounding.
///
/// Invariant: `granted` never falls behind a ticket that it has reached.
#[derive(Debug, Default)]
struct Bucket {
    rate: Rate,
    /// Up to when `granted` was reckoned, in nanoseconds.
    at_ns: u64,
    /// What was let pass.
    granted: u128,
    /// What was asked for.
    reserved: u128,
}

impl Bucket {
    fn set_rate(&mut self, rate: Rate, now_ns: u64) {
        self.advance(now_ns);
        self.rate = rate;
        self.advance(now_ns);
    }

    /// Reserves as much of `bytes` as is paid for at once, at least one byte; gives the ticket and
    /// the amount. `bytes` is not zero.
    fn reserve(&mut self, bytes: u64, now_ns: u64) -> (Ticket, u64) {
        // Before: what was reserved decides how much may be saved up.
        self.advance(now_ns);
        let portion = bytes.min(portion_bytes(self.rate));
        self.owe(portion);
        (Ticket(self.reserved), portion)
    }

    /// Counts bytes for which nobody waits: the next ones do.
    fn owe(&mut self, bytes: u64) {
        self.reserved = self.reserved.saturating_add(amount(bytes, NS_PER_S));
    }

    /// How long it takes until the ticket's turn, as things are now.
    fn time_left(&mut self, ticket: Ticket, now_ns: u64) -> Duration {
        self.advance(now_ns);
        let missing = ticket.0.saturating_sub(self.granted);
        match self.rate {
            Some(rate) if missing > 0 => {
                let ns = missing.div_ceil(u128::from(rate.get()));
                Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
            }
            _ => Duration::ZERO,
        }
    }

    fn advance(&mut self, now_ns: u64) {
        let passed_ns = now_ns.saturating_sub(self.at_ns);
        self.at_ns = self.at_ns.max(now_ns);
        self.granted = match self.rate {
            None => self.reserved,
            Some(rate) => {
                let most = self.reserved.saturating_add(amount(rate.get(), BURST_NS));
                self.granted.saturating_add(amount(rate.get(), passed_ns)).min(most)
            }
        };
    }
}

fn amount(bytes: u64, ns: u64) -> u128 {
    u128::from(bytes) * u128::from(ns)
}

fn portion_bytes(rate: Rate) -> u64 {
    let Some(rate) = rate else { return u64::MAX };
    (rate.get() / (NS_PER_S / PORTION_NS)).max(PORTION_BYTES_MIN)
}

#[cfg(test)]
mod tests;
