//! The agent in the guest.
//!
//! Its answers carry no numbers, and it may be slow, hang or be started anew at any time. So each
//! command comes after a synchronisation: whatever arrives before the answer to that is late, and is
//! dropped. A guest may send anything here.

use super::QmpError;
use super::lines::{Lines, Wait};
use super::message::{Message, parse_message, shown, synchronised};
use crate::units::fill_random;
use serde_json::{Value, json};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// Lines that are dropped at most while a synchronisation is waited for.
const DROPPED_MAX: usize = 1000;
const EXPECTED: &str = "a guest agent";

/// Whether the guest's file systems are frozen, as its agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreezeStatus {
    /// The guest can write.
    Thawed,
    /// It cannot.
    Frozen,
}

/// A connection to the agent in a guest.
#[derive(Debug)]
pub struct Agent {
    lines: Lines,
}

impl Agent {
    /// Connects to the socket. That says nothing about whether an agent is at its other end.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        Ok(Self { lines: Lines::connect(path, limit)? })
    }

    /// The connection itself, for whoever thaws the guest when this process dies.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.lines.socket()
    }

    /// Whether the guest is frozen.
    ///
    /// # Errors
    /// When the agent does not answer as it should, in time.
    pub fn freeze_status(&mut self, limit: Duration) -> Result<FreezeStatus, QmpError> {
        let status = self.execute("guest-fsfreeze-status", limit)?;
        match status.as_str() {
            Some("thawed") => Ok(FreezeStatus::Thawed),
            Some("frozen") => Ok(FreezeStatus::Frozen),
            _ => Err(self.garbage(format!("the status {}", shown(status.to_string().as_bytes())))),
        }
    }

    /// Writes back what the guest's file systems hold in memory, and keeps them from being written
    /// to. Gives back how many they are.
    ///
    /// # Errors
    /// As [`Self::freeze_status`]; the guest may be frozen then, now or later.
    pub fn freeze(&mut self, limit: Duration) -> Result<u64, QmpError> {
        self.counted("guest-fsfreeze-freeze", limit)
    }

    /// Lets the guest's file systems be written to again. Gives back how many were frozen.
    ///
    /// # Errors
    /// As [`Self::freeze_status`]; an agent that is only late does it all the same.
    pub fn thaw(&mut self, limit: Duration) -> Result<u64, QmpError> {
        self.counted("guest-fsfreeze-thaw", limit)
    }

    fn counted(&mut self, command: &str, limit: Duration) -> Result<u64, QmpError> {
        let value = self.execute(command, limit)?;
        let found = || format!("{command} gave {}", shown(value.to_string().as_bytes()));
        value.as_u64().ok_or_else(|| self.garbage(found()))
    }

    fn execute(&mut self, command: &str, limit: Duration) -> Result<Value, QmpError> {
        let wait = Wait::new(command, limit);
        // Both at once: an agent that is late carries the command out all the same.
        let mut random = [0; 4];
        fill_random(&mut random)
            .map_err(|source| QmpError::Io { path: self.lines.path().to_owned(), source })?;
        let number = u64::from(u32::from_le_bytes(random));
        let synchronise =
            json!({ "execute": "guest-sync-delimited", "arguments": { "id": number } });
        let mut request = vec![0xff];
        request.extend_from_slice(format!("{synchronise}\n").as_bytes());
        request.extend_from_slice(format!("{}\n", json!({ "execute": command })).as_bytes());
        self.lines.send(&request, None, &wait)?;
        self.synchronise(number, &wait)?;
        let line = self.lines.next(&wait)?;
        match parse_message(&line).map_err(|found| self.garbage(found))? {
            Message::Done { value, .. } => Ok(value),
            Message::Refused { class, reason, .. } => {
                let (path, command) = (self.lines.path().to_owned(), command.to_owned());
                Err(QmpError::Refused { path, command, class, reason })
            }
            _ => Err(self.garbage(shown(&line))),
        }
    }

    fn synchronise(&mut self, number: u64, wait: &Wait<'_>) -> Result<(), QmpError> {
        for _ in 0..DROPPED_MAX {
            if synchronised(&self.lines.next(wait)?, number) {
                return Ok(());
            }
        }
        Err(self.garbage(format!("{DROPPED_MAX} lines that answer nothing")))
    }

    fn garbage(&self, found: String) -> QmpError {
        QmpError::Garbage { path: self.lines.path().to_owned(), expected: EXPECTED, found }
    }
}
