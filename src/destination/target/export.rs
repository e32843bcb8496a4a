//! An NBD export, written as a file is.
//!
//! Invariant: bytes outside a write stay as they are, also where the server only takes whole
//! blocks.

use super::{TargetAccess, TargetError};
use crate::extent::Extent;
use crate::fsio::{FileError, FileHandle, FileKind, FileStat, Result};
use crate::nbd::{Address, AddressError, Client, ErrorCode, Fault, NbdError, Options, Zeroing};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What is written at once where the server cannot zero, in bytes.
const ZEROS_BYTES: usize = 1 << 20;

/// An export that is open.
#[derive(Debug)]
pub(super) struct ExportHandle {
    client: Client,
    path: PathBuf,
    /// Held while part of a block is changed: two such writes may share a block.
    parts: Mutex<()>,
}

/// Connects to the export whose address `path` is.
pub(super) fn connect(path: &Path) -> std::result::Result<Client, TargetError> {
    let address: Address = match path.to_str() {
        Some(text) => text.parse()?,
        None => {
            let (text, why) = (path.display().to_string(), "it is not UTF-8".to_owned());
            return Err(AddressError { text, why }.into());
        }
    };
    Ok(Client::connect(&address, &Options::default())?)
}

impl ExportHandle {
    pub(super) fn new(
        client: Client,
        access: TargetAccess,
    ) -> std::result::Result<Self, TargetError> {
        let address = client.address().to_string();
        if access == TargetAccess::Write {
            let refused = |fault| Err(NbdError { address: address.clone(), fault }.into());
            if client.is_read_only() {
                return refused(Fault::ReadOnly);
            }
            // Without it nothing would ever be known to be durable.
            if !client.can_flush() {
                return refused(Fault::Unsupported("flush"));
            }
        }
        Ok(Self { client, path: PathBuf::from(address), parts: Mutex::new(()) })
    }

    fn error(&self, action: &'static str) -> impl Fn(NbdError) -> FileError + '_ {
        move |error| FileError::new(action, &self.path, as_io_error(error))
    }

    /// Cuts a range in whole blocks and what is before and behind them.
    fn parts(&self, range: Extent) -> [(Extent, bool); 3] {
        let block_bytes = u64::from(self.client.block_bytes());
        let (start, end) = (range.start(), range.end());
        // Both lie within the export, whose size is whole blocks.
        let first = start.next_multiple_of(block_bytes).min(end);
        let last = (end - end % block_bytes).max(first);
        [
            (Extent::between(start, first), false),
            (Extent::between(first, last), true),
            (Extent::between(last, end), false),
        ]
    }

    /// Changes part of a block, or of two.
    fn change(
        &self,
        part: Extent,
        change: impl FnOnce(&mut [u8]),
    ) -> std::result::Result<(), NbdError> {
        let block_bytes = u64::from(self.client.block_bytes());
        let start = part.start() - part.start() % block_bytes;
        let end = part.end().next_multiple_of(block_bytes);
        let _alone = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut blocks = vec![0; (end - start) as usize];
        self.client.read_exact_at(&mut blocks, start)?;
        change(&mut blocks[(part.start() - start) as usize..(part.end() - start) as usize]);
        self.client.write_all_at(&blocks, start)
    }

    fn zero_blocks(&self, range: Extent) -> std::result::Result<(), NbdError> {
        if self.client.can_zero() {
            return self.client.write_zeroes(range, Zeroing::MayUnmap);
        }
        let zeros = vec![0; range.len().min(ZEROS_BYTES as u64) as usize];
        let mut at = range.start();
        while at < range.end() {
            let len = (range.end() - at).min(zeros.len() as u64);
            self.client.write_all_at(&zeros[..len as usize], at)?;
            at += len;
        }
        Ok(())
    }
}

impl FileHandle for ExportHandle {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let left = self.client.size_bytes().saturating_sub(offset);
        let len = left.min(buffer.len() as u64) as usize;
        self.client.read_exact_at(&mut buffer[..len], offset).map_err(self.error("read"))?;
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        if end > self.client.size_bytes() {
            return Err(FileError::unexpected_end(&self.path, self.client.size_bytes()));
        }
        for (part, is_whole) in self.parts(Extent::between(offset, end)) {
            let from = (part.start() - offset) as usize;
            let bytes = &bytes[from..from + part.len() as usize];
            let written = match is_whole {
                _ if part.is_empty() => Ok(()),
                true => self.client.write_all_at(bytes, part.start()),
                false => self.change(part, |old| old.copy_from_slice(bytes)),
            };
            written.map_err(self.error("write to"))?;
        }
        Ok(())
    }

    fn zero_range(&self, offset: u64, len_bytes: u64) -> Result<()> {
        let end = offset.saturating_add(len_bytes);
        if end > self.client.size_bytes() {
            return Err(FileError::unexpected_end(&self.path, self.client.size_bytes()));
        }
        for (part, is_whole) in self.parts(Extent::between(offset, end)) {
            let zeroed = match is_whole {
                _ if part.is_empty() => Ok(()),
                true => self.zero_blocks(part),
                false => self.change(part, |old| old.fill(0)),
            };
            zeroed.map_err(self.error("zero"))?;
        }
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        if len_bytes == self.client.size_bytes() {
            return Ok(());
        }
        let reason = io::Error::new(io::ErrorKind::Unsupported, "an export cannot be resized");
        Err(FileError::new("resize", &self.path, reason))
    }

    fn sync(&self) -> Result<()> {
        self.client.flush().map_err(self.error("sync"))
    }

    /// An export has no times, and no number but its address.
    fn stat(&self) -> Result<FileStat> {
        Ok(FileStat {
            kind: FileKind::Other,
            len_bytes: self.client.size_bytes(),
            allocated_bytes: self.client.size_bytes(),
            device: 0,
            inode: 0,
            raw_device: 0,
            mtime_ns: 0,
            ctime_ns: 0,
        })
    }

    fn size(&self) -> Result<u64> {
        Ok(self.client.size_bytes())
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        self.client.next_data(offset).map_err(self.error("look for data in"))
    }
}

/// The error as the system would tell it, so that what depends on the reason works.
fn as_io_error(error: NbdError) -> io::Error {
    let kind = match &error.fault {
        Fault::Request { code, .. } if code.0 == ErrorCode::NOSPC => io::ErrorKind::StorageFull,
        Fault::Request { code, .. } if code.0 == ErrorCode::PERM => io::ErrorKind::PermissionDenied,
        _ if !error.is_permanent() => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
