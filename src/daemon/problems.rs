//! What the daemon could not do, as long as it is so.

use super::lock;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What can be wrong, each told once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Concern {
    /// The history cannot be written.
    History,
    /// Nothing can be scheduled.
    Schedule,
    /// Threads cannot be started.
    Threads,
    /// How well objectives are met cannot be told.
    Objectives,
    /// Nobody can be told of anything.
    Notify,
    /// The metrics file cannot be written.
    Metrics,
    /// The history cannot be tidied up.
    Upkeep,
}

/// What is wrong now.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Mutex<BTreeMap<Concern, String>>,
}

impl Problems {
    /// Something is wrong.
    pub fn set(&self, concern: Concern, text: String) {
        let mut found = lock(&self.found);
        if found.get(&concern) != Some(&text) {
            tracing::error!("{text}");
            found.insert(concern, text);
        }
    }

    /// It is right again.
    pub fn clear(&self, concern: Concern) {
        if let Some(text) = lock(&self.found).remove(&concern) {
            tracing::info!("no longer so: {text}");
        }
    }

    /// All that is wrong.
    pub fn list(&self) -> Vec<String> {
        lock(&self.found).values().cloned().collect()
    }
}
