//! Running commands of the user's: with a time limit, bounded output, and nothing left running.

use crate::units::{format_duration, readable};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Every variable that afterimage gives to commands begins like this; others of that name, which it
/// may have been started with, are no business of theirs.
const VARIABLES: &str = "AFTERIMAGE_";

/// So much of the end of what a command complained is kept.
const COMPLAINT_BYTES_MAX: usize = 4096;
/// And so much of that is shown.
const COMPLAINT_CHARS_MAX: usize = 300;

/// How often it is looked whether a command is done that closed its outputs.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// A killed process is waited for so long: one that hangs in the kernel never ends.
const KILLED_WAIT: Duration = Duration::from_secs(5);

/// A command of the user's, for the shell.
#[derive(Debug)]
pub struct UserCommand<'a> {
    /// What the settings call it, for messages.
    pub name: &'static str,
    /// The command line.
    pub line: &'a str,
    /// Variables that it gets.
    pub variables: &'a [(&'static str, String)],
    /// When it runs longer than this, it is killed with everything that it started.
    pub time_limit: Duration,
    /// More output is refused.
    pub output_bytes_max: usize,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It did not begin, or could not be watched.
    #[error("the command `{name}` cannot be run: {source}")]
    NotRun {
        /// What the settings call it.
        name: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// It said that it failed.
    #[error("the command `{name}` failed ({status}){}", said(complaint))]
    Failed {
        /// What the settings call it.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it complained.
        complaint: String,
    },
    /// It took too long.
    #[error("the command `{name}` was killed, because it ran for more than {}{}",
        format_duration(*time_limit), said(complaint))]
    TooLong {
        /// What the settings call it.
        name: &'static str,
        /// The limit.
        time_limit: Duration,
        /// The end of what it complained.
        complaint: String,
    },
    /// It printed too much.
    #[error("the command `{name}` was killed, because it printed more than {bytes_max} bytes")]
    TooMuch {
        /// What the settings call it.
        name: &'static str,
        /// The limit.
        bytes_max: usize,
    },
}

fn said(complaint: &str) -> String {
    if complaint.is_empty() { String::new() } else { format!(": {complaint}") }
}

impl UserCommand<'_> {
    /// Runs it in the folder `/`, and gives back what it printed.
    ///
    /// # Errors
    /// When it did not end well, within its limits.
    pub fn run(&self) -> Result<Vec<u8>, CommandError> {
        let error = |source| CommandError::NotRun { name: self.name, source };
        let mut running = Running::start(self).map_err(error)?;
        let deadline = Instant::now() + self.time_limit;
        let status = loop {
            let ended = running.look().map_err(error)?;
            if running.printed.len() > self.output_bytes_max {
                let bytes_max = self.output_bytes_max;
                return Err(CommandError::TooMuch { name: self.name, bytes_max });
            }
            match ended {
                Some(status) => break status,
                None if Instant::now() >= deadline => {
                    let (name, time_limit) = (self.name, self.time_limit);
                    let complaint = running.complaint();
                    return Err(CommandError::TooLong { name, time_limit, complaint });
                }
                None => {}
            }
        };
        if status.success() {
            Ok(std::mem::take(&mut running.printed))
        } else {
            let complaint = running.complaint();
            Err(CommandError::Failed { name: self.name, status, complaint })
        }
    }
}

/// A command that runs. When it is dropped before its end, it is killed.
struct Running {
    child: Child,
    is_over: bool,
    output: Option<File>,
    errors: Option<File>,
    printed: Vec<u8>,
    complained: Vec<u8>,
    output_bytes_max: usize,
}

