//! Who shows wrong tokens waits for the answer, longer each time. Who shows a good one never does.

use super::peer::AddressKey;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 1024;
/// After so long without a failure an address begins anew.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);
const FREE_FAILURES: u32 = 3;
const FIRST_WAIT: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Failures by address.
#[derive(Debug, Default)]
pub(super) struct Slowdown {
    failures: Mutex<HashMap<AddressKey, (u32, Instant)>>,
}

impl Slowdown {
    /// One more failure, at `now`. Returns how long its answer is held back.
    pub fn failed(&self, address: AddressKey, now: Instant) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&address) {
            failures.retain(|_, (_, last)| now.duration_since(*last) < FORGOTTEN_AFTER);
            let oldest = failures.iter().min_by_key(|(_, (_, last))| *last).map(|(key, _)| *key);
            if failures.len() >= ADDRESSES_MAX
                && let Some(oldest) = oldest
            {
                failures.remove(&oldest);
            }
        }
        let (count, last) = failures.entry(address).or_insert((0, now));
        if now.duration_since(*last) >= FORGOTTEN_AFTER {
            *count = 0;
        }
        *count = count.saturating_add(1);
        *last = now;
        match count.saturating_sub(FREE_FAILURES) {
            0 => Duration::ZERO,
            over => (FIRST_WAIT * 2_u32.pow(over.min(8) - 1)).min(WAIT_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_cost_more_and_more_time_are_forgotten_and_do_not_grow_memory() {
        let slowdown = Slowdown::default();
        let begin = Instant::now();
        let waits: Vec<_> =
            (0..30).map(|_| slowdown.failed(AddressKey::Uid(7), begin).as_millis()).collect();
        assert_eq!(waits[..6], [0, 0, 0, 50, 100, 200]);
        assert_eq!(waits[29], 2000);
        assert_eq!(slowdown.failed(AddressKey::Uid(8), begin), Duration::ZERO);
        let later = begin + FORGOTTEN_AFTER;
        assert_eq!(slowdown.failed(AddressKey::Uid(7), later), Duration::ZERO);
        for uid in 0..10 * ADDRESSES_MAX as u32 {
            slowdown.failed(AddressKey::Uid(uid), later);
        }
        assert!(slowdown.failures.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
