//! The guest's file systems are frozen for the instant of the capture, never longer.
//!
//! Invariants: a process of its own asks for the freeze, and thaws the guest when this one dies or
//! takes too long; before that a file says who froze it. Whatever goes wrong, the thaw is asked for; the
//! file goes only when libvirt says that the guest is thawed.

use super::names::frozen;
use super::virsh::{Virsh, VirshError};
use crate::capture::{CommandError, QemuMark};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for one thaw, and how often it is asked for. An agent that does not answer costs
/// libvirt five seconds.
const THAW_LIMIT: Duration = Duration::from_secs(15);
const THAW_TRIES: usize = 3;
/// How long the process that waits may take to end.
const GUARD_END: Duration = Duration::from_secs(5);
const FREEZE: &str = "domfsfreeze";
/// No answer to a freeze is this long.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// What stands before the status of the freeze.
const STATUS: &str = "status of the freeze: ";
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

/// The process that freezes the guest, and thaws it when this one dies.
#[derive(Debug)]
struct Guard(Child);

impl Guard {
    /// Starts it, and has it ask for the freeze: so nothing that this process asked for can reach
    /// libvirt after the thaw.
    fn start(virsh: &Virsh, limit: Duration) -> std::io::Result<Self> {
        let bare = |name| virsh.line(name, &[]).trim_start_matches("exec ").to_owned();
        let (freeze, thaw) = (bare("domfsfreeze"), bare("domfsthaw"));
        // The freeze may take a part of the time, and its end is told even when nobody listens.
        let (part, all) = (limit.as_secs_f64() * 7.0 / 8.0, limit.as_secs_f64());
        let (wait, len) = (THAW_LIMIT.as_secs(), OVER.len());
        let script = format!(
            "trap '' PIPE\n\
             timeout -s KILL {part} {freeze} 2>&1\n\
             echo \"{STATUS}$?\"\n\
             exec >/dev/null\n\
             said=$(timeout -s KILL {all} head -c {len})\n\
             [ \"$said\" = {OVER} ] || timeout -s KILL {wait} {thaw}\n"
        );
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(script).current_dir("/").env("LC_ALL", "C");
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        // A group of its own: what ends this process from the keyboard leaves it alone.
        shell.process_group(0).spawn().map(Self)
    }

    /// What libvirt said to the freeze.
    fn answer(&mut self, virsh: &Virsh) -> Result<String, VirshError> {
        let mut said = Vec::new();
        if let Some(pipe) = self.0.stdout.take() {
            // It ends with the freeze, which ends in time.
            let read = pipe.take(ANSWER_BYTES_MAX).read_to_end(&mut said);
            read.map_err(|source| CommandError::NotRun { name: FREEZE, source })?;
        }
        let said = String::from_utf8_lossy(&said);
        match said.rsplit_once(STATUS) {
            Some((answer, "0\n")) => Ok(answer.to_owned()),
            Some((answer, code)) => {
                let code = code.trim_end().parse().unwrap_or(1);
                Err(virsh.failed(FREEZE, code, answer))
            }
            None => {
                let source = std::io::Error::other("it ended without an answer");
                Err(CommandError::NotRun { name: FREEZE, source }.into())
            }
        }
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
    match std::fs::File::create_new(&marker) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(told(&error)),
        _ => {}
    }
    let guard = Guard::start(virsh, limit);
    let mut guard = guard.map_err(|error| told(&format!("no process to thaw it: {error}")))?;
    let answer = guard.answer(virsh);
    let frozen = Frozen { virsh, since: Instant::now(), limit, marker, guard: Some(guard) };
    match answer {
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
    fn a_freeze_that_fails_is_told_in_libvirts_words() {
        let uri = "test:///default".to_owned();
        let virsh = Virsh { uri, domain: "nobody".to_owned() };
        let folder = tempfile::tempdir().unwrap();
        let mark = crate::capture::libvirt::names::tests::mark(1);
        let told = freeze(&virsh, &mark, folder.path(), Duration::from_secs(20)).unwrap_err();
        assert!(told.contains("the guest was not frozen"), "{told}");
        assert!(told.contains("has no domain \"nobody\""), "{told}");
    }

    #[test]
    fn answers_are_counted() {
        assert_eq!(count("Froze 2 filesystem(s)\n\n"), Some(2));
        assert_eq!(count("Thawed 0 filesystem(s)"), Some(0));
        assert_eq!((count(""), count("Froze")), (None, None));
    }
}
