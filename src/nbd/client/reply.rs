//! Replies to requests: simple ones, and chunks of structured ones.

use super::connection::Request;
use crate::extent::Extent;
use crate::nbd::bytes::{self, Fields};
use crate::nbd::error::{Fault, Said};
use crate::nbd::numbers as n;
use crate::nbd::stream::Stream;
use std::io::Read;

/// Longest chunk that is an error, in bytes.
const ERROR_BYTES_MAX: u32 = 64 << 10;
/// The most pieces that one reply may report: 16 MiB of them.
const STATUSES_MAX: u32 = 2 << 20;

/// The head of a reply.
pub(super) enum Reply {
    Simple(Simple),
    Chunk(Chunk),
}

/// A reply without more, but for the data of a read.
pub(super) struct Simple {
    /// 0: it succeeded.
    pub(super) code: u32,
}

/// The head of a part of a reply. What follows must be taken before the next is read.
pub(super) struct Chunk {
    pub(super) kind: u16,
    pub(super) is_last: bool,
    len: u32,
}

impl Reply {
    /// Reads the head of a reply to the request with this cookie.
    pub(super) fn read(
        stream: &mut Box<dyn Stream>,
        cookie: u64,
        is_structured: bool,
        request: &Request,
    ) -> Result<Self, Fault> {
        let lost = |e| request.stream(e);
        let magic = bytes::u32_from(stream).map_err(lost)?;
        let (reply, found) = match magic {
            n::SIMPLE_REPLY_MAGIC => {
                let head: [u8; 12] = bytes::array(stream).map_err(lost)?;
                let mut fields = Fields(&head);
                (fields.u32().map(|code| Self::Simple(Simple { code })), fields.u64())
            }
            n::STRUCTURED_REPLY_MAGIC if is_structured => {
                let head: [u8; 16] = bytes::array(stream).map_err(lost)?;
                let mut fields = Fields(&head);
                let (flags, kind) = (fields.u16(), fields.u16());
                let (found, len) = (fields.u64(), fields.u32());
                let chunk = flags.zip(kind).zip(len).map(|((flags, kind), len)| {
                    Self::Chunk(Chunk { kind, is_last: flags & n::REPLY_FLAG_DONE != 0, len })
                });
                (chunk, found)
            }
            _ => (None, None),
        };
        match (reply, found) {
            (Some(reply), Some(found)) if found == cookie => Ok(reply),
            (Some(_), Some(found)) => {
                Err(Fault::protocol(format!("it replies to request {found}, not to {cookie}")))
            }
            _ => Err(Fault::protocol(format!("what begins with {magic:#010x} is no reply"))),
        }
    }
}

impl Chunk {
    fn bad_length(&self) -> Fault {
        Fault::protocol(format!("a chunk of type {} has {} bytes", self.kind, self.len))
    }

    /// Requires an empty last chunk.
    pub(super) fn require_none(&self) -> Result<(), Fault> {
        if self.len == 0 && self.is_last { Ok(()) } else { Err(self.bad_length()) }
    }

    /// Takes the head of content: its offset and length. The bytes of data follow.
    pub(super) fn content_range(
        &self,
        stream: &mut Box<dyn Stream>,
        request: &Request,
    ) -> Result<(u64, u64), Fault> {
        let is_hole = self.kind == n::REPLY_OFFSET_HOLE;
        let is_good = if is_hole { self.len == 12 } else { self.len > 8 };
        if !is_good {
            return Err(self.bad_length());
        }
        let offset = bytes::u64_from(stream).map_err(|e| request.stream(e))?;
        let len = match is_hole {
            true => bytes::u32_from(stream).map_err(|e| request.stream(e))?,
            false => self.len - 8,
        };
        Ok((offset, u64::from(len)))
    }

    /// Takes a chunk that is an error; gives what it says.
    pub(super) fn error(
        &self,
        stream: &mut Box<dyn Stream>,
        request: &Request,
    ) -> Result<Fault, Fault> {
        if self.kind & n::REPLY_ERROR_BIT == 0 {
            return Err(Fault::protocol(format!(
                "a chunk of type {} does not belong here",
                self.kind
            )));
        }
        if !(6..=ERROR_BYTES_MAX).contains(&self.len) {
            return Err(self.bad_length());
        }
        let payload = bytes::vector(stream, self.len as usize).map_err(|e| request.stream(e))?;
        let mut fields = Fields(&payload);
        let code = fields.u32().ok_or_else(|| self.bad_length())?;
        let said_len = fields.u16().ok_or_else(|| self.bad_length())?;
        let said = fields.take(usize::from(said_len)).ok_or_else(|| self.bad_length())?;
        match self.kind {
            n::REPLY_ERROR if !fields.0.is_empty() => return Err(self.bad_length()),
            n::REPLY_ERROR_OFFSET => {
                let offset = fields.u64().filter(|_| fields.0.is_empty());
                let offset = offset.ok_or_else(|| self.bad_length())?;
                if !request.holds(offset, 0) {
                    let what = format!("an error at {offset}, where nobody asked");
                    return Err(Fault::Protocol(what));
                }
            }
            _ => {}
        }
        if code == 0 {
            return Err(Fault::protocol("an error whose number says that there is none"));
        }
        Ok(request.failed(code, Said::new(said)))
    }

    /// Takes the number of the context whose statuses follow.
    pub(super) fn status_context(
        &self,
        stream: &mut Box<dyn Stream>,
        request: &Request,
    ) -> Result<u32, Fault> {
        if self.len < 12 || !(self.len - 4).is_multiple_of(8) || self.len / 8 > STATUSES_MAX {
            return Err(self.bad_length());
        }
        bytes::u32_from(stream).map_err(|e| request.stream(e))
    }

    /// Takes the statuses behind the context's number, gives each within the range asked for to
    /// `each`, and says how far they reach within it.
    ///
    /// The last may reach further, but not past the end of the export.
    pub(super) fn statuses(
        &self,
        stream: &mut Box<dyn Stream>,
        request: &Request,
        size_bytes: u64,
        mut each: impl FnMut(Extent, u32),
    ) -> Result<u64, Fault> {
        let asked = Extent::between(request.offset, request.offset + u64::from(request.len));
        let mut at = asked.start();
        let mut rest = (self.len - 4) / 8;
        let mut buffer = vec![0; 8 * rest.min(8192) as usize];
        while rest > 0 {
            let now = rest.min(8192);
            rest -= now;
            let part = &mut buffer[..8 * now as usize];
            stream.read_exact(part).map_err(|e| request.stream(e))?;
            let mut fields = Fields(part);
            while let (Some(len), Some(flags)) = (fields.u32(), fields.u32()) {
                if len == 0 || at >= asked.end() || u64::from(len) > size_bytes - at {
                    let what = format!(
                        "block status of {len} bytes from {at} on, where nobody \
                        asked"
                    );
                    return Err(Fault::Protocol(what));
                }
                let piece = Extent::between(at, at + u64::from(len));
                at = piece.end();
                each(piece.intersection(asked), flags);
            }
        }
        Ok(at.min(asked.end()))
    }
}
