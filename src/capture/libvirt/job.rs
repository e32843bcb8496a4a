//! The backup job of a domain, and our checkpoints: looking at them, and taking them away.
//!
//! Invariant: a job or checkpoint that does not carry the mark of this owner is left alone.

use super::names::{checkpoint_prefix, file_prefix};
use super::places::remove_files;
use super::virsh::{Virsh, VirshError};
use crate::capture::QemuMark;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a job may take to end that was told to.
const END_LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Which job works on a domain.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Job {
    None,
    /// A backup of this owner's.
    Ours,
    /// Somebody else's; what it does.
    Other(String),
}

/// Looks for a job.
pub(super) fn find(virsh: &Virsh, mark: &QemuMark) -> Result<Job, VirshError> {
    match virsh.run("backup-dumpxml", &[]) {
        Ok(xml) if xml.contains(&file_prefix(mark)) => return Ok(Job::Ours),
        Ok(_) => return Ok(Job::Other("a backup".to_owned())),
        Err(error) if error.refusal().is_some_and(is_without_backup) => {}
        Err(error) => return Err(error),
    }
    let answer = match virsh.run("domjobinfo", &[]) {
        Ok(answer) => answer,
        Err(error) if error.refusal().is_some_and(is_without_backup) => return Ok(Job::None),
        Err(error) => return Err(error),
    };
    let value = |key: &str| {
        let line = answer.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        Some(line.trim().to_owned())
    };
    Ok(match value("Job type") {
        Some(kind) if kind != "None" => Job::Other(value("Operation").unwrap_or(kind)),
        _ => Job::None,
    })
}

fn is_without_backup(reason: &str) -> bool {
    reason.contains("no domain backup job present") || reason.contains("domain is not running")
}

/// Names of all checkpoints that carry the mark of this owner.
pub(super) fn checkpoints(virsh: &Virsh, mark: &QemuMark) -> Result<Vec<String>, VirshError> {
    let prefix = checkpoint_prefix(mark);
    let listed = virsh.run("checkpoint-list", &["--name"])?;
    let names = listed.lines().map(str::trim).filter(|name| name.starts_with(&prefix));
    Ok(names.map(str::to_owned).collect())
}

/// What is removed, and what stays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cleaning<'a> {
    pub virsh: &'a Virsh,
    pub mark: &'a QemuMark,
    /// Where files may lie.
    pub folders: &'a BTreeSet<PathBuf>,
    /// Checkpoints that stay.
    pub keep: &'a BTreeSet<String>,
}

impl Cleaning<'_> {
    /// Ends our job, then removes our checkpoints and files. Gives back what stays, in words.
    ///
    /// # Errors
    /// When the job may still run: then nothing else is touched.
    pub fn run(&self) -> Result<Vec<String>, VirshError> {
        self.end_job()?;
        let mut left = self.retire_checkpoints()?;
        left.extend(remove_files(self.mark, self.folders));
        Ok(left)
    }

    fn end_job(&self) -> Result<(), VirshError> {
        let until = Instant::now() + END_LIMIT;
        let mut aborted: Result<String, VirshError> = Ok(String::new());
        let mut is_asked = false;
        while find(self.virsh, self.mark)? == Job::Ours {
            if Instant::now() > until {
                return aborted.and_then(|_| self.virsh.run("domjobabort", &[])).map(drop);
            }
            if !is_asked || aborted.is_err() {
                aborted = self.virsh.run("domjobabort", &[]);
                is_asked = true;
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Removes our checkpoints, but those that stay.
    pub fn retire_checkpoints(&self) -> Result<Vec<String>, VirshError> {
        let mut left = Vec::new();
        for name in checkpoints(self.virsh, self.mark)? {
            if self.keep.contains(&name) {
                continue;
            }
            if let Err(error) = self.retire(&name) {
                left.push(format!("the checkpoint {name}: {error}"));
            }
        }
        Ok(left)
    }

    fn retire(&self, name: &str) -> Result<(), VirshError> {
        let delete = |more: &[&str]| {
            self.virsh.run("checkpoint-delete", &[&["--checkpointname", name], more].concat())
        };
        let deleted = match delete(&[]) {
            // Its bitmap is gone already: there is nothing left but the record.
            Err(error) if error.refusal().is_some_and(|reason| reason.contains("bitmap")) => {
                delete(&["--metadata"])
            }
            other => other,
        };
        deleted.map(drop)
    }
}
