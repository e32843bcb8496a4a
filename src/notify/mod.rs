//! Notifications: what goes wrong is told once when it begins and once when it ends, over webhooks
//! and mail, also when this program is killed in between.
//!
//! ```text
//! observations --> conditions --what changed--> outbox (history.sqlite) --a thread--> channels
//! ```
//!
//! Invariant: a change of a condition and the messages that tell of it become durable in one
//! transaction; a message leaves the outbox only after its channel acknowledged it, or gave it up.

mod address;
mod channel;
mod condition;
mod error;
mod facts;
mod mail;
mod message;
mod report;
mod secret;
mod trial;
mod webhook;
mod wire;
mod worker;

pub use condition::{
    BEGINS_MAX, Change, Condition, ConditionKey, Observation, STEADY, Severity, Step, ToldOf,
    UNSTEADY_WINDOW, Wrong, observe, pass,
};
pub use error::{DeliveryError, NotifyError};
pub use facts::{of_broken_run, of_clock, of_objective, of_run, of_space};
pub use message::{ConditionBody, Kind, Notification, SCHEMA_VERSION, Weight};
pub use report::{
    DailyReport, Due, REPORT_LINES_MAX, ReportLine, ReportSpan, RunTally, StoreLine, due,
};
pub use trial::test;
pub use webhook::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, signature};
pub use worker::{TRIED_FOR, wait_after};

use crate::catalog::{ChannelRecord, History, OutboxMessage, Told};
use crate::report::NotifyTestLine;
use crate::settings::{NotifyKind, NotifySettings};
use crate::units::{NotificationId, readable};
use channel::Channel;
use jiff::Timestamp;
use report::channel_line;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use worker::Worker;

/// Most messages that wait for one channel. Newer ones displace the oldest.
pub const WAITING_MAX: u32 = 1000;

/// How this installation tells things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The name of this host, as those who are told know it.
    pub host: String,
    /// The longest time that one attempt may take.
    pub attempt_max: Duration,
}

impl Sender {
    /// This host, with attempts of 30 seconds at most.
    pub fn this_host() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { host, attempt_max: Duration::from_secs(30) }
    }
}

/// Tells people of what is wrong. Dropped, it stops within seconds, and nothing
/// is lost.
#[derive(Debug)]
pub struct Notifier {
    sender: Sender,
    history: Arc<History>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: NotifySettings,
    conditions: BTreeMap<ConditionKey, Condition>,
    worker: Worker,
}

/// How a channel does.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ChannelState {
    /// Its name: `webhook ops`.
    pub channel: String,
    /// What it took, and what it did not.
    #[serde(flatten)]
    pub record: ChannelRecord,
}

fn new_id() -> Result<NotificationId, NotifyError> {
    NotificationId::random().map_err(NotifyError::Random)
}

impl Notifier {
    /// Begins to tell what waits in the outbox. What waits for channels that are not in `settings`
    /// any more is dropped.
    ///
    /// # Errors
    /// When the history fails, or no thread can be started.
    pub fn start(
        settings: &NotifySettings,
        sender: Sender,
        history: Arc<History>,
        now: Timestamp,
    ) -> Result<Self, NotifyError> {
        let mut conditions = BTreeMap::new();
        for record in history.conditions()? {
            match serde_json::from_str::<Condition>(&record) {
                Ok(condition) => {
                    conditions.insert(condition.key.clone(), condition);
                }
                Err(error) => tracing::warn!(%error, "a condition of another version is left"),
            }
        }
        let channels = kept_channels(settings, &history)?;
        let worker = Worker::start(channels, Arc::clone(&history), sender.attempt_max, now)?;
        let settings = settings.clone();
        let state = Mutex::new(State { settings, conditions, worker });
        Ok(Self { sender, history, state })
    }

    /// Goes on with other settings. Attempts that are under way are made again.
    ///
    /// # Errors
    /// When the history fails: all stays as it was.
    pub fn reload(&self, settings: &NotifySettings, now: Timestamp) -> Result<(), NotifyError> {
        let mut state = self.lock();
        if state.settings == *settings {
            return Ok(());
        }
        let channels = kept_channels(settings, &self.history)?;
        state.worker.change(channels);
        state.worker.wake(now);
        state.settings = settings.clone();
        Ok(())
    }

