//! Requests of a client, one after the other, and their replies.

use super::Limits;
use super::export::{Export, ExportError};
use super::handshake::Session;
use crate::extent::Extent;
use crate::nbd::bytes::Fields;
use crate::nbd::error::ErrorCode;
use crate::nbd::numbers as n;
use crate::nbd::stream::Stream;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

/// What is read or written at once, in bytes: the memory that a client can take.
const PIECE_BYTES: u32 = 1 << 20;
/// The most pieces of status that one reply holds.
const STATUSES_MAX: usize = 16 << 10;

/// A request, as it came.
#[derive(Debug, Clone, Copy)]
struct Request {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    len: u32,
}

/// One client's conversation with its export.
pub(super) struct Transmission<'a> {
    stream: Box<dyn Stream>,
    export: Arc<dyn Export>,
    is_structured: bool,
    contexts: Vec<String>,
    limits: &'a Limits,
    buffer: Vec<u8>,
}

/// Why a conversation ends.
fn give_up(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why)
}

impl<'a> Transmission<'a> {
    pub(super) fn new(session: Session, limits: &'a Limits) -> Self {
        let Session { stream, export, is_structured, contexts } = session;
        Self { stream, export, is_structured, contexts, limits, buffer: Vec::new() }
    }

    /// Answers requests until the client says goodbye.
    pub(super) fn run(mut self) -> io::Result<()> {
        while let Some(request) = self.next()? {
            self.stream.set_deadline(Some(Instant::now() + self.limits.request_time_max));
            match request.command {
                n::CMD_READ => self.read(&request)?,
                n::CMD_WRITE => self.write(&request)?,
                n::CMD_BLOCK_STATUS => self.block_status(&request)?,
                _ => {
                    let done = self.simple_command(&request);
                    self.answer(&request, done)?;
                }
            }
            self.stream.flush()?;
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Request>> {
        self.stream.set_deadline(Some(Instant::now() + self.limits.idle_time_max));
        let mut head = [0; n::REQUEST_BYTES];
        self.stream.read_exact(&mut head[..1])?;
        self.stream.set_deadline(Some(Instant::now() + self.limits.request_time_max));
        self.stream.read_exact(&mut head[1..])?;
        let mut fields = Fields(&head);
        let magic = fields.u32();
        let (Some(flags), Some(command), Some(cookie), Some(offset), Some(len)) =
            (fields.u16(), fields.u16(), fields.u64(), fields.u64(), fields.u32())
        else {
            return Err(give_up("a request is too short"));
        };
        if magic != Some(n::REQUEST_MAGIC) {
            return Err(give_up("what should be a request is none"));
        }
        let request = Request { flags, command, cookie, offset, len };
        Ok((command != n::CMD_DISC).then_some(request))
    }

    /// The range of a request, when it lies within the export and its flags are known.
    fn range(&self, request: &Request, known_flags: u16) -> Result<Extent, ExportError> {
        let refused = |words| Err(ExportError::new(ErrorCode::INVAL, words));
        if request.flags & !(known_flags | n::CMD_FLAG_FUA) != 0 {
            return refused("a flag is unknown");
        }
        let size_bytes = self.export.size_bytes();
        match Extent::new(request.offset, u64::from(request.len)) {
            Some(range) if range.end() <= size_bytes => Ok(range),
            // The protocol wants this number where something would be written.
            _ if request.command == n::CMD_WRITE || request.command == n::CMD_WRITE_ZEROES => {
                Err(ExportError::new(ErrorCode::NOSPC, "it lies past the end"))
            }
            _ => refused("it lies past the end"),
        }
    }

    fn require_writable(&self) -> Result<(), ExportError> {
        if self.export.is_writable() {
            Ok(())
        } else {
            Err(ExportError::new(ErrorCode::PERM, "the export is read-only"))
        }
    }

    fn simple_command(&self, request: &Request) -> Result<(), ExportError> {
        match request.command {
            n::CMD_FLUSH => {
                let is_plain = (request.offset, request.len) == (0, 0);
                self.range(request, 0)?;
                if !is_plain {
                    let words = "a flush has neither offset nor length";
                    return Err(ExportError::new(ErrorCode::INVAL, words));
                }
                self.export.flush()
            }
            n::CMD_WRITE_ZEROES | n::CMD_TRIM => {
                let is_zeroes = request.command == n::CMD_WRITE_ZEROES;
                self.require_writable()?;
                let known = if is_zeroes { n::CMD_FLAG_NO_HOLE } else { 0 };
                let range = self.range(request, known)?;
                match is_zeroes {
                    true => {
                        let keeps_allocated = request.flags & n::CMD_FLAG_NO_HOLE != 0;
                        self.export.write_zeroes(range, keeps_allocated)?;
                    }
                    false => self.export.trim(range)?,
                }
                self.flush_if_asked(request)
            }
            _ => Err(ExportError::new(ErrorCode::INVAL, "the command is unknown")),
        }
    }

    fn flush_if_asked(&self, request: &Request) -> Result<(), ExportError> {
        if request.flags & n::CMD_FLAG_FUA != 0 { self.export.flush() } else { Ok(()) }
    }

    /// Takes what is to be written, piece by piece; all of it, also when a piece fails.
    fn write(&mut self, request: &Request) -> io::Result<()> {
        if request.len > n::REQUEST_BYTES_MAX {
            return Err(give_up("a write is longer than the server said it takes"));
        }
        let mut done = self.require_writable().and_then(|()| self.range(request, 0));
        let mut at = request.offset;
        let mut rest = request.len;
        while rest > 0 {
            let now = rest.min(PIECE_BYTES);
            self.buffer.resize(now as usize, 0);
            self.stream.read_exact(&mut self.buffer)?;
            if done.is_ok()
                && let Err(error) = self.export.write_at(&self.buffer, at)
            {
                done = Err(error);
            }
            rest -= now;
            at = at.saturating_add(u64::from(now));
        }
        let done = done.and_then(|_| self.flush_if_asked(request));
        self.answer(request, done)
    }

    fn read(&mut self, request: &Request) -> io::Result<()> {
        let range = match self.range(request, 0) {
            Ok(_) if request.len > n::REQUEST_BYTES_MAX => {
                let words = "longer than the server said it gives";
                return self.refuse(request, &ExportError::new(ErrorCode::OVERFLOW, words));
            }
            Ok(range) => range,
            Err(error) => return self.refuse(request, &error),
        };
        if range.is_empty() {
            return self.answer(request, Ok(()));
        }
        let mut at = range.start();
        while at < range.end() {
            let end = range.end().min(at + u64::from(PIECE_BYTES));
            self.buffer.resize((end - at) as usize, 0);
            match self.export.read_at(&mut self.buffer, at) {
                Ok(()) if self.is_structured => {
                    self.send_content(request, at, end == range.end())?;
                }
                Ok(()) => {
                    if at == range.start() {
                        self.send_simple(request, 0)?;
                    }
                    self.stream.write_all(&self.buffer)?;
                }
                // In the middle of a simple reply nothing can be said any more.
                Err(_) if !self.is_structured && at > range.start() => {
                    return Err(give_up("a read failed in its middle"));
                }
                Err(error) => return self.refuse(request, &error),
            }
            at = end;
        }
        Ok(())
    }

    /// Sends the buffer as content from `at` on.
    fn send_content(&mut self, request: &Request, at: u64, is_last: bool) -> io::Result<()> {
        let flags = if is_last { n::REPLY_FLAG_DONE } else { 0 };
        let mut head = Vec::with_capacity(32);
        if self.buffer.iter().all(|byte| *byte == 0) {
            put_chunk(&mut head, request, flags, n::REPLY_OFFSET_HOLE, 12);
            head.extend(at.to_be_bytes());
            head.extend((self.buffer.len() as u32).to_be_bytes());
            return self.stream.write_all(&head);
        }
        let len = 8 + self.buffer.len() as u32;
        put_chunk(&mut head, request, flags, n::REPLY_OFFSET_DATA, len);
        head.extend(at.to_be_bytes());
        self.stream.write_all(&head)?;
        self.stream.write_all(&self.buffer)
    }

    fn block_status(&mut self, request: &Request) -> io::Result<()> {
        match self.statuses(request) {
            Ok(message) => self.stream.write_all(&message),
            Err(error) => self.refuse(request, &error),
        }
    }

    fn statuses(&self, request: &Request) -> Result<Vec<u8>, ExportError> {
        let range = self.range(request, n::CMD_FLAG_REQ_ONE)?;
        if range.is_empty() || self.contexts.is_empty() {
            let words = "no range or no context was given";
            return Err(ExportError::new(ErrorCode::INVAL, words));
        }
        let is_one = request.flags & n::CMD_FLAG_REQ_ONE != 0;
        let statuses_max = if is_one { 1 } else { STATUSES_MAX };
        let mut message = Vec::new();
        for (id, context) in self.contexts.iter().enumerate() {
            let list = in_order(self.export.block_status(context, range)?, range, statuses_max);
            if list.is_empty() {
                return Err(ExportError::new(ErrorCode::IO, "the status is not known"));
            }
            let is_last = id + 1 == self.contexts.len();
            let flags = if is_last { n::REPLY_FLAG_DONE } else { 0 };
            let len = 4 + 8 * list.len() as u32;
            put_chunk(&mut message, request, flags, n::REPLY_BLOCK_STATUS, len);
            message.extend((id as u32).to_be_bytes());
            for (piece, state) in list {
                // A request has less than 4 GiB, and no piece is longer.
                message.extend((piece.len() as u32).to_be_bytes());
                message.extend(state.to_be_bytes());
            }
        }
        Ok(message)
    }

    fn answer(&mut self, request: &Request, done: Result<(), ExportError>) -> io::Result<()> {
        match done {
            Err(error) => self.refuse(request, &error),
            Ok(()) if self.is_structured => {
                let mut head = Vec::with_capacity(20);
                put_chunk(&mut head, request, n::REPLY_FLAG_DONE, n::REPLY_NONE, 0);
                self.stream.write_all(&head)
            }
            Ok(()) => self.send_simple(request, 0),
        }
    }

    fn refuse(&mut self, request: &Request, error: &ExportError) -> io::Result<()> {
        if !self.is_structured {
            return self.send_simple(request, error.code.0);
        }
        let words = error.said.words().as_bytes();
        let words = &words[..words.len().min(n::STRING_BYTES_MAX)];
        let mut message = Vec::new();
        let len = 6 + words.len() as u32;
        put_chunk(&mut message, request, n::REPLY_FLAG_DONE, n::REPLY_ERROR, len);
        message.extend(error.code.0.to_be_bytes());
        message.extend((words.len() as u16).to_be_bytes());
        message.extend(words);
        self.stream.write_all(&message)
    }

    fn send_simple(&mut self, request: &Request, code: u32) -> io::Result<()> {
        let mut message = Vec::with_capacity(16);
        message.extend(n::SIMPLE_REPLY_MAGIC.to_be_bytes());
        message.extend(code.to_be_bytes());
        message.extend(request.cookie.to_be_bytes());
        self.stream.write_all(&message)
    }
}

/// The first pieces, as far as they follow each other within the range.
fn in_order(list: Vec<(Extent, u32)>, range: Extent, most: usize) -> Vec<(Extent, u32)> {
    let mut at = range.start();
    let clipped = list.into_iter().map(|(piece, state)| (piece.intersection(range), state));
    let pieces = clipped.filter(|(piece, _)| !piece.is_empty()).take_while(|(piece, _)| {
        let follows = piece.start() == at;
        at = piece.end();
        follows
    });
    pieces.take(most).collect()
}

fn put_chunk(message: &mut Vec<u8>, request: &Request, flags: u16, kind: u16, len: u32) {
    message.extend(n::STRUCTURED_REPLY_MAGIC.to_be_bytes());
    message.extend(flags.to_be_bytes());
    message.extend(kind.to_be_bytes());
    message.extend(request.cookie.to_be_bytes());
    message.extend(len.to_be_bytes());
}