impl Running {
    fn start(command: &UserCommand<'_>) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command.line).current_dir("/");
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(VARIABLES.as_bytes()) {
                shell.env_remove(name);
            }
        }
        shell.envs(command.variables.iter().map(|(name, value)| (name, value)));
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own, so that whatever it starts can be killed with it.
        let mut child = shell.process_group(0).spawn()?;
        let output = child.stdout.take().map(OwnedFd::from);
        let errors = child.stderr.take().map(OwnedFd::from);
        let mut running = Self {
            child,
            is_over: false,
            output: None,
            errors: None,
            printed: Vec::new(),
            complained: Vec::new(),
            output_bytes_max: command.output_bytes_max,
        };
        running.output = output.map(unblocked).transpose()?;
        running.errors = errors.map(unblocked).transpose()?;
        Ok(running)
    }

    /// Waits a moment for something to happen, takes what was printed, and tells whether the
    /// command ended. What it left running in the background is not waited for.
    fn look(&mut self) -> io::Result<Option<ExitStatus>> {
        let pipes = self.output.iter().chain(&self.errors);
        let mut waiting: Vec<PollFd<'_>> =
            pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        match poll(&mut waiting, Some(&LOOK_EVERY)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        // Asked before its outputs are read: then all that it printed is there.
        let ended = self.child.try_wait()?;
        self.is_over = ended.is_some();
        let enough = self.output_bytes_max.saturating_add(1);
        take(&mut self.output, &mut self.printed, enough)?;
        let complained = COMPLAINT_BYTES_MAX * 16;
        take(&mut self.errors, &mut self.complained, complained)?;
        let surplus = self.complained.len().saturating_sub(COMPLAINT_BYTES_MAX);
        self.complained.drain(..surplus);
        Ok(ended)
    }

    /// The end of what it complained, on one line.
    fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.complained);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let text = lines.collect::<Vec<_>>().join("; ");
        let surplus = text.chars().count().saturating_sub(COMPLAINT_CHARS_MAX);
        readable(text.chars().skip(surplus).collect::<String>())
    }
}

fn unblocked(pipe: OwnedFd) -> io::Result<File> {
    let flags = rustix::fs::fcntl_getfl(&pipe)?;
    rustix::fs::fcntl_setfl(&pipe, flags | rustix::fs::OFlags::NONBLOCK)?;
    Ok(File::from(pipe))
}

/// Reads what is there, until `bytes` has `enough` of it. At its end the pipe is closed.
fn take(pipe: &mut Option<File>, bytes: &mut Vec<u8>, enough: usize) -> io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    while let Some(file) = pipe
        && bytes.len() < enough
    {
        let room = buffer.len().min(enough - bytes.len());
        match file.read(&mut buffer[..room]) {
            Ok(0) => *pipe = None,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // Its number is still its own: it was not waited for.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let deadline = Instant::now() + KILLED_WAIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Vec<u8>, CommandError> {
        let variables = [("AFTERIMAGE_DISK", "root; echo no".to_owned())];
        let command = UserCommand {
            name: "create",
            line,
            variables: &variables,
            time_limit: Duration::from_millis(300),
            output_bytes_max: 100_000,
        };
        command.run()
    }

    #[test]
    fn a_command_gets_its_variables_and_gives_back_what_it_prints() {
        let printed = run("echo \"$AFTERIMAGE_DISK\"; pwd; echo aside >&2").unwrap();
        assert_eq!(printed, b"root; echo no\n/\n");
        let many = run("head -c 100000 /dev/zero; head -c 300000 /dev/zero >&2").unwrap();
        assert_eq!(many, [0; 100_000]);
    }

    #[test]
    fn a_command_that_fails_is_quoted_from_its_end() {
        let failed = run("yes before | head -n 1000 >&2; printf 'no\\nspace\\033[2J' >&2; exit 3");
        let text = failed.unwrap_err().to_string();
        assert!(text.contains("`create` failed (exit status: 3)"), "{text}");
        assert!(text.ends_with("no; space\\u{1b}[2J"), "{text}");
        assert!(text.len() < 500, "{text}");
        let text = run("kill -9 $$").unwrap_err().to_string();
        assert!(text.contains("signal: 9"), "{text}");
    }

    /// Nothing that it started stays behind.
    #[test]
    fn a_command_that_hangs_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let note = folder.path().join("pid");
        let begun = Instant::now();
        let line = format!("sleep 1000 & echo $! > {}; echo waiting >&2; wait", note.display());
        let text = run(&line).unwrap_err().to_string();
        assert!(text.contains("killed") && text.ends_with("waiting"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(100));
        let pid = std::fs::read_to_string(&note).unwrap();
        let stat = format!("/proc/{}/stat", pid.trim());
        let is_gone = || match std::fs::read_to_string(&stat) {
            Ok(stat) => stat.contains(") Z "),
            Err(_) => true,
        };
        let deadline = Instant::now() + Duration::from_secs(100);
        while !is_gone() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(is_gone());
    }

    #[test]
    fn a_command_that_prints_endlessly_is_killed() {
        let text = run("yes").unwrap_err().to_string();
        assert!(text.contains("more than 100000 bytes"), "{text}");
        let text = run("yes >&2").unwrap_err().to_string();
        assert!(text.contains("ran for more than"), "{text}");
    }

    #[test]
    fn what_a_command_leaves_in_the_background_is_not_waited_for() {
        let printed = run("sleep 20 & echo \"$!\"").unwrap();
        let pid: i32 = String::from_utf8(printed).unwrap().trim().parse().unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
}
