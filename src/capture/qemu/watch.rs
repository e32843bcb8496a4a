//! Looking after a capture while its disks are read.
//!
//! QEMU keeps what the guest overwrites until it cannot: then the job ends, and what is read mixes
//! two states. And a scratch file that fills its file system would make the guest's writes fail, so
//! the capture is given up before that.

use super::clean::Cleaning;
use super::scratch::is_running_out;
use super::{QemuMachine, names::Capture};
use crate::qmp::{Monitor, QmpError};
use crate::source::SourceError;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often the room for scratch files is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who has what the guest overwrites kept, and knows whether it still is.
pub(in crate::capture) trait Keeper: Send + Sync + std::fmt::Debug {
    /// Errors unless all that the guest overwrote was kept.
    fn check(&self) -> Result<(), SourceError>;

    /// Ends the capture, for the guest's sake: `folder` is nearly full.
    fn give_up(&self, folder: &Path);
}

/// What is shared by the disks of a capture. Whatever the capture made in QEMU goes when the last
/// of them drops it.
#[derive(Debug)]
pub(super) struct Shared {
    machine: QemuMachine,
    capture: Capture,
    state: Mutex<State>,
    /// Disks whose jobs must run.
    disks: usize,
}

#[derive(Debug)]
struct State {
    monitor: Monitor,
    /// Bitmaps that stay.
    keep: BTreeSet<String>,
    /// Why the capture was given up.
    given_up: Option<String>,
}

impl Shared {
    /// `keep`: the bitmaps that stay when the capture goes.
    pub fn new(
        machine: QemuMachine,
        capture: Capture,
        monitor: Monitor,
        keep: BTreeSet<String>,
    ) -> Self {
        let disks = machine.disks.len();
        let state = Mutex::new(State { monitor, keep, given_up: None });
        Self { machine, capture, state, disks }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses the monitor.
    pub fn with<T>(&self, work: impl FnOnce(&mut Monitor) -> T) -> T {
        work(&mut self.state().monitor)
    }

    fn lost(&self, why: &str) -> SourceError {
        SourceError::CaptureLost { path: self.machine.qmp.clone(), why: why.to_owned() }
    }

    /// Only these bitmaps stay from now on; the others go at once.
    pub fn keep_only(&self, keep: BTreeSet<String>) -> Vec<String> {
        let mut state = self.state();
        state.keep = keep;
        let State { monitor, keep, .. } = &mut *state;
        let left = self.cleaning(keep).retire_bitmaps(monitor);
        left.unwrap_or_else(|error| vec![error.to_string()])
    }

    fn cleaning<'a>(&'a self, keep: &'a BTreeSet<String>) -> Cleaning<'a> {
        self.machine.cleaning(&self.capture.mark, keep)
    }

    fn release(&self) -> Result<Vec<String>, QmpError> {
        let mut state = self.state();
        let State { monitor, keep, .. } = &mut *state;
        match self.cleaning(keep).run(monitor) {
            Err(_) => {
                // This connection may be spoilt, and QEMU be well.
                *monitor = self.machine.monitor()?;
                self.cleaning(keep).run(monitor)
            }
            done => done,
        }
    }
}

impl Keeper for Shared {
    fn check(&self) -> Result<(), SourceError> {
        let mut state = self.state();
        if let Some(why) = &state.given_up {
            return Err(self.lost(why));
        }
        let jobs = state.monitor.execute("query-jobs", json!({}));
        let jobs = jobs.map_err(|error| self.lost(&error.to_string()))?;
        for disk in 0..self.disks {
            let id = self.capture.job(disk);
            let job = jobs.as_array().into_iter().flatten().find(|job| job["id"] == id.as_str());
            let Some(job) = job else { return Err(self.lost("its job is gone")) };
            let runs = matches!(job["status"].as_str(), Some("running" | "paused"));
            if !runs || job["error"].is_string() {
                let error = job["error"].as_str().unwrap_or("its job ended");
                return Err(self.lost(error));
            }
        }
        Ok(())
    }

    fn give_up(&self, folder: &Path) {
        let mut state = self.state();
        state.given_up = Some(format!(
            "{} is nearly full, and the guest's writes would fail next; free some space there",
            folder.display()
        ));
        for disk in 0..self.disks {
            let job = json!({ "id": self.capture.job(disk) });
            if let Err(error) = state.monitor.execute("job-cancel", job) {
                tracing::warn!(%error, "a job of a capture that is given up");
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        match self.release() {
            // It took everything with it.
            Ok(_) | Err(QmpError::NotRunning { .. }) => {}
            Err(error) => tracing::warn!(%error, "the next run removes what is left of a capture"),
        }
    }
}

/// A thread that watches the room for scratch files until it is dropped.
#[derive(Debug)]
pub(in crate::capture) struct Watch {
    ended: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// `folders`: where scratch files lie, with the size of the disks whose files lie there.
    pub fn start(keeper: Arc<dyn Keeper>, folders: Vec<(PathBuf, u64)>) -> std::io::Result<Self> {
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let told = Arc::clone(&ended);
        let watch = move || {
            while !has_ended(&told) {
                let full = folders.iter().find(|(folder, bytes)| is_running_out(folder, *bytes));
                if let Some((folder, _)) = full {
                    return keeper.give_up(folder);
                }
            }
        };
        let thread = std::thread::Builder::new().name("scratch-room".to_owned()).spawn(watch)?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

/// Waits for the end, but not long.
fn has_ended((ended, changed): &(Mutex<bool>, Condvar)) -> bool {
    let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = changed.wait_timeout_while(ended, LOOK_EVERY, |ended| !*ended);
    *waited.unwrap_or_else(PoisonError::into_inner).0
}

impl Drop for Watch {
    fn drop(&mut self) {
        *self.ended.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ended.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // It cannot panic, and if it did, the room is simply not watched any more.
            let _ = thread.join();
        }
    }
}
