//! The thread that empties the outbox: each channel for itself, so that none waits for another, and
//! each in order.

use super::channel::Channel;
use super::message::Notification;
use super::{DeliveryError, NotifyError};
use crate::catalog::{Attempt, CatalogError, ChannelRecord, History, WaitingMessage};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;

/// How long a message is tried.
pub const TRIED_FOR: SignedDuration = SignedDuration::from_hours(24);
/// The wait after the first attempt that failed. Each further one doubles it.
const WAIT_MIN: SignedDuration = SignedDuration::from_secs(10);
/// The longest wait.
const WAIT_MAX: SignedDuration = SignedDuration::from_mins(30);

/// How long attempts that are under way may go on when the thread is to end.
const GRACE: Duration = Duration::from_secs(2);

/// The wait after so many attempts that failed in a row.
pub fn wait_after(failures: u32) -> SignedDuration {
    let doubled = 2_i32.saturating_pow(failures.saturating_sub(1));
    WAIT_MIN.checked_mul(doubled).map_or(WAIT_MAX, |wait| wait.min(WAIT_MAX))
}

/// The thread. Dropped, it stops within seconds; what was not acknowledged stays in the outbox.
#[derive(Debug)]
pub(super) struct Worker {
    /// The time, as the daemon tells it.
    clock: watch::Sender<Timestamp>,
    /// Gone when the thread is to end.
    channels: Option<watch::Sender<Arc<[Channel]>>>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub fn start(
        channels: Vec<Channel>,
        history: Arc<History>,
        longest: Duration,
        now: Timestamp,
    ) -> Result<Self, NotifyError> {
        let (clock, time) = watch::channel(now);
        let (channels, wanted) = watch::channel(channels.into());
        let runtime = runtime().map_err(NotifyError::Thread)?;
        let work = move || {
            runtime.block_on(serve(history, longest, time, wanted));
            // A name that is being looked up would hold it up.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new()
            .name("notify".to_owned())
            .spawn(work)
            .map_err(NotifyError::Thread)?;
        Ok(Self { clock, channels: Some(channels), thread: Some(thread) })
    }

    /// Says what time it is, and that there may be work.
    pub fn wake(&self, now: Timestamp) {
        self.clock.send_replace(now);
    }

    /// Goes on with other channels. Attempts that are under way are made again.
    pub fn change(&self, to: Vec<Channel>) {
        if let Some(channels) = &self.channels {
            channels.send_replace(to.into());
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.channels = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that sends notifications panicked");
        }
    }
}

/// Serves the channels until there are to be none any more.
async fn serve(
    history: Arc<History>,
    longest: Duration,
    clock: watch::Receiver<Timestamp>,
    mut wanted: watch::Receiver<Arc<[Channel]>>,
) {
    loop {
        let channels = Arc::clone(&wanted.borrow_and_update());
        let mut loops = JoinSet::new();
        // Attempts that are under way hold it.
        let gate = Arc::new(RwLock::new(()));
        for channel in channels.iter().cloned() {
            let outbox = Outbox { name: channel.name(), channel, longest };
            loops.spawn(outbox.empty(Arc::clone(&history), clock.clone(), Arc::clone(&gate)));
        }
        let changed = wanted.changed().await;
        // Whoever is about to acknowledge a message need not get it twice. No attempt begins
        // meanwhile: a writer waits.
        let ended = tokio::time::timeout(GRACE, gate.write()).await;
        drop(ended);
        loops.shutdown().await;
        if changed.is_err() {
            return;
        }
    }
}

pub(super) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// An attempt that was made and is not noted yet.
struct Made {
    message: WaitingMessage,
    record: ChannelRecord,
    outcome: Result<Option<String>, DeliveryError>,
}

/// What waits for one channel.
struct Outbox {
    name: String,
    channel: Channel,
    longest: Duration,
}

impl Outbox {
    /// Hands over what is due, each time that it is woken, until the clock is gone.
    async fn empty(
        self,
        history: Arc<History>,
        mut clock: watch::Receiver<Timestamp>,
        gate: Arc<RwLock<()>>,
    ) {
        // Noted before anything else is tried: a history that fails must not make a storm of one
        // message.
        let mut made: Option<Made> = None;
        loop {
            let now = *clock.borrow_and_update();
            let step = match &made {
                Some(attempt) => self.note(&history, attempt, now).map(|()| made = None),
                None => match self.due(&history, now) {
                    Ok(Some((message, record))) => {
                        let under_way = gate.read().await;
                        let outcome = self.attempt(&message, now).await;
                        let attempt = Made { message, record, outcome };
                        let noted = self.note(&history, &attempt, *clock.borrow());
                        drop(under_way);
                        if noted.is_err() {
                            made = Some(attempt);
                        }
                        noted
                    }
                    Ok(None) if clock.changed().await.is_err() => return,
                    Ok(None) => continue,
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = step {
                tracing::error!(%error, channel = self.name, "the outbox cannot be used");
                if clock.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// The message to try now.
    fn due(
        &self,
        history: &History,
        now: Timestamp,
    ) -> Result<Option<(WaitingMessage, ChannelRecord)>, CatalogError> {
        let Some(message) = history.next_message(&self.name)? else { return Ok(None) };
        let record = history.channel(&self.name)?;
        // A time that is too far away was made by a clock that was wrong.
        let waits = |next: Timestamp| {
            let left = next.duration_since(now);
            left > SignedDuration::ZERO && left <= WAIT_MAX
        };
        Ok((!record.next.is_some_and(waits)).then_some((message, record)))
    }

    async fn attempt(
        &self,
        message: &WaitingMessage,
        now: Timestamp,
    ) -> Result<Option<String>, DeliveryError> {
        let notification: Notification =
            serde_json::from_str(&message.message).map_err(|error| DeliveryError::Settings {
                what: format!("a notification of another version of afterimage: {error}"),
            })?;
        self.channel.deliver(&notification, now, self.longest).await
    }

    fn note(&self, history: &History, made: &Made, now: Timestamp) -> Result<(), CatalogError> {
        let Made { message, record, outcome } = made;
        let (channel, place, id) = (&self.name, message.place, message.id);
        let error = match outcome {
            Ok(note) => {
                if let Some(note) = note {
                    tracing::warn!(channel, %id, note, "a notification went to some only");
                }
                let delivered = Attempt::Delivered { note: note.as_deref() };
                return history.note_attempt(channel, place, delivered, now);
            }
            Err(error) => error,
        };
        let wait = wait_after(record.failures.saturating_add(1));
        let next = now.saturating_add(wait).unwrap_or(now);
        let reason = &error.to_string();
        let attempt = if now.duration_since(message.created) >= TRIED_FOR {
            tracing::error!(channel, %id, %error, "a notification is given up");
            Attempt::GivenUp { reason, next }
        } else {
            tracing::warn!(channel, %id, %error, "a notification will be tried again");
            Attempt::Failed { reason, next }
        };
        history.note_attempt(channel, place, attempt, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_half_an_hour() {
        assert_eq!(wait_after(1), WAIT_MIN);
        assert_eq!(wait_after(2), WAIT_MIN * 2);
        let waits: Vec<_> = (0..100).map(wait_after).collect();
        assert!(waits.is_sorted());
        assert_eq!(wait_after(u32::MAX), WAIT_MAX);
    }
}
