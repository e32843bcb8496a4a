//! Looking after a capture while its disks are read, and taking it away afterwards.

use super::job::{Cleaning, Job, find};
use super::names::Capture;
use super::virsh::Virsh;
use crate::capture::qemu::Keeper;
use crate::source::SourceError;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is shared by the disks of a capture. Whatever the capture made goes when the last of them
/// drops it.
#[derive(Debug)]
pub(super) struct Shared {
    virsh: Virsh,
    capture: Capture,
    folders: BTreeSet<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Checkpoints that stay.
    keep: BTreeSet<String>,
    /// Why the capture was given up.
    given_up: Option<String>,
}

impl Shared {
    /// `keep`: the checkpoints that stay when the capture goes.
    pub fn new(
        virsh: Virsh,
        capture: Capture,
        folders: BTreeSet<PathBuf>,
        keep: BTreeSet<String>,
    ) -> Self {
        Self { virsh, capture, folders, state: Mutex::new(State { keep, given_up: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cleaning<'a>(&'a self, keep: &'a BTreeSet<String>) -> Cleaning<'a> {
        let (virsh, mark, folders) = (&self.virsh, &self.capture.mark, &self.folders);
        Cleaning { virsh, mark, folders, keep }
    }

    /// Only these checkpoints stay from now on; the others go at once.
    pub fn keep_only(&self, keep: BTreeSet<String>) -> Vec<String> {
        let mut state = self.state();
        state.keep = keep;
        let left = self.cleaning(&state.keep).retire_checkpoints();
        left.unwrap_or_else(|error| vec![error.to_string()])
    }

    fn lost(&self, why: String) -> SourceError {
        SourceError::CaptureLost { path: PathBuf::from(&self.virsh.domain), why }
    }
}

impl Keeper for Shared {
    fn check(&self) -> Result<(), SourceError> {
        if let Some(why) = &self.state().given_up {
            return Err(self.lost(why.clone()));
        }
        match find(&self.virsh, &self.capture.mark) {
            Ok(Job::Ours) => Ok(()),
            Ok(_) => Err(self.lost("its backup job is gone".to_owned())),
            Err(error) => Err(self.lost(error.to_string())),
        }
    }

    fn give_up(&self, folder: &Path) {
        self.state().given_up = Some(format!(
            "{} is nearly full, and the guest's writes would fail next; free some space there",
            folder.display()
        ));
        if let Err(error) = self.virsh.run("domjobabort", &[]) {
            tracing::warn!(%error, "the job of a capture that is given up");
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state();
        let left = match self.cleaning(&state.keep).run() {
            Ok(left) => left.join("; "),
            Err(error) => error.to_string(),
        };
        if !left.is_empty() {
            tracing::warn!(left, "the next run removes what is left of a capture");
        }
    }
}
