//! The guest's file systems are frozen for the instant of the capture, never longer.
//!
//! Invariants: before the guest is asked to freeze, a process watches this one that thaws it when
//! this one dies or takes too long, and an object in QEMU says who froze it. Whatever goes wrong, the
//! thaw is asked for; the object goes only when the agent says that the guest is thawed.

use super::names::Mark;
use crate::qmp::{Agent, FreezeStatus, Monitor, QmpError};
use crate::sys::leave_last_word;
use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::json;
use std::io::{PipeWriter, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longest wait for an agent that may not be there.
const PROBE_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for one thaw, and how often it is asked for.
const THAW_LIMIT: Duration = Duration::from_secs(5);
const THAW_TRIES: usize = 3;
/// What the watching process says; the first byte ends whatever the agent is in the midst of.
const LAST_WORD: &[u8] = b"\xff\n{\"execute\":\"guest-fsfreeze-thaw\"}\n";

/// A guest that is frozen until it is thawed or this is dropped.
#[derive(Debug)]
pub(super) struct Frozen {
    agent: Agent,
    since: Instant,
    limit: Duration,
    watcher: Option<Watcher>,
}

/// The process that thaws the guest when this one dies.
#[derive(Debug)]
struct Watcher {
    process: Option<Pid>,
    pipe: PipeWriter,
}

impl Watcher {
    fn start(agent: &Agent, limit: Duration) -> std::io::Result<Self> {
        let (watched, pipe) = std::io::pipe()?;
        let limit_ms = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        let process = leave_last_word(watched.as_fd(), agent.socket(), LAST_WORD, limit_ms)?;
        Ok(Self { process: Pid::from_raw(process), pipe })
    }

    /// It is not needed any more.
    fn dismiss(mut self) {
        // If it is gone already, it has had its word.
        let _ = self.pipe.write_all(b".");
        if let Some(process) = self.process {
            let _ = waitpid(Some(process), WaitOptions::empty());
        }
    }
}

/// Asks the guest's agent to freeze it.
///
/// # Errors
/// Why the guest is not frozen, in words: the capture is crash-consistent then.
pub(super) fn freeze(
    monitor: &mut Monitor,
    agent: &Path,
    mark: &Mark,
    limit: Duration,
) -> Result<Frozen, String> {
    let told = |error: QmpError| format!("the guest was not frozen: {error}");
    let probe = limit.min(PROBE_LIMIT);
    let mut agent = Agent::connect(agent, probe).map_err(told)?;
    if agent.freeze_status(probe).map_err(told)? == FreezeStatus::Frozen {
        return Err("the guest is frozen by somebody else, who may let it go at any time".into());
    }
    set_object(monitor, &mark.frozen()).map_err(told)?;
    let watcher = Watcher::start(&agent, limit)
        .map_err(|error| format!("the guest was not frozen: no process to thaw it: {error}"))?;
    let mut frozen = Frozen { agent, since: Instant::now(), limit, watcher: Some(watcher) };
    // The process that watches has its word when the limit is over. Its answer must not be taken for
    // that to the freeze.
    match frozen.agent.freeze(limit * 7 / 8) {
        Ok(0) => {
            frozen.end(monitor, mark)?;
            Err("the guest was not frozen: its agent found no file system".into())
        }
        Ok(_) => Ok(frozen),
        // It may be frozen all the same, now or when the agent comes to it.
        Err(error) => {
            frozen.end(monitor, mark)?;
            Err(told(error))
        }
    }
}

impl Frozen {
    /// Thaws the guest after its disks were captured.
    ///
    /// # Errors
    /// Why that may not have been done on a frozen guest, or why the guest may still be frozen, in
    /// words.
    pub fn thaw(self, monitor: &mut Monitor, mark: &Mark) -> Result<(), String> {
        let (limit, since) = (self.limit, self.since);
        let count = self.end(monitor, mark)?;
        if count == 0 || since.elapsed() > limit {
            let limit = limit.as_secs_f32();
            return Err(format!(
                "the guest was thawed before its disks were captured, at the latest after {limit} s"
            ));
        }
        Ok(())
    }

    /// Gives back how many file systems were still frozen.
    fn end(mut self, monitor: &mut Monitor, mark: &Mark) -> Result<u64, String> {
        let thawed = thaw(&mut self.agent);
        self.dismiss();
        let count = thawed.map_err(|error| {
            format!("the guest may still be frozen, which the next run looks after: {error}")
        })?;
        // If it stays, it says nothing that the next run does not find out.
        let _ = unset_object(monitor, &mark.frozen());
        Ok(count)
    }

    fn dismiss(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.dismiss();
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if self.watcher.is_some() {
            // The object stays: the next run asks again.
            if let Err(error) = thaw(&mut self.agent) {
                tracing::warn!(%error, "the guest may still be frozen");
            }
            self.dismiss();
        }
    }
}

fn thaw(agent: &mut Agent) -> Result<u64, QmpError> {
    let mut thawed = agent.thaw(THAW_LIMIT);
    for _ in 1..THAW_TRIES {
        match &thawed {
            Ok(_) | Err(QmpError::Closed { .. }) => break,
            Err(_) => thawed = agent.thaw(THAW_LIMIT),
        }
    }
    thawed
}

/// Thaws a guest that an earlier run may have left frozen.
///
/// # Errors
/// Why it may still be frozen.
pub(super) fn thaw_left(monitor: &mut Monitor, agent: &Path, mark: &Mark) -> Result<(), QmpError> {
    let mut agent = Agent::connect(agent, PROBE_LIMIT)?;
    if agent.freeze_status(THAW_LIMIT)? == FreezeStatus::Frozen {
        thaw(&mut agent)?;
    }
    unset_object(monitor, &mark.frozen())
}

/// Makes an object that says something to the next run. It lives as long as this QEMU.
pub(super) fn set_object(monitor: &mut Monitor, name: &str) -> Result<(), QmpError> {
    // Any object would do: this kind is in every QEMU, and does nothing.
    let object = json!({ "qom-type": "secret", "id": name, "data": "mark" });
    match monitor.execute("object-add", object) {
        Err(error) if has_object(monitor, name)? => {
            tracing::debug!(%error, name, "the object was there already");
            Ok(())
        }
        done => done.map(drop),
    }
}

pub(super) fn unset_object(monitor: &mut Monitor, name: &str) -> Result<(), QmpError> {
    monitor.execute("object-del", json!({ "id": name })).map(drop)
}

pub(super) fn has_object(monitor: &mut Monitor, name: &str) -> Result<bool, QmpError> {
    let objects = monitor.execute("qom-list", json!({ "path": "/objects" }))?;
    let is_it = |object: &serde_json::Value| object["name"].as_str() == Some(name);
    Ok(objects.as_array().is_some_and(|objects| objects.iter().any(is_it)))
}
