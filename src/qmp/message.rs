//! What QEMU and the agent send, taken apart.

use serde_json::{Map, Value};

/// Longest part of a foreign message that is shown.
const SHOWN_CHARS_MAX: usize = 120;

/// A version of QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u64,
    /// The second number.
    pub minor: u64,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Something that happened, told without being asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// QEMU's name of it, such as `JOB_STATUS_CHANGE`.
    pub name: String,
    /// What QEMU says about it; null for nothing.
    pub data: Value,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The first line of a monitor.
    Greeting(Version),
    /// A command was done, and gave this.
    Done {
        /// The number that the command had.
        id: Option<u64>,
        /// What it gives back.
        value: Value,
    },
    /// A command was refused.
    Refused {
        /// The number that the command had.
        id: Option<u64>,
        /// QEMU's class of errors.
        class: String,
        /// QEMU's words.
        reason: String,
    },
    /// Something happened.
    Event(Event),
}

/// Takes a line apart.
///
/// # Errors
/// What is wrong with it, in words.
pub fn parse_message(line: &[u8]) -> Result<Message, String> {
    let mut fields: Map<String, Value> =
        serde_json::from_slice(line).map_err(|error| format!("{error} in {}", shown(line)))?;
    let id = fields.get("id").and_then(Value::as_u64);
    if let Some(greeting) = fields.get("QMP") {
        let number = |name: &str| greeting.pointer(&format!("/version/qemu/{name}"))?.as_u64();
        let version = number("major").zip(number("minor"));
        let (major, minor) = version.ok_or("a greeting without a version")?;
        return Ok(Message::Greeting(Version { major, minor }));
    }
    if let Some(Value::String(name)) = fields.remove("event") {
        let data = fields.remove("data").unwrap_or(Value::Null);
        return Ok(Message::Event(Event { name, data }));
    }
    if let Some(error) = fields.get("error") {
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let class = text("class").unwrap_or("no class").to_owned();
        let reason = text("desc").unwrap_or("no reason given");
        return Ok(Message::Refused { id, class, reason: shown(reason.as_bytes()) });
    }
    match fields.remove("return") {
        Some(value) => Ok(Message::Done { id, value }),
        None => Err(format!("neither an answer nor an event: {}", shown(line))),
    }
}

/// Whether a line of the agent answers the synchronisation with this number. Anything may stand
/// before the byte 0xff: it belongs to an answer that nobody waits for any more.
pub fn synchronised(line: &[u8], number: u64) -> bool {
    let Some(at) = line.iter().rposition(|byte| *byte == 0xff) else { return false };
    let answer = parse_message(line.get(at + 1..).unwrap_or(&[]));
    matches!(answer, Ok(Message::Done { value, .. }) if value.as_u64() == Some(number))
}

/// A foreign text, cut off and without what a terminal would obey.
pub(super) fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut shown: String =
        text.chars().take(SHOWN_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}
