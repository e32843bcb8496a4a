//! The guest's file systems are frozen for the instant of the capture, never longer.
//!
//! Invariants: before the guest is asked to freeze, a process waits that thaws it when this one dies
//! or takes too long, and a file says who froze it. Whatever goes wrong, the thaw is asked for; the
//! file goes only when libvirt says that the guest is thawed.

use super::names::frozen;
use super::virsh::{Virsh, VirshError};
use crate::capture::QemuMark;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for one thaw, and how often it is asked for. An agent that does not answer costs
/// libvirt five seconds.
const THAW_LIMIT: Duration = Duration::from_secs(15);
const THAW_TRIES: usize = 3;
/// Between the two thaws of the process that waits, in seconds.
const GUARD_PAUSE_S: u64 = 3;
/// How long the process that waits may take to end.
const GUARD_END: Duration = Duration::from_secs(5);
/// What tells the waiting process that it is not needed.
const OVER: &str = "over";
/// What the agent says of a guest that is frozen already, which takes no other command.
const FROZEN_ALREADY: &str = "has been disabled";

/// A guest that is frozen until it is thawed or this is dropped.
#[derive(Debug)]
pub(super) struct Frozen<'a> {
    virsh: &'a Virsh,
    since: Instant,
    limit: Duration,
    marker: PathBuf,
    guard: Option<Guard>,
}

/// The process that thaws the guest when this one dies.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    fn start(virsh: &Virsh, limit: Duration) -> std::io::Result<Self> {
        let (limit, thaw) = (limit.as_secs_f64(), virsh.line("domfsthaw", &[]));
        let thaw = thaw.trim_start_matches("exec ");
        let wait = THAW_LIMIT.as_secs();
        // Twice: what this process asked for last may reach libvirt after the first.
        let script = format!(
            "said=$(timeout -s KILL {limit} head -c {}); [ \"$said\" = {OVER} ] && exit; \
            timeout -s KILL {wait} {thaw}; sleep {GUARD_PAUSE_S}; timeout -s KILL {wait} {thaw}",
            OVER.len()
        );
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(script).current_dir("/").env("LC_ALL", "C");
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own: what ends this process from the keyboard leaves it alone.
        shell.process_group(0).spawn().map(Self)
    }

    /// It is not needed any more.
    fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // If it is gone already, it has done its work.
            let _ = pipe.write_all(OVER.as_bytes());
        }
        let until = Instant::now() + GUARD_END;
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Asks the guest's agent, by way of libvirt, to freeze it. `folder` gets the file that says so.
///
/// # Errors
/// Why the guest is not frozen, in words: the capture is crash-consistent then.
pub(super) fn freeze<'a>(
    virsh: &'a Virsh,
    mark: &QemuMark,
    folder: &Path,
    limit: Duration,
) -> Result<Frozen<'a>, String> {
    let told = |error: &dyn std::fmt::Display| format!("the guest was not frozen: {error}");
    let marker = folder.join(frozen(mark));
    std::fs::write(&marker, "").map_err(|error| told(&error))?;
    let guard = Guard::start(virsh, limit);
    let guard = guard.map_err(|error| told(&format!("no process to thaw it: {error}")))?;
    let since = Instant::now();
    let frozen = Frozen { virsh, since, limit, marker, guard: Some(guard) };
    // The process that waits thaws when the limit is over. Its work must not fall into the freeze.
    match virsh.run_for("domfsfreeze", &[], &[], limit * 7 / 8) {
        Ok(answer) if count(&answer) == Some(0) => {
            frozen.end()?;
            Err(told(&"its agent found no file system"))
        }
        Ok(_) => Ok(frozen),
        Err(error) if error.refusal().is_some_and(|reason| reason.contains(FROZEN_ALREADY)) => {
            frozen.leave_alone();
            Err(told(&"it is frozen by somebody else, who may let it go at any time"))
        }
        // Nobody was asked.
        Err(error) if is_without_agent(&error) => {
            frozen.leave_alone();
            Err(told(&error))
        }
        // It may be frozen all the same, now or when the agent comes to it.
        Err(error) => {
            frozen.end().map_err(|left| format!("{}; {left}", told(&error)))?;
            Err(told(&error))
        }
    }
}

impl Frozen<'_> {
    /// Thaws the guest after its disks were captured.
    ///
    /// # Errors
    /// Why that may not have been done on a frozen guest, or why the guest may still be frozen, in
    /// words.
    pub fn thaw(self) -> Result<(), String> {
        let (limit, since) = (self.limit, self.since);
        let count = self.end()?;
        if count.is_none_or(|count| count == 0) || since.elapsed() > limit {
            let limit = limit.as_secs_f32();
            return Err(format!(
                "the guest was thawed before its disks were captured, at the latest after {limit} s"
            ));
        }
        Ok(())
    }

    /// Gives back how many file systems were still frozen, as far as libvirt tells.
    fn end(mut self) -> Result<Option<u64>, String> {
        let thawed = thaw(self.virsh, THAW_TRIES);
        self.dismiss();
        let answer = thawed.map_err(|error| {
            format!("the guest may still be frozen, which the next run looks after: {error}")
        })?;
        self.forget();
        Ok(count(&answer))
    }

    /// Somebody else's freeze is not ended.
    fn leave_alone(mut self) {
        self.dismiss();
        self.forget();
    }

    fn dismiss(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.dismiss();
        }
    }

    fn forget(&self) {
        // If it stays, the next run thaws a guest that is not frozen.
        let _ = std::fs::remove_file(&self.marker);
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if self.guard.is_some() {
            // The file stays: the next run asks again.
            if let Err(error) = thaw(self.virsh, THAW_TRIES) {
                tracing::warn!(%error, "the guest may still be frozen");
            }
            self.dismiss();
        }
    }
}

fn thaw(virsh: &Virsh, tries: usize) -> Result<String, VirshError> {
    let once = || virsh.run_for("domfsthaw", &[], &[], THAW_LIMIT);
    let mut thawed = once();
    for _ in 1..tries {
        if thawed.is_err() {
            thawed = once();
        }
    }
    thawed
}

/// Whether there is no agent that could have been asked.
fn is_without_agent(error: &VirshError) -> bool {
    let says = |reason: &str| {
        ["agent is not configured", "agent is not connected", "domain is not running"]
            .iter()
            .any(|text| reason.contains(text))
    };
    error.refusal().is_some_and(says)
}

/// Thaws a guest that an earlier run may have left frozen.
///
/// # Errors
/// Why it may still be frozen, in words.
pub(super) fn thaw_left(virsh: &Virsh, mark: &QemuMark, folder: &Path) -> Result<(), String> {
    let marker = folder.join(frozen(mark));
    if !marker.exists() {
        return Ok(());
    }
    match thaw(virsh, 1) {
        Err(error) if error.refusal().is_some_and(|reason| reason.contains("is not running")) => {}
        Err(error) => return Err(format!("the guest may still be frozen: {error}")),
        Ok(_) => {}
    }
    std::fs::remove_file(&marker).map_err(|error| format!("{}: {error}", marker.display()))
}

/// The number in `Froze 2 filesystem(s)`.
fn count(answer: &str) -> Option<u64> {
    answer.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted() {
        assert_eq!(count("Froze 2 filesystem(s)\n\n"), Some(2));
        assert_eq!(count("Thawed 0 filesystem(s)"), Some(0));
        assert_eq!((count(""), count("Froze")), (None, None));
    }
}
