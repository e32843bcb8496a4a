//! Tells how far runs are: each second, of those that got any further.

use super::core::{Core, Stopping};
use super::events::Subject;
use super::lock;
use crate::report::{EventKind, LiveRun};
use crate::units::RunId;
use std::collections::HashMap;
use std::sync::PoisonError;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(1);

impl Core {
    /// Goes on until the daemon stops. Sleeps while nothing is under way.
    pub(super) fn tick_progress(&self) {
        let mut told: HashMap<RunId, LiveRun> = HashMap::new();
        loop {
            let idle = |state: &mut super::core::State| {
                state.stopping != Stopping::Over && state.queue.running_count() == 0
            };
            let state = lock(&self.state);
            let state =
                self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
            let is_up = |state: &mut super::core::State| state.stopping != Stopping::Over;
            let waited = self.changed.wait_timeout_while(state, EVERY, is_up);
            let state = waited.unwrap_or_else(PoisonError::into_inner).0;
            if state.stopping == Stopping::Over {
                return;
            }
            let under_way = state.entries.values().filter(|entry| entry.progress.is_some());
            let now: Vec<LiveRun> = under_way.map(|entry| entry.live(None)).collect();
            drop(state);
            told.retain(|run, _| now.iter().any(|live| live.run == *run));
            for live in now {
                if told.get(&live.run).is_none_or(|before| has_changed(before, &live)) {
                    told.insert(live.run, live.clone());
                    self.events.push(Subject::from(&live), EventKind::Progress(live));
                }
            }
        }
    }
}

/// Whether anything but the time went on.
fn has_changed(before: &LiveRun, now: &LiveRun) -> bool {
    let of = |live: &LiveRun| (live.bytes_done, live.bytes_total, live.counts, live.stopping);
    of(before) != of(now) || before.step != now.step
}
