//! Reading a journal, whole and in bounded memory.
//!
//! Invariant: no record is handed out before the whole file was found to be the one that the
//! superblock names; the type [`VerifiedJournal`] is the proof.

use super::format::{
    FOOTER_BYTES, HeaderFault, PREFIX_BYTES, RECORD_HEADER_BYTES, RecordKind, check_record,
    decode_header, decode_prefix, decode_record, encode_header,
};
use super::{DATA_BYTES_MAX, JournalError, JournalHeader, JournalRef};
use crate::extent::Extent;
use crate::fsio::{FileHandle, FileSystem, OpenMode};
use crate::units::{Breakage, JournalDigest, is_broken};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// Large enough for the longest record.
const BUFFER_BYTES: usize = 2 * DATA_BYTES_MAX;
const _: () = assert!(BUFFER_BYTES >= DATA_BYTES_MAX + RECORD_HEADER_BYTES);
const _: () = assert!(BUFFER_BYTES >= super::format::HEADER_BYTES_MAX);

/// One step of a journal.
#[derive(Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// The content of a range.
    Data {
        /// Position of the disk in the header.
        disk: u16,
        /// First byte of the range.
        offset: u64,
        /// Its content.
        bytes: &'a [u8],
    },
    /// A range that reads as zeros.
    Zeros {
        /// Position of the disk in the header.
        disk: u16,
        /// The range.
        extent: Extent,
    },
}

/// A journal of which only the header was read.
#[derive(Debug)]
pub struct JournalReader {
    handle: Arc<dyn FileHandle>,
    header: JournalHeader,
    file_bytes: u64,
}

/// A journal that is whole, well formed and the one that was expected.
#[derive(Debug)]
pub struct VerifiedJournal {
    reader: JournalReader,
    expected: JournalRef,
}

impl JournalReader {
    /// Opens the journal at `path` and reads its header, which is not to be trusted yet.
    pub fn open(fs: &dyn FileSystem, path: &Path) -> Result<Self, JournalError> {
        let fault = |fault| match fault {
            HeaderFault::Newer(found) => JournalError::NewerFormat { path: path.to_owned(), found },
            HeaderFault::Damaged(reason) => JournalError::damaged(path, reason),
        };
        let handle = fs.open(path, OpenMode::Read).map_err(|error| match error.not_found() {
            true => JournalError::Missing { path: path.to_owned() },
            false => error.into(),
        })?;
        let file_bytes = handle.size()?;
        let too_short = || JournalError::damaged(path, format!("it has only {file_bytes} bytes"));
        if file_bytes < PREFIX_BYTES as u64 {
            return Err(too_short());
        }
        let mut prefix = [0; PREFIX_BYTES];
        handle.read_exact_at(&mut prefix, 0)?;
        let header_bytes = decode_prefix(prefix).map_err(fault)?;
        if file_bytes < (header_bytes + RECORD_HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(too_short());
        }
        let mut bytes = vec![0; header_bytes];
        handle.read_exact_at(&mut bytes, 0)?;
        let header = decode_header(&bytes).map_err(fault)?;
        Ok(Self { handle, header, file_bytes })
    }

    /// What it says that it belongs to.
    pub fn header(&self) -> &JournalHeader {
        &self.header
    }

    /// Reads all of it, and proves that it is the journal that `expected` names, and that each
    /// record is well formed.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] or [`JournalError::Foreign`]; nothing was applied.
    pub fn verify(self, expected: &JournalRef) -> Result<VerifiedJournal, JournalError> {
        if self.file_bytes != expected.bytes {
            let reason = format!(
                "it has {} bytes, the superblock's has {}",
                self.file_bytes, expected.bytes
            );
            return Err(JournalError::Foreign { path: self.handle.path().to_owned(), reason });
        }
        let found = self.walk(|_| Ok::<(), JournalError>(()))?;
        self.check_digest(found, expected)?;
        Ok(VerifiedJournal { reader: self, expected: expected.clone() })
    }

    fn check_digest(
        &self,
        found: JournalDigest,
        expected: &JournalRef,
    ) -> Result<(), JournalError> {
        if found == expected.sha256 || is_broken(Breakage::JournalUnchecked) {
            return Ok(());
        }
        let (found, named) = (found.short(), expected.sha256.short());
        let reason = format!("its digest is {found}…, the superblock's is {named}…");
        Err(JournalError::Foreign { path: self.handle.path().to_owned(), reason })
    }

