//! One connection after its handshake: one request at a time, and all of its reply.

use super::handshake::Terms;
use super::reply::{Chunk, Reply, Simple};
use crate::extent::Extent;
use crate::nbd::error::{ErrorCode, Fault, Said};
use crate::nbd::numbers as n;
use crate::nbd::stream::Stream;
use std::time::{Duration, Instant};

/// A request, and how its errors call it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    pub(super) command: u16,
    pub(super) flags: u16,
    pub(super) action: &'static str,
    pub(super) offset: u64,
    pub(super) len: u32,
    pub(super) limit: Duration,
}

impl Request {
    /// Whether `[offset, offset + len)` lies within what is asked for.
    pub(super) fn holds(&self, offset: u64, len: u64) -> bool {
        let end = self.offset + u64::from(self.len);
        offset >= self.offset && offset <= end && len <= end - offset
    }

    pub(super) fn failed(&self, code: u32, said: Said) -> Fault {
        let (action, offset, len) = (self.action, self.offset, u64::from(self.len));
        Fault::Request { action, offset, len, code: ErrorCode(code), said }
    }

    pub(super) fn stream(&self, error: std::io::Error) -> Fault {
        Fault::of_stream(error, self.action, self.limit)
    }
}

/// A connection to one export. After an error that does not leave it good it must not be used.
pub(super) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    pub(super) terms: Terms,
    cookie: u64,
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>, terms: Terms) -> Self {
        Self { stream, terms, cookie: 0 }
    }

    fn send(&mut self, request: &Request, data: &[u8]) -> Result<(), Fault> {
        self.cookie += 1;
        self.stream.set_deadline(Some(Instant::now() + request.limit));
        let mut header = Vec::with_capacity(n::REQUEST_BYTES);
        header.extend(n::REQUEST_MAGIC.to_be_bytes());
        header.extend(request.flags.to_be_bytes());
        header.extend(request.command.to_be_bytes());
        header.extend(self.cookie.to_be_bytes());
        header.extend(request.offset.to_be_bytes());
        header.extend(request.len.to_be_bytes());
        let sent = self.stream.write_all(&header).and_then(|()| self.stream.write_all(data));
        sent.and_then(|()| self.stream.flush()).map_err(|e| request.stream(e))
    }

    /// Sends a request that is answered by yes or no.
    pub(super) fn command(&mut self, request: &Request, data: &[u8]) -> Result<(), Fault> {
        self.send(request, data)?;
        let mut refusal = None;
        for _ in 0..CHUNKS_MAX {
            match Reply::read(&mut self.stream, self.cookie, self.terms.is_structured, request)? {
                Reply::Simple(Simple { code: 0 }) => return Ok(()),
                Reply::Simple(Simple { code }) => {
                    return Err(request.failed(code, Said::default()));
                }
                Reply::Chunk(chunk) => {
                    let is_last = chunk.is_last;
                    match chunk.kind {
                        n::REPLY_NONE => chunk.require_none()?,
                        _ => keep_first(&mut refusal, chunk.error(&mut self.stream, request)?),
                    }
                    if is_last {
                        return refusal.map_or(Ok(()), Err);
                    }
                }
            }
        }
        Err(Fault::protocol("its reply has no end"))
    }

    /// Fills `buffer` from the offset of a read of as many bytes.
    pub(super) fn read(&mut self, request: &Request, buffer: &mut [u8]) -> Result<(), Fault> {
        self.send(request, &[])?;
        if self.terms.is_structured {
            return self.read_chunks(request, buffer);
        }
        match Reply::read(&mut self.stream, self.cookie, false, request)? {
            Reply::Simple(Simple { code: 0 }) => {
                self.stream.read_exact(buffer).map_err(|e| request.stream(e))
            }
            Reply::Simple(Simple { code }) => Err(request.failed(code, Said::default())),
            Reply::Chunk(_) => Err(Fault::protocol("a structured reply that nobody asked for")),
        }
    }

    fn read_chunks(&mut self, request: &Request, buffer: &mut [u8]) -> Result<(), Fault> {
        let mut refusal = None;
        let mut covered = Covered::default();
        // Servers should cut at whole sectors; a flood of tiny pieces has no good reason.
        let chunks_max = buffer.len() / 512 + CHUNKS_MAX;
        for _ in 0..chunks_max {
            match Reply::read(&mut self.stream, self.cookie, true, request)? {
                Reply::Simple(Simple { code: 0 }) => {
                    return Err(Fault::protocol("a simple reply to a read, without an error"));
                }
                Reply::Simple(Simple { code }) => {
                    return Err(request.failed(code, Said::default()));
                }
                Reply::Chunk(chunk) => {
                    let is_last = chunk.is_last;
                    match chunk.kind {
                        n::REPLY_NONE => chunk.require_none()?,
                        n::REPLY_OFFSET_DATA | n::REPLY_OFFSET_HOLE => {
                            self.content(chunk, request, buffer, &mut covered)?;
                        }
                        _ => keep_first(&mut refusal, chunk.error(&mut self.stream, request)?),
                    }
                    if is_last {
                        let complete = covered.require_all(request);
                        return refusal.map_or(complete, Err);
                    }
                }
            }
        }
        Err(Fault::protocol(format!("it cuts {} bytes into too many pieces", buffer.len())))
    }

    fn content(
        &mut self,
        chunk: Chunk,
        request: &Request,
        buffer: &mut [u8],
        covered: &mut Covered,
    ) -> Result<(), Fault> {
        let is_hole = chunk.kind == n::REPLY_OFFSET_HOLE;
        let (offset, len) = chunk.content_range(&mut self.stream, request)?;
        if len == 0 || !request.holds(offset, len) {
            let what = format!("a piece of {len} bytes from {offset}, where nobody asked");
            return Err(Fault::Protocol(what));
        }
        covered.add(Extent::between(offset, offset + len))?;
        // Both fit, as they lie within the buffer.
        let from = (offset - request.offset) as usize;
        let part = &mut buffer[from..from + len as usize];
        if is_hole {
            part.fill(0);
            return Ok(());
        }
        self.stream.read_exact(part).map_err(|e| request.stream(e))
    }

    /// Asks for the status of blocks; gives what the reply says of the context of this number, which
    /// is checked to begin at the offset and to hold nothing that was not asked for.
    pub(super) fn block_status(
        &mut self,
        request: &Request,
        context: u32,
        each: &mut dyn FnMut(Extent, u32),
    ) -> Result<u64, Fault> {
        self.send(request, &[])?;
        let mut refusal = None;
        let mut seen = Vec::new();
        let mut end = None;
        for _ in 0..CHUNKS_MAX {
            match Reply::read(&mut self.stream, self.cookie, true, request)? {
                Reply::Simple(Simple { code: 0 }) => {
                    return Err(Fault::protocol("block status without any status"));
                }
                Reply::Simple(Simple { code }) => {
                    return Err(request.failed(code, Said::default()));
                }
                Reply::Chunk(chunk) => {
                    let is_last = chunk.is_last;
                    match chunk.kind {
                        n::REPLY_NONE => chunk.require_none()?,
                        n::REPLY_BLOCK_STATUS => {
                            let id = chunk.status_context(&mut self.stream, request)?;
                            let is_known = self.terms.contexts.iter().any(|(it, _)| *it == id);
                            if !is_known || seen.contains(&id) {
                                let what = format!("block status of context {id}, unasked");
                                return Err(Fault::Protocol(what));
                            }
                            seen.push(id);
                            let size = self.terms.info.size_bytes;
                            let wanted = id == context;
                            let reached =
                                chunk.statuses(&mut self.stream, request, size, |it, flags| {
                                    if wanted {
                                        each(it, flags);
                                    }
                                })?;
                            if wanted {
                                end = Some(reached);
                            }
                        }
                        _ => keep_first(&mut refusal, chunk.error(&mut self.stream, request)?),
                    }
                    if is_last {
                        let missing = || Fault::protocol("block status lacks a context");
                        return refusal.map_or_else(|| end.ok_or_else(missing), Err);
                    }
                }
            }
        }
        Err(Fault::protocol("its reply has no end"))
    }

    /// Says goodbye, for which nobody waits long.
    pub(super) fn disconnect(mut self) {
        let limit = Duration::from_secs(1);
        let (command, action) = (n::CMD_DISC, "disconnect");
        let request = Request { command, flags: 0, action, offset: 0, len: 0, limit };
        // Whether it hears that or sees the connection end is all the same.
        let _ = self.send(&request, &[]);
    }
}

