//! Writing to an export, and making it durable.

use super::connection::Request;
use super::{Client, PIECE_BYTES_MAX};
use crate::extent::Extent;
use crate::nbd::error::{Fault, NbdError};
use crate::nbd::numbers as n;

/// The most that is zeroed or trimmed by one request.
const ZERO_BYTES_MAX: u32 = 1 << 30;

/// What zeroing may do to the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zeroing {
    /// The server may give the space back.
    MayUnmap,
    /// The space stays allocated.
    KeepsAllocated,
}

impl Client {
    /// Writes `data` at `offset`. It is durable after the next [`Client::flush`].
    ///
    /// # Errors
    /// When the export is read-only, the range is not within it or no whole blocks, or the server
    /// fails. Part of it may be written then.
    pub fn write_all_at(&self, data: &[u8], offset: u64) -> Result<(), NbdError> {
        self.told(self.write(data, offset, 0))
    }

    /// Writes `data` at `offset`; it is durable when this returns.
    ///
    /// # Errors
    /// As [`Client::write_all_at`].
    pub fn write_durably_at(&self, data: &[u8], offset: u64) -> Result<(), NbdError> {
        let written = match self.has(n::SEND_FUA) {
            true => self.write(data, offset, n::CMD_FLAG_FUA),
            false => self.write(data, offset, 0).and_then(|()| self.flush_all()),
        };
        self.told(written)
    }

    fn write(&self, data: &[u8], offset: u64, flags: u16) -> Result<(), Fault> {
        self.writable(offset, data.len() as u64)?;
        let piece_bytes = self.piece_bytes(PIECE_BYTES_MAX);
        for (part, at) in data.chunks(piece_bytes).zip((offset..).step_by(piece_bytes)) {
            let len = part.len() as u32;
            let request = Request { flags, ..self.request(n::CMD_WRITE, "write", at, len) };
            self.pool.with(|connection| connection.command(&request, part))?;
        }
        Ok(())
    }

    /// Makes `range` read as zeros.
    ///
    /// # Errors
    /// As [`Client::write_all_at`], and [`Fault::Unsupported`].
    pub fn write_zeroes(&self, range: Extent, zeroing: Zeroing) -> Result<(), NbdError> {
        let flags = match zeroing {
            Zeroing::MayUnmap => 0,
            Zeroing::KeepsAllocated => n::CMD_FLAG_NO_HOLE,
        };
        self.told(self.on_pieces(n::SEND_WRITE_ZEROES, n::CMD_WRITE_ZEROES, "zero", flags, range))
    }

    /// Tells the server that nobody needs what is in `range`. What it reads as then is unknown.
    ///
    /// # Errors
    /// As [`Client::write_all_at`], and [`Fault::Unsupported`].
    pub fn trim(&self, range: Extent) -> Result<(), NbdError> {
        self.told(self.on_pieces(n::SEND_TRIM, n::CMD_TRIM, "trim", 0, range))
    }

    fn on_pieces(
        &self,
        ability: u16,
        command: u16,
        action: &'static str,
        flags: u16,
        range: Extent,
    ) -> Result<(), Fault> {
        if !self.has(ability) {
            return Err(Fault::Unsupported(action));
        }
        self.writable(range.start(), range.len())?;
        let mut at = range.start();
        while at < range.end() {
            let len = (range.end() - at).min(u64::from(ZERO_BYTES_MAX)) as u32;
            let limit = self.options.flush_time_max;
            let request = Request { flags, limit, ..self.request(command, action, at, len) };
            self.pool.with(|connection| connection.command(&request, &[]))?;
            at += u64::from(len);
        }
        Ok(())
    }

    /// Makes everything that was written durable; without effect on a server that does not flush.
    ///
    /// # Errors
    /// When the server fails. What was written may be lost then.
    pub fn flush(&self) -> Result<(), NbdError> {
        self.told(self.flush_all())
    }

    fn flush_all(&self) -> Result<(), Fault> {
        if !self.can_flush() {
            return self.pool.check_alive();
        }
        let limit = self.options.flush_time_max;
        let request = Request { limit, ..self.request(n::CMD_FLUSH, "flush", 0, 0) };
        // Several connections are used only where one flush counts for all.
        self.pool.with(|connection| connection.command(&request, &[]))
    }

    fn writable(&self, offset: u64, len: u64) -> Result<(), Fault> {
        let range = self.within(offset, len)?;
        if self.is_read_only() {
            Err(Fault::ReadOnly)
        } else if !self.is_aligned(range) {
            let (end, block_bytes) = (range.end(), self.block_bytes());
            Err(Fault::Unaligned { offset, end, block_bytes })
        } else {
            Ok(())
        }
    }
}
