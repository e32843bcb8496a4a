//! Watching one run to its end, over lost connections and restarts of the daemon.

use super::wire::{Request, Wire};
use super::{Client, ClientError, RawEvent, StreamReader};
use crate::catalog::RunStatus;
use crate::report::{Event, EventKind, ExitCode, RunDetail, RunEnd, Summary};
use crate::units::RunId;
use std::time::{Duration, Instant};

/// How often is asked what the user wishes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// The first pause before a lost connection is made anew, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What the user wishes of a run that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To go on.
    GoOn,
    /// That it stops.
    Stop,
    /// That it goes on without being watched.
    Leave,
}

/// How watching ended.
#[derive(Debug)]
pub enum Followed {
    /// The run ended.
    Ended(RunEnd),
    /// The user left; the run goes on.
    Left,
}

/// Who watches a run.
pub trait Watcher {
    /// Sees what happens, each thing once.
    fn see(&mut self, event: &Event);

    /// What the user wishes now; asked many times a second.
    fn wish(&mut self) -> Wish;

    /// What the history itself says of the run, while there is no daemon to ask.
    fn record(&self, run: RunId) -> Option<RunDetail>;
}

/// Why a stream of events ended.
enum StreamEnd {
    Followed(Followed),
    /// It does not hold everything, or broke off.
    Broken,
}

impl Client {
    /// Watches `run` until it ends or the user leaves.
    ///
    /// # Errors
    /// When the daemon went away and does not come back, or is none.
    pub fn follow(&self, run: RunId, watcher: &mut dyn Watcher) -> Result<Followed, ClientError> {
        let mut follower =
            Follower { client: self, run, last: None, has_gap: false, stopping: false };
        let mut absence = Absence::default();
        loop {
            match follower.stream(watcher) {
                Ok(StreamEnd::Followed(followed)) => return Ok(followed),
                // What the daemon refuses to tell as it happens, its record tells.
                Ok(StreamEnd::Broken) | Err(ClientError::NotFound(_)) => {}
                Err(error) if error.is_passing() => {}
                Err(error) => return Err(error),
            }
            if let Some(end) = follower.look(watcher, &mut absence)? {
                return Ok(Followed::Ended(end));
            }
            if follower.pause(absence.next_pause(), watcher)? {
                return Ok(Followed::Left);
            }
        }
    }
}

/// How long it has been that nothing came.
#[derive(Default)]
struct Absence {
    gone_since: Option<Instant>,
    cut_off_since: Option<Instant>,
    tries: u32,
}

impl Absence {
    fn next_pause(&mut self) -> Duration {
        self.tries = self.tries.saturating_add(1);
        PAUSES.0.saturating_mul(1 << self.tries.min(5)).min(PAUSES.1)
    }
}

struct Follower<'a> {
    client: &'a Client,
    run: RunId,
    /// The identity of the last event that was seen.
    last: Option<String>,
    /// What came after it is not kept any more: what there is must do.
    has_gap: bool,
    /// The daemon was asked to stop the run.
    stopping: bool,
}

