//! Delays that spread what would all happen at once. They follow from names and instants alone, so
//! that a restart changes none of them.

use std::time::Duration;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::settings::RetrySettings;

/// By how much the run of a slot begins later, in whole seconds: at most `jitter`, and at most half
/// the time until the slot after it, so that each begins before the next is due.
pub(super) fn jitter(
    key: &str,
    due: Timestamp,
    next: Option<Timestamp>,
    jitter: Duration,
) -> Duration {
    let until_next = next
        .map_or(u64::MAX, |next| u64::try_from(next.as_second() - due.as_second()).unwrap_or(0));
    let most_s = jitter.as_secs().min(until_next / 2);
    Duration::from_secs(hash(key, due, 0) % most_s.saturating_add(1))
}

/// How long is waited before try number `attempt` (the second is the first of these): twice as long
/// each time, and up to a quarter less, so that what failed together is not tried together.
pub(super) fn back_off(key: &str, due: Timestamp, attempt: u32, retry: &RetrySettings) -> Duration {
    let doublings = attempt.saturating_sub(2).min(31);
    let wait = retry.wait.saturating_mul(1 << doublings).min(retry.wait_max);
    let most_less_ms = u64::try_from(wait.as_millis() / 4).unwrap_or(u64::MAX - 1);
    wait - Duration::from_millis(hash(key, due, attempt) % (most_less_ms + 1))
}

fn hash(key: &str, due: Timestamp, attempt: u32) -> u64 {
    let mut hash = Sha256::new();
    hash.update(due.as_second().to_le_bytes());
    hash.update(attempt.to_le_bytes());
    hash.update(key.as_bytes());
    let digest = hash.finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_le_bytes(first)
}
