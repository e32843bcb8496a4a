//! Writing a journal.
//!
//! *Invariants*: at most about 3 MiB are buffered; nothing has the final name before
//! [`JournalWriter::finish`] made it durable.

use super::format::{
    RECORD_HEADER_BYTES, RecordHeader, RecordKind, check_disks, check_range, encode_header,
    encode_record,
};
use super::{DATA_BYTES_MAX, JournalError, JournalHeader, JournalRef};
use crate::destination::home::temporary_path;
use crate::extent::Extent;
use crate::fsio::{FileSystem, TemporaryFile};
use crate::units::{JournalDigest, Name};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Written to the file as soon as this much is there, in bytes.
const BUFFER_BYTES: usize = 1024 * 1024;

/// A record that what comes next may still extend.
#[derive(Debug)]
struct OpenRecord {
    zeros: bool,
    disk: u16,
    extent: Extent,
}

/// A journal under construction; dropped before [`JournalWriter::finish`], it is removed.
#[derive(Debug)]
pub struct JournalWriter {
    file: TemporaryFile,
    to: PathBuf,
    name: Name,
    header: JournalHeader,
    hasher: Sha256,
    /// Encoded, not yet written.
    buffer: Vec<u8>,
    written_bytes: u64,
    open: Option<OpenRecord>,
    /// Data of the open record.
    open_data: Vec<u8>,
    records: u64,
    data_bytes: u64,
}

impl JournalWriter {
    /// Begins the journal that will be at `path`, whose folder exists. The caller holds the
    /// replica's lock and has swept its home.
    ///
    /// # Errors
    /// [`JournalError::Refused`] for impossible disks, [`JournalError::Exists`] when there is a
    /// journal already.
    pub fn create(
        fs: &Arc<dyn FileSystem>,
        path: &Path,
        header: JournalHeader,
    ) -> Result<Self, JournalError> {
        check_disks(&header.disks).map_err(|reason| JournalError::refused(path, reason))?;
        let name = path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let name = name.ok_or_else(|| JournalError::refused(path, "its file name is no name"))?;
        // Early, before gigabytes are staged; `finish` holds it in any case.
        if fs.stat(path)?.is_some() {
            return Err(JournalError::Exists { path: path.to_owned() });
        }
        let file = TemporaryFile::create(fs, temporary_path(path))?;
        let buffer = encode_header(&header);
        Ok(Self {
            file,
            to: path.to_owned(),
            name,
            header,
            hasher: Sha256::new(),
            buffer,
            written_bytes: 0,
            open: None,
            open_data: Vec::new(),
            records: 0,
            data_bytes: 0,
        })
    }

    /// Adds the content of a range. Adjacent ranges become one record, long ones several.
    pub fn data(&mut self, disk: u16, offset: u64, bytes: &[u8]) -> Result<(), JournalError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let mut start = self.check(disk, offset, bytes.len() as u64)?.start();
        let mut rest = bytes;
        while !rest.is_empty() {
            if !self.continues(disk, start, false) || self.open_data.len() >= DATA_BYTES_MAX {
                self.close_record()?;
            }
            let room = DATA_BYTES_MAX - self.open_data.len();
            let (piece, later) = rest.split_at(room.min(rest.len()));
            self.open_data.extend_from_slice(piece);
            self.extend(disk, Extent::between(start, start + piece.len() as u64), false);
            start += piece.len() as u64;
            rest = later;
        }
        Ok(())
    }

    /// Adds a range that reads as zeros.
    pub fn zeros(&mut self, disk: u16, extent: Extent) -> Result<(), JournalError> {
        if extent.is_empty() {
            return Ok(());
        }
        self.check(disk, extent.start(), extent.len())?;
        if !self.continues(disk, extent.start(), true) {
            self.close_record()?;
        }
        self.extend(disk, extent, true);
        Ok(())
    }

    /// Bytes of data that were added.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Ends the journal and makes it durable under its final name.
    ///
    /// # Errors
    /// After one the journal may be there or not; as no superblock names it, it is void either
    /// way, and is discarded by the next run.
    pub fn finish(mut self) -> Result<JournalRef, JournalError> {
        self.close_record()?;
        let end = RecordHeader {
            kind: RecordKind::End,
            disk: 0,
            offset: self.records,
            len: self.data_bytes,
        };
        self.buffer.extend(encode_record(end));
        self.flush()?;
        let digest: [u8; 32] = self.hasher.finalize().into();
        self.file.handle().write_all_at(&digest, self.written_bytes)?;
        self.file.publish(&self.to).map_err(|error| match error.already_exists() {
            true => JournalError::Exists { path: self.to.clone() },
            false => error.into(),
        })?;
        Ok(JournalRef {
            file: self.name,
            bytes: self.written_bytes + digest.len() as u64,
            sha256: JournalDigest(digest),
        })
    }

    fn check(&self, disk: u16, offset: u64, len: u64) -> Result<Extent, JournalError> {
        check_range(&self.header.disks, disk, offset, len)
            .map_err(|reason| JournalError::refused(&self.to, reason))
    }

    fn continues(&self, disk: u16, start: u64, zeros: bool) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.zeros == zeros && open.disk == disk && open.extent.end() == start
        })
    }

    fn extend(&mut self, disk: u16, extent: Extent, zeros: bool) {
        let start = self.open.as_ref().map_or(extent.start(), |open| open.extent.start());
        self.open = Some(OpenRecord { zeros, disk, extent: Extent::between(start, extent.end()) });
    }

    fn close_record(&mut self) -> Result<(), JournalError> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let kind = if open.zeros { RecordKind::Zeros } else { RecordKind::Data };
        let (offset, len) = (open.extent.start(), open.extent.len());
        self.buffer.reserve(RECORD_HEADER_BYTES + self.open_data.len());
        self.buffer.extend(encode_record(RecordHeader { kind, disk: open.disk, offset, len }));
        self.buffer.append(&mut self.open_data);
        self.records += 1;
        self.data_bytes += if open.zeros { 0 } else { len };
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), JournalError> {
        self.hasher.update(&self.buffer);
        self.file.handle().write_all_at(&self.buffer, self.written_bytes)?;
        self.file.handle().begin_write_back(self.written_bytes, self.buffer.len() as u64);
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
