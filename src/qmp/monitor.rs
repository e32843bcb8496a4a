//! QEMU's monitor.

use super::QmpError;
use super::lines::{Lines, Wait};
use super::message::{Event, Message, Version, parse_message, shown};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Duration;

/// Events that are kept until somebody asks for them; older ones go.
const EVENTS_MAX: usize = 256;
const EXPECTED: &str = "a QEMU monitor";

/// A connection to the monitor of a running QEMU.
#[derive(Debug)]
pub struct Monitor {
    lines: Lines,
    version: Version,
    /// Number of the last command.
    last_id: u64,
    events: VecDeque<Event>,
    limit: Duration,
}

impl Monitor {
    /// Connects, and leaves the mode in which only capabilities can be negotiated. No answer takes
    /// longer than `limit`, unless a command is given a limit of its own.
    ///
    /// # Errors
    /// When nobody listens, or what listens is no monitor.
    pub fn connect(path: &Path, limit: Duration) -> Result<Self, QmpError> {
        let mut lines = Lines::connect(path, limit)?;
        let wait = Wait::new("the connection", limit);
        let greeting = lines.next(&wait).map_err(|error| match error {
            // It was queued: QEMU serves one client at a time.
            QmpError::TimedOut { path, .. } => QmpError::Busy { path },
            other => other,
        })?;
        let version = match parse_message(&greeting) {
            Ok(Message::Greeting(version)) => version,
            Ok(_) => return Err(garbage(&lines, shown(&greeting))),
            Err(found) => return Err(garbage(&lines, found)),
        };
        let mut monitor = Self { lines, version, last_id: 0, events: VecDeque::new(), limit };
        monitor.execute("qmp_capabilities", json!({}))?;
        Ok(monitor)
    }

    /// Which QEMU it is.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The socket.
    pub fn path(&self) -> &Path {
        self.lines.path()
    }

    /// Has a command carried out; gives back what it returns. `arguments` is an object.
    ///
    /// # Errors
    /// [`QmpError::Refused`] when QEMU refuses; else the connection is of no use any more, or the
    /// answer is late: then it is dropped when it comes.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(command, arguments, self.limit)
    }

    /// As [`Self::execute`], with another time limit.
    ///
    /// # Errors
    /// As there.
    pub fn execute_within(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        self.ask(command, arguments, None, limit)
    }

    /// As [`Self::execute`], of a command that takes a file descriptor.
    ///
    /// # Errors
    /// As there.
    pub fn execute_with_descriptor(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: BorrowedFd<'_>,
    ) -> Result<Value, QmpError> {
        self.ask(command, arguments, Some(descriptor), self.limit)
    }

    /// Events that came with the answers so far, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    fn ask(
        &mut self,
        command: &str,
        arguments: Value,
        descriptor: Option<BorrowedFd<'_>>,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let wait = Wait::new(command, limit);
        self.last_id += 1;
        let request = json!({ "execute": command, "arguments": arguments, "id": self.last_id });
        let line = format!("{request}\n");
        self.lines.send(line.as_bytes(), descriptor, &wait)?;
        loop {
            let line = self.lines.next(&wait)?;
            match parse_message(&line).map_err(|found| garbage(&self.lines, found))? {
                Message::Event(event) => self.keep(event),
                Message::Done { id: Some(id), value } if id == self.last_id => return Ok(value),
                Message::Refused { id: Some(id), class, reason } if id == self.last_id => {
                    let (path, command) = (self.path().to_owned(), command.to_owned());
                    return Err(QmpError::Refused { path, command, class, reason });
                }
                // The late answer to a command that was given up.
                Message::Done { id: Some(id), .. } | Message::Refused { id: Some(id), .. }
                    if id < self.last_id => {}
                _ => {
                    let found = format!("this is no answer to {command}: {}", shown(&line));
                    return Err(garbage(&self.lines, found));
                }
            }
        }
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn garbage(lines: &Lines, found: String) -> QmpError {
    QmpError::Garbage { path: lines.path().to_owned(), expected: EXPECTED, found }
}
