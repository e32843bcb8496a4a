//! Server-sent events, byte by byte as they come in.

/// Longest event, in bytes. A message about damage names points, of which there may be many.
const EVENT_BYTES_MAX: usize = 8 << 20;

/// The stream is none: an event is longer than the limit, or no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is no text of at most {} MiB", EVENT_BYTES_MAX >> 20)]
pub struct StreamError;

/// An event as it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawEvent {
    /// Its kind; empty where none was given.
    pub kind: String,
    /// The last identity that was sent, in this event or before.
    pub id: String,
    /// Its lines.
    pub data: String,
}

/// Reads a stream of events.
#[derive(Debug, Default)]
pub struct StreamReader {
    line: Vec<u8>,
    kind: String,
    id: String,
    data: Option<String>,
}

impl StreamReader {
    /// Takes bytes that came in, and adds the events that they complete to `events`.
    ///
    /// # Errors
    /// [`StreamError`]. The reader is of no use then.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<RawEvent>) -> Result<(), StreamError> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let held = self.line.len() + self.kind.len() + self.id.len();
            let held = held + self.data.as_ref().map_or(0, String::len);
            if held + part.len() > EVENT_BYTES_MAX {
                return Err(StreamError);
            }
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                let text = std::str::from_utf8(&line).map_err(|_| StreamError)?;
                self.read_line(text.trim_end_matches(['\r', '\n']), events);
            }
        }
        Ok(())
    }

    fn read_line(&mut self, line: &str, events: &mut Vec<RawEvent>) {
        if line.is_empty() {
            let kind = std::mem::take(&mut self.kind);
            if let Some(data) = self.data.take() {
                events.push(RawEvent { kind, id: self.id.clone(), data });
            }
            return;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.kind),
            "id" => value.clone_into(&mut self.id),
            "data" => match &mut self.data {
                None => self.data = Some(value.to_owned()),
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
            },
            // Comments, such as signs of life, and what is not known here.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_however_they_are_cut() {
        let text = ": hello\n\nid: a-1\ndata: one\n\nevent: gap\r\ndata: two\r\ndata:three\r\n\r\n\
                    id: a-2\nretry: 5\n\n";
        let event = |kind: &str, id: &str, data: &str| RawEvent {
            kind: kind.to_owned(),
            id: id.to_owned(),
            data: data.to_owned(),
        };
        for piece in 1..text.len() {
            let (mut reader, mut events) = (StreamReader::default(), Vec::new());
            for part in text.as_bytes().chunks(piece) {
                reader.push(part, &mut events).unwrap();
            }
            let expected = [event("", "a-1", "one"), event("gap", "a-1", "two\nthree")];
            assert_eq!(events, expected, "{piece}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused_before_it_fills_the_memory() {
        let mut reader = StreamReader::default();
        let mut events = Vec::new();
        let piece = [b'x'; 64 * 1024];
        let taken = (0..1000).take_while(|_| reader.push(&piece, &mut events).is_ok()).count();
        assert_eq!(taken, EVENT_BYTES_MAX / piece.len());
        let mut reader = StreamReader::default();
        let line = format!("data: {}\n", "x".repeat(1000));
        let taken = (0..100_000).take_while(|_| reader.push(line.as_bytes(), &mut events).is_ok());
        assert!(taken.count() < 2 * EVENT_BYTES_MAX / line.len());
    }
}