    /// Takes note of what was found. The same may be told again and again: people are told what
    /// changed. Runs that are tried again by themselves are no failures yet.
    ///
    /// # Errors
    /// When the history fails: what could not be noted does not count, and is to be told again.
    pub fn observe(&self, found: &[Observation], now: Timestamp) -> Result<(), NotifyError> {
        let mut state = self.lock();
        let mut changes: BTreeMap<ConditionKey, Change> = BTreeMap::new();
        for observation in found {
            let earlier = changes.get(&observation.key);
            if earlier.is_some() {
                // Two about the same: what is known in between counts.
                self.commit(&mut state, std::mem::take(&mut changes), now)?;
            }
            let before = state.conditions.get(&observation.key);
            if let Some(change) = observe(before, observation, now, new_id()?) {
                changes.insert(observation.key.clone(), change);
            }
        }
        self.commit(&mut state, changes, now)
    }

    /// Ends, without a word, conditions of what does not exist any more.
    ///
    /// # Errors
    /// When the history fails.
    pub fn forget(
        &self,
        exists: impl Fn(&ConditionKey) -> bool,
        now: Timestamp,
    ) -> Result<(), NotifyError> {
        let mut state = self.lock();
        let gone: Vec<ConditionKey> =
            state.conditions.keys().filter(|key| !exists(key)).cloned().collect();
        self.remove(&mut state, &gone, now)
    }

    /// Lets time pass: what waits to be told is told when its time has come. To be called every few
    /// seconds; it never waits for a channel.
    ///
    /// # Errors
    /// When the history fails.
    pub fn tick(&self, now: Timestamp) -> Result<(), NotifyError> {
        let mut state = self.lock();
        let mut changes = BTreeMap::new();
        let mut over = Vec::new();
        for (key, condition) in &state.conditions {
            if condition.is_over(now) {
                over.push(key.clone());
            } else if condition.unsteady
                && let Some(change) = pass(condition, now, new_id()?)
            {
                changes.insert(key.clone(), change);
            }
        }
        self.commit(&mut state, changes, now)?;
        self.remove(&mut state, &over, now)?;
        state.worker.wake(now);
        Ok(())
    }

    /// The time that a report is due for now; `None`: none is.
    ///
    /// # Errors
    /// When the history fails, or the zone is not known.
    pub fn report_due(&self, now: Timestamp) -> Result<Option<ReportSpan>, NotifyError> {
        let state = self.lock();
        let Some(settings) = &state.settings.report else { return Ok(None) };
        match due(settings, self.history.reported()?, now)? {
            Due::No => Ok(None),
            Due::Mark(day) => {
                let told = Told { reported: Some(day), ..Told::default() };
                self.history.tell(&told, now, WAITING_MAX)?;
                Ok(None)
            }
            Due::Report(_, span) => Ok(Some(span)),
        }
    }

    /// Tells the daily report: the runs of its time, what is wrong now, and what the repositories
    /// cost. Returns whether it was due; it is told once. It may take seconds where there are
    /// very many runs.
    ///
    /// # Errors
    /// When the history fails, or the zone is not known.
    pub fn report(&self, stores: Vec<StoreLine>, now: Timestamp) -> Result<bool, NotifyError> {
        let Some(span) = self.report_due(now)? else { return Ok(false) };
        let mut report = DailyReport::gather(&self.history, span, stores)?;
        let state = self.lock();
        let Some(settings) = &state.settings.report else { return Ok(false) };
        // Somebody else may have told it meanwhile.
        let Due::Report(day, _) = due(settings, self.history.reported()?, now)? else {
            return Ok(false);
        };
        report.open = open_lines(&state.conditions);
        report.channels = self.channel_lines(&state.settings, now)?;
        let report = report.bounded();
        let notification = Notification::of_report(&report, new_id()?, &self.sender.host, now);
        let messages = messages(&state.settings, &notification, NotifyKind::Report)?;
        let told = Told { messages: &messages, reported: Some(day), ..Told::default() };
        self.history.tell(&told, now, WAITING_MAX)?;
        state.worker.wake(now);
        Ok(true)
    }

    /// What is wrong now.
    pub fn open(&self) -> Vec<Condition> {
        let state = self.lock();
        state.conditions.values().filter(|condition| condition.wrong.is_some()).cloned().collect()
    }

