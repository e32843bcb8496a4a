//! Refusals for the audit log. The same one of the same peer is written once a minute: further
//! ones are counted, and told of when the minute is over.

use super::peer::AddressKey;
use crate::audit::AuditEntry;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// For how long refusals are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Refusals that are told apart; what is beyond counts as one.
const KINDS_MAX: usize = 1024;

type Key = Option<(AddressKey, String, String)>;

#[derive(Debug)]
struct Counted {
    since: Instant,
    more: u64,
    entry: AuditEntry,
}

/// Refusals of the last minute.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kinds: Mutex<HashMap<Key, Counted>>,
}

impl Refusals {
    /// One more. Returns what is to be written now; `None`: it is counted.
    pub fn note(&self, from: AddressKey, entry: AuditEntry, now: Instant) -> Option<AuditEntry> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Some((from, entry.who.clone(), entry.what.clone()));
        if kinds.len() >= KINDS_MAX && !kinds.contains_key(&key) {
            key = None;
        }
        if let Some(counted) = kinds.get_mut(&key) {
            counted.more += 1;
            return None;
        }
        let kept = if key.is_some() { entry.clone() } else { many(&entry) };
        kinds.insert(key, Counted { since: now, more: 0, entry: kept });
        Some(entry)
    }

    /// What is to be written of minutes that are over, or of all of them.
    pub fn due(&self, now: Instant, all: bool) -> Vec<AuditEntry> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = Vec::new();
        kinds.retain(|_, counted| {
            let is_over = all || now.duration_since(counted.since) >= WINDOW;
            if is_over && counted.more > 0 {
                due.push(AuditEntry { count: Some(counted.more), ..counted.entry.clone() });
            }
            !is_over
        });
        due
    }
}

/// For those that are not told apart any more.
fn many(entry: &AuditEntry) -> AuditEntry {
    let detail = Some("there were too many to tell them apart".to_owned());
    let (who, what) = ("several".to_owned(), "several".to_owned());
    AuditEntry { who, what, peer: None, subject: None, detail, ..entry.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditOutcome;

    #[test]
    fn the_same_refusal_is_written_once_a_minute_and_the_others_are_counted() {
        let refusals = Refusals::default();
        let begin = Instant::now();
        let entry = |what: &str| AuditEntry::new("nobody", what, AuditOutcome::Refused);
        let note = |uid, what: &str| refusals.note(AddressKey::Uid(uid), entry(what), begin);
        assert_eq!(note(1, "a"), Some(entry("a")));
        assert_eq!(note(1, "b"), Some(entry("b")));
        assert_eq!(note(2, "a"), Some(entry("a")));
        for _ in 0..5 {
            assert_eq!(note(1, "a"), None);
        }
        assert!(refusals.due(begin, false).is_empty());
        let due = refusals.due(begin + WINDOW, false);
        assert_eq!(due, [AuditEntry { count: Some(5), ..entry("a") }]);
        assert_eq!(note(1, "a"), Some(entry("a")));
        let written = (0..10_000).filter(|uid| note(*uid, "a").is_some()).count();
        assert!(written <= KINDS_MAX + 1, "{written}");
        let told: u64 = refusals.due(begin, true).iter().filter_map(|it| it.count).sum();
        assert_eq!(told + written as u64, 10_000);
    }
}