impl Follower<'_> {
    /// Reads events until the stream ends.
    fn stream(&mut self, watcher: &mut dyn Watcher) -> Result<StreamEnd, ClientError> {
        let patience = self.client.patience;
        let path = format!("/v1/runs/{}/events", self.run);
        let after = self.last.clone().filter(|_| !self.has_gap);
        let request = Request { method: "GET", path: &path, body: None, after: after.as_deref() };
        let mut wire = Wire::send(self.client.socket(), &request)?;
        let has_head = |wire: &Wire| wire.status().is_some();
        wire.read_until(has_head, patience.answer, super::ANSWER_BYTES_MAX)?;
        if !(200..300).contains(&wire.status().unwrap_or_default()) {
            wire.read_until(Wire::is_complete, patience.answer, super::ANSWER_BYTES_MAX)?;
            self.client.accept(&wire)?;
        }
        let mut reader = StreamReader::default();
        let mut alive = Instant::now();
        loop {
            let mut events = Vec::new();
            let bytes = std::mem::take(&mut wire.body);
            let pushed = reader.push(&bytes, &mut events);
            for event in events {
                if let Some(end) = self.take(event, &wire, watcher)? {
                    return Ok(end);
                }
            }
            pushed.map_err(|error| wire.not_understood(error.to_string()))?;
            if let Some(left) = self.obey(watcher)? {
                return Ok(StreamEnd::Followed(left));
            }
            if wire.is_complete() || alive.elapsed() > patience.silence {
                return Ok(StreamEnd::Broken);
            }
            if wire.read(LOOK_EVERY)? {
                alive = Instant::now();
            }
        }
    }

    /// One event of the stream.
    fn take(
        &mut self,
        raw: RawEvent,
        wire: &Wire,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<StreamEnd>, ClientError> {
        if raw.kind == "gap" {
            self.has_gap = true;
            return Ok(Some(StreamEnd::Broken));
        }
        if self.last.as_deref().is_some_and(|last| !is_newer(&raw.id, last)) {
            return Ok(None);
        }
        let event: Event = serde_json::from_str(&raw.data)
            .map_err(|error| wire.not_understood(format!("an event: {error}")))?;
        self.last = (!raw.id.is_empty()).then_some(raw.id);
        self.has_gap = false;
        if event.run != Some(self.run) {
            return Ok(None);
        }
        watcher.see(&event);
        Ok(match event.what {
            EventKind::Ended(end) => Some(StreamEnd::Followed(Followed::Ended(end))),
            _ => None,
        })
    }

    /// Does what the user wishes. The daemon is asked to stop the run once.
    fn obey(&mut self, watcher: &mut dyn Watcher) -> Result<Option<Followed>, ClientError> {
        match watcher.wish() {
            Wish::GoOn => Ok(None),
            Wish::Leave => Ok(Some(Followed::Left)),
            Wish::Stop if self.stopping => Ok(None),
            Wish::Stop => match self.client.cancel(self.run) {
                // It ended meanwhile, which its events tell.
                Ok(()) | Err(ClientError::NotFound(_) | ClientError::Refused(_)) => {
                    self.stopping = true;
                    Ok(None)
                }
                Err(error) if error.is_passing() => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// Asks for the record of the run, which says whether it ended.
    fn look(
        &self,
        watcher: &dyn Watcher,
        absence: &mut Absence,
    ) -> Result<Option<RunEnd>, ClientError> {
        let (detail, is_gone) = match self.client.run(self.run) {
            Ok(Some(detail)) => (Some(detail), None),
            Ok(None) => (watcher.record(self.run), None),
            Err(error) if error.is_passing() => (watcher.record(self.run), Some(error)),
            Err(error) => return Err(error),
        };
        if let Some(detail) = &detail
            && !detail.line.status.is_open()
        {
            return Ok(Some(end_of(detail)));
        }
        let is_cut_off = detail.as_ref().is_none_or(|detail| detail.line.cut_off);
        match is_gone {
            Some(error) => {
                absence.cut_off_since = None;
                let since = *absence.gone_since.get_or_insert_with(Instant::now);
                if since.elapsed() > self.client.patience.gone { Err(error) } else { Ok(None) }
            }
            None if is_cut_off => {
                absence.gone_since = None;
                let since = *absence.cut_off_since.get_or_insert_with(Instant::now);
                let ended =
                    detail.as_ref().filter(|_| since.elapsed() > self.client.patience.cut_off);
                Ok(ended.map(end_of))
            }
            None => {
                *absence = Absence { tries: absence.tries, ..Absence::default() };
                Ok(None)
            }
        }
    }

    /// Waits before the next try. Whether the user left.
    fn pause(&mut self, pause: Duration, watcher: &mut dyn Watcher) -> Result<bool, ClientError> {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if self.obey(watcher)?.is_some() {
                return Ok(true);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(false)
    }
}

/// Whether the event `id`, as in `3f2a-17`, is not one that came up to `last`.
fn is_newer(id: &str, last: &str) -> bool {
    match (id.rsplit_once('-'), last.rsplit_once('-')) {
        (Some((instance, number)), Some((last_instance, last_number)))
            if instance == last_instance =>
        {
            match (number.parse::<u64>(), last_number.parse::<u64>()) {
                (Ok(number), Ok(last_number)) => number > last_number,
                _ => true,
            }
        }
        _ => true,
    }
}

/// How a run ended, as far as its record tells.
fn end_of(detail: &RunDetail) -> RunEnd {
    let line = &detail.line;
    let is_cut_off = line.status.is_open();
    let status = if is_cut_off { RunStatus::Failed } else { line.status };
    let mut summary = Summary::new(line.kind.into(), status, line.started);
    summary.run = Some(line.run);
    summary.repository.clone_from(&line.repository);
    summary.machine.clone_from(&line.machine);
    summary.replica.clone_from(&line.replica);
    summary.point = line.point;
    summary.counts = line.counts;
    summary.ended = line.ended.unwrap_or(summary.ended);
    summary.duration_s = line.duration_s.unwrap_or(summary.duration_s);
    summary.reason.clone_from(&line.reason);
    summary.detail.clone_from(&line.detail);
    summary.warnings.clone_from(&line.warnings);
    let from_status = match status {
        RunStatus::Completed | RunStatus::Skipped => ExitCode::Done,
        RunStatus::Incomplete => ExitCode::Incomplete,
        _ => ExitCode::Failed,
    };
    let exit = line.exit.and_then(|code| ExitCode::try_from(code).ok()).unwrap_or(from_status);
    let error = match status {
        RunStatus::Failed if is_cut_off => Some(format!(
            "the daemon ended before the run {} did; run the same command again to go on",
            line.run.short()
        )),
        RunStatus::Failed => Some(line.reason.clone().unwrap_or_else(|| "it failed".to_owned())),
        _ => None,
    };
    RunEnd { summary: Box::new(summary), exit, error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_new_when_its_number_is_higher_or_the_daemon_is_another() {
        assert!(is_newer("3f-10", "3f-9"));
        assert!(!is_newer("3f-9", "3f-9"));
        assert!(!is_newer("3f-9", "3f-10"));
        assert!(is_newer("4a-1", "3f-10"));
        assert!(is_newer("", "3f-10"));
    }
}
