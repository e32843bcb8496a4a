//! What happened lately: one ring for all who listen, however slow they are.

use super::handle::EventPage;
use super::lock;
use crate::report::{Event, EventKind, LiveRun};
use crate::units::{Name, RunId};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// How many events are kept.
pub const EVENTS_MAX: usize = 4096;

/// What an event is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    pub run: Option<RunId>,
    pub machine: Option<Name>,
    pub replica: Option<Name>,
}

impl From<&LiveRun> for Subject {
    fn from(live: &LiveRun) -> Self {
        let (machine, replica) = (live.machine.clone(), live.replica.clone());
        Self { run: Some(live.run), machine, replica }
    }
}

/// The last events.
#[derive(Debug)]
pub(super) struct Events {
    instance: String,
    ring: Mutex<VecDeque<Arc<Event>>>,
    newest: watch::Sender<u64>,
}

impl Events {
    /// None yet, of the start `instance` of the daemon.
    pub fn new(instance: String) -> Self {
        Self { instance, ring: Mutex::default(), newest: watch::Sender::new(0) }
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Something happened.
    pub fn push(&self, subject: Subject, what: EventKind) {
        let Subject { run, machine, replica } = subject;
        let mut ring = lock(&self.ring);
        let id = *self.newest.borrow() + 1;
        if ring.len() == EVENTS_MAX {
            ring.pop_front();
        }
        let time = Timestamp::now();
        ring.push_back(Arc::new(Event { id, time, run, machine, replica, what }));
        // Within the lock: the number never goes back.
        self.newest.send_replace(id);
    }

    /// Events after the number `after`, at most `max`.
    pub fn page(&self, after: u64, max: usize) -> EventPage {
        let ring = lock(&self.ring);
        let newest = *self.newest.borrow();
        let oldest = ring.front().map_or(newest + 1, |event| event.id);
        // Numbers have no gaps.
        let skipped =
            usize::try_from(after.saturating_add(1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        let events = ring.iter().skip(skipped).take(max).cloned().collect();
        EventPage { instance: self.instance.clone(), events, oldest, newest }
    }

    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_forgets_the_oldest_and_says_which_is_the_first_it_has() {
        let events = Events::new("a".to_owned());
        let page = events.page(0, 10);
        assert_eq!((page.events.len(), page.oldest, page.newest), (0, 1, 0));
        for _ in 0..EVENTS_MAX + 5 {
            events.push(Subject::default(), EventKind::Reloaded);
        }
        let newest = EVENTS_MAX as u64 + 5;
        let ids = |after, max| {
            let page = events.page(after, max);
            assert_eq!((page.oldest, page.newest), (6, newest));
            page.events.iter().map(|event| event.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(0, 3), [6, 7, 8]);
        assert_eq!(ids(6, 2), [7, 8]);
        assert_eq!(ids(newest - 1, 5), [newest]);
        assert_eq!(ids(newest, 5), [0; 0]);
        assert_eq!(ids(u64::MAX - 1, 5), [0; 0]);
        assert_eq!(*events.newest().borrow(), newest);
    }
}