/// The most chunks of a reply that needs one or two.
const CHUNKS_MAX: usize = 64;

fn keep_first(refusal: &mut Option<Fault>, fault: Fault) {
    refusal.get_or_insert(fault);
}

/// Which part of a read has come. Invariant: sorted, disjoint, never touching.
#[derive(Default)]
struct Covered(Vec<Extent>);

impl Covered {
    fn add(&mut self, piece: Extent) -> Result<(), Fault> {
        let at = self.0.partition_point(|it| it.start() < piece.start());
        let before = at.checked_sub(1).map(|index| self.0[index]);
        let after = self.0.get(at).copied();
        let overlaps = before.is_some_and(|it| it.end() > piece.start())
            || after.is_some_and(|it| it.start() < piece.end());
        if overlaps {
            let what = format!("a piece from {} that came already", piece.start());
            return Err(Fault::Protocol(what));
        }
        let joins_before = before.is_some_and(|it| it.end() == piece.start());
        let joins_after = after.is_some_and(|it| it.start() == piece.end());
        let start = before.filter(|_| joins_before).map_or(piece.start(), |it| it.start());
        let end = after.filter(|_| joins_after).map_or(piece.end(), |it| it.end());
        let replaced = at - usize::from(joins_before)..at + usize::from(joins_after);
        self.0.splice(replaced, [Extent::between(start, end)]);
        Ok(())
    }

    fn require_all(&self, request: &Request) -> Result<(), Fault> {
        let end = request.offset + u64::from(request.len);
        if self.0 == [Extent::between(request.offset, end)] {
            Ok(())
        } else {
            Err(Fault::protocol("it says that a read is complete, but not all of it came"))
        }
    }
}