    fn damaged(&self, reason: impl Into<String>) -> JournalError {
        JournalError::damaged(self.handle.path(), reason)
    }

    /// Hands out each record, and gives the digest of all of it, which its footer repeats.
    fn walk<E: From<JournalError>>(
        &self,
        mut visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<JournalDigest, E> {
        let mut stream = Stream::new(self);
        let header = encode_header(&self.header);
        // It was read before, but the file may have changed since.
        if stream.take(header.len())? != header {
            return Err(self.damaged("its header changed while it was read").into());
        }
        let (mut records, mut data_bytes) = (0_u64, 0_u64);
        loop {
            let record = decode_record(stream.take(RECORD_HEADER_BYTES)?)
                .ok_or_else(|| self.damaged(format!("record {records} is of no known kind")))?;
            if record.kind == RecordKind::End {
                if (record.disk, record.offset, record.len) != (0, records, data_bytes) {
                    return Err(self.damaged("its end does not sum up its records").into());
                }
                break;
            }
            let extent =
                check_record(&self.header.disks, record).map_err(|reason| self.damaged(reason))?;
            records += 1;
            let disk = record.disk;
            if record.kind == RecordKind::Zeros {
                visit(Record::Zeros { disk, extent })?;
                continue;
            }
            data_bytes += extent.len();
            // At most `DATA_BYTES_MAX`, as was checked.
            let bytes = stream.take(extent.len() as usize)?;
            visit(Record::Data { disk, offset: extent.start(), bytes })?;
        }
        Ok(stream.finish()?)
    }
}

impl VerifiedJournal {
    /// What it belongs to.
    pub fn header(&self) -> &JournalHeader {
        &self.reader.header
    }

    /// Hands out each record, in order. One that follows may overwrite what one before it said.
    ///
    /// # Errors
    /// The first of `visit`, or [`JournalError`] when the file was changed or cannot be read any
    /// more since it was verified: the records so far were well formed, but the replica then
    /// holds no named point.
    pub fn for_each<E: From<JournalError>>(
        &self,
        visit: impl FnMut(Record<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let found = self.reader.walk(visit)?;
        Ok(self.reader.check_digest(found, &self.expected)?)
    }
}

/// The file from its start, in pieces, hashed as they are taken.
struct Stream<'a> {
    reader: &'a JournalReader,
    buffer: Vec<u8>,
    /// What of the buffer was read and not taken yet.
    unread: std::ops::Range<usize>,
    /// Bytes of the file that were not read into the buffer yet.
    next: u64,
    hasher: Sha256,
}

impl<'a> Stream<'a> {
    fn new(reader: &'a JournalReader) -> Self {
        let buffer = vec![0; (BUFFER_BYTES as u64).min(reader.file_bytes) as usize];
        Self { reader, buffer, unread: 0..0, next: 0, hasher: Sha256::new() }
    }

    /// Makes `len` bytes, at most the buffer's size, lie at the start of `unread`.
    fn fill(&mut self, len: usize) -> Result<(), JournalError> {
        if self.unread.len() >= len {
            return Ok(());
        }
        let left = self.reader.file_bytes - self.next;
        if len > self.buffer.len() || ((len - self.unread.len()) as u64) > left {
            return Err(self.reader.damaged("it ends inside a record"));
        }
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        let room = self.buffer.len() - self.unread.end;
        let count = left.min(room as u64) as usize;
        let space = &mut self.buffer[self.unread.end..][..count];
        self.reader.handle.read_exact_at(space, self.next)?;
        self.next += count as u64;
        self.unread.end += count;
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&[u8], JournalError> {
        self.fill(len)?;
        let taken = &self.buffer[self.unread.start..][..len];
        self.unread.start += len;
        self.hasher.update(taken);
        Ok(taken)
    }

    /// The digest of what was taken; the rest of the file must be the footer that repeats it.
    fn finish(mut self) -> Result<JournalDigest, JournalError> {
        self.fill(FOOTER_BYTES)?;
        let digest: [u8; FOOTER_BYTES] = self.hasher.finalize().into();
        let rest = &self.buffer[self.unread.clone()];
        if self.next != self.reader.file_bytes || rest.len() != FOOTER_BYTES {
            return Err(self.reader.damaged("something follows its end"));
        }
        if rest != digest && !is_broken(Breakage::JournalUnchecked) {
            return Err(self.reader.damaged("its content does not match its own digest"));
        }
        Ok(JournalDigest(digest))
    }
}