    /// How the channels do.
    ///
    /// # Errors
    /// When the history fails.
    pub fn channels(&self) -> Result<Vec<ChannelState>, NotifyError> {
        let channels = Channel::all(&self.lock().settings);
        let state = |channel: &Channel| {
            let name = channel.name();
            Ok(ChannelState { record: self.history.channel(&name)?, channel: name })
        };
        channels.iter().map(state).collect()
    }

    /// Tells all channels, or the one of that name, a test, and waits for their answers.
    ///
    /// # Errors
    /// As [`test()`].
    pub fn test(
        &self,
        channel: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<NotifyTestLine>, NotifyError> {
        let settings = self.lock().settings.clone();
        test(&settings, &self.sender, channel, now)
    }

    fn commit(
        &self,
        state: &mut State,
        changes: BTreeMap<ConditionKey, Change>,
        now: Timestamp,
    ) -> Result<(), NotifyError> {
        if changes.is_empty() {
            return Ok(());
        }
        let (mut records, mut all) = (Vec::new(), Vec::new());
        for (key, change) in &changes {
            records.push((key.stored()?, Some(serde_json::to_string(&change.condition)?)));
            let id = match change.telling {
                // The identity that it was given; others get their own.
                Some((Step::Began, id)) => id,
                _ => new_id()?,
            };
            if let Some(told) = Notification::of_change(change, id, &self.sender.host, now) {
                all.extend(messages(&state.settings, &told, key.kind())?);
            }
        }
        let told = Told { conditions: &records, messages: &all, reported: None };
        self.history.tell(&told, now, WAITING_MAX)?;
        let conditions = changes.into_iter().map(|(key, change)| (key, change.condition));
        state.conditions.extend(conditions);
        state.worker.wake(now);
        Ok(())
    }

    fn remove(
        &self,
        state: &mut State,
        keys: &[ConditionKey],
        now: Timestamp,
    ) -> Result<(), NotifyError> {
        if keys.is_empty() {
            return Ok(());
        }
        let stored = |key: &ConditionKey| Ok((key.stored()?, None));
        let records: Vec<_> = keys.iter().map(stored).collect::<Result<_, NotifyError>>()?;
        let told = Told { conditions: &records, ..Told::default() };
        self.history.tell(&told, now, WAITING_MAX)?;
        for key in keys {
            state.conditions.remove(key);
        }
        Ok(())
    }

    fn channel_lines(
        &self,
        settings: &NotifySettings,
        now: Timestamp,
    ) -> Result<Vec<ReportLine>, NotifyError> {
        let mut lines = Vec::new();
        for channel in Channel::all(settings) {
            let name = channel.name();
            lines.extend(channel_line(&name, &self.history.channel(&name)?, now));
        }
        Ok(lines)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves what is durable, and no half change of what is in memory.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The channels of the settings, after all others were forgotten.
fn kept_channels(
    settings: &NotifySettings,
    history: &History,
) -> Result<Vec<Channel>, NotifyError> {
    let channels = Channel::all(settings);
    let names: Vec<String> = channels.iter().map(Channel::name).collect();
    let dropped = history.keep_channels(&names)?;
    if dropped > 0 {
        tracing::warn!(dropped, "notifications of channels that are not in the settings any more");
    }
    Ok(channels)
}

/// A notification for each channel that wants it.
fn messages(
    settings: &NotifySettings,
    notification: &Notification,
    about: NotifyKind,
) -> Result<Vec<OutboxMessage>, NotifyError> {
    let json = serde_json::to_string(notification)?;
    let wants = |channel: &Channel| channel.wants(about, notification.kind);
    let message = |channel: Channel| OutboxMessage {
        channel: channel.name(),
        id: notification.id,
        message: json.clone(),
    };
    Ok(Channel::all(settings).into_iter().filter(wants).map(message).collect())
}

fn open_lines(conditions: &BTreeMap<ConditionKey, Condition>) -> Vec<ReportLine> {
    let line = |condition: &Condition| {
        let wrong = condition.wrong.as_ref()?;
        let (subject, text) = (condition.key.title(wrong.severity), readable(&wrong.text));
        Some(ReportLine { subject, time: condition.since, text })
    };
    conditions.values().filter_map(line).collect()
}
