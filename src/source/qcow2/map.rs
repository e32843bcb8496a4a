//! From a position on the disk to what one image holds there: the L1 and L2 tables.
//!
//! Source of the layout: QEMU's `docs/interop/qcow2.rst`.

use super::super::error::SourceError;
use super::super::file::SourceFile;
use super::cache::{BLOCK_BYTES, TableCache};
use super::header::{Header, damaged};
use std::sync::Arc;

// Both kinds of entries: bits 9 to 55 are an offset in the file, bit 63 says that nobody else
// refers to what lies there.
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;
const EXCLUSIVE: u64 = 1 << 63;
const L1_RESERVED: u64 = !(OFFSET_MASK | EXCLUSIVE);
const L2_COMPRESSED: u64 = 1 << 62;
const L2_ZEROS: u64 = 1;
const L2_RESERVED: u64 = !(OFFSET_MASK | EXCLUSIVE | L2_COMPRESSED | L2_ZEROS);

/// Compressed clusters are counted in sectors of this size.
const SECTOR_BYTES: u64 = 512;
/// Extended L2 entries divide a cluster into so many subclusters.
const SUBCLUSTERS: u64 = 32;

/// What an image holds in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Nothing: the backing file shows through.
    Unallocated,
    /// Zeros, whatever the backing file holds.
    Zeros,
    /// Bytes from this offset of the data file on.
    Stored(u64),
    /// A part of a compressed cluster.
    Compressed(CompressedCluster),
}

impl Content {
    /// Whether `next`, which begins `distance` bytes after this, is more of the same.
    fn goes_on_as(self, next: Self, distance: u64) -> bool {
        match (self, next) {
            (Self::Unallocated, Self::Unallocated) | (Self::Zeros, Self::Zeros) => true,
            (Self::Stored(from), Self::Stored(to)) => from.checked_add(distance) == Some(to),
            _ => false,
        }
    }
}

/// Where a compressed cluster lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CompressedCluster {
    /// First byte of the cluster on the disk.
    pub(super) disk_start: u64,
    /// First byte of its stream in the file.
    pub(super) file_offset: u64,
    /// Most bytes that the stream has: at most two clusters.
    pub(super) bytes_max: u64,
}

/// The tables of one image.
pub(super) struct Tables<'a> {
    pub(super) header: &'a Header,
    pub(super) file: &'a SourceFile,
    pub(super) cache: &'a TableCache,
    /// Position of the image in its chain.
    pub(super) layer: usize,
}

impl Tables<'_> {
    /// What lies at `start` of the disk, and up to where, at most `end`, it goes on like that.
    /// `start` is before `end`, and `end` within the disk of this image.
    pub(super) fn content_at(&self, start: u64, end: u64) -> Result<(Content, u64), SourceError> {
        let mut l1 = Cursor::new(self);
        let mut l2 = Cursor::new(self);
        let (first, mut position) = self.piece_at(&mut l1, &mut l2, start)?;
        while position < end {
            let (next, next_end) = self.piece_at(&mut l1, &mut l2, position)?;
            if !first.goes_on_as(next, position - start) {
                break;
            }
            position = next_end;
        }
        Ok((first, position.min(end)))
    }

    // One entry's worth: a whole missing L2 table, a cluster, or subclusters of one kind.
    fn piece_at(
        &self,
        l1: &mut Cursor<'_>,
        l2: &mut Cursor<'_>,
        position: u64,
    ) -> Result<(Content, u64), SourceError> {
        let coverage = self.header.l2_coverage_bytes();
        let entry = l1.u64_at(self.header.l1_offset + position / coverage * 8)?;
        if entry & L1_RESERVED != 0 {
            return Err(self.damaged(format!("the L1 entry for byte {position} is {entry:#x}")));
        }
        let l2_offset = entry & OFFSET_MASK;
        if l2_offset == 0 {
            return Ok((Content::Unallocated, (position / coverage + 1) * coverage));
        }
        if !l2_offset.is_multiple_of(self.header.cluster_bytes()) {
            return Err(self.damaged(format!("the L2 table for byte {position} is misplaced")));
        }
        let index = position % coverage / self.header.cluster_bytes();
        let entry_offset = l2_offset + index * self.header.l2_entry_bytes();
        let entry = l2.u64_at(entry_offset)?;
        if self.header.extended_l2 {
            let bitmap = l2.u64_at(entry_offset + 8)?;
            self.extended_piece(entry, bitmap, position)
        } else {
            self.standard_piece(entry, position)
        }
    }

    fn standard_piece(&self, entry: u64, position: u64) -> Result<(Content, u64), SourceError> {
        let (cluster, within) = self.split(position);
        let end = cluster + self.header.cluster_bytes();
        if entry & L2_COMPRESSED != 0 {
            return Ok((self.compressed(entry, cluster)?, end));
        }
        let stored_at = self.stored_at(entry, position)?;
        // Version 2 has no such bit.
        let zeros = entry & L2_ZEROS != 0;
        if zeros && self.header.version < 3 {
            return Err(self.bad_entry(entry, position));
        }
        let content = match stored_at {
            _ if zeros => Content::Zeros,
            Some(host) => Content::Stored(host + within),
            None => Content::Unallocated,
        };
        Ok((content, end))
    }

    fn extended_piece(
        &self,
        entry: u64,
        bitmap: u64,
        position: u64,
    ) -> Result<(Content, u64), SourceError> {
        let (cluster, within) = self.split(position);
        if entry & L2_COMPRESSED != 0 {
            let end = cluster + self.header.cluster_bytes();
            return Ok((self.compressed(entry, cluster)?, end));
        }
        if entry & L2_ZEROS != 0 {
            return Err(self.bad_entry(entry, position));
        }
        let stored_at = self.stored_at(entry, position)?;
        let subcluster_bytes = self.header.cluster_bytes() / SUBCLUSTERS;
        // The low half says which subclusters are stored, the high half which are zeros.
        let state = |index: u64| (bitmap >> index & 1 != 0, bitmap >> (index + 32) & 1 != 0);
        let index = within / subcluster_bytes;
        let content = match (state(index), stored_at) {
            ((false, true), _) => Content::Zeros,
            ((false, false), _) => Content::Unallocated,
            ((true, false), Some(host)) => Content::Stored(host + within),
            ((true, _), _) => return Err(self.bad_entry(bitmap, position)),
        };
        let alike = (index..SUBCLUSTERS).take_while(|next| state(*next) == state(index)).count();
        Ok((content, cluster + (index + alike as u64) * subcluster_bytes))
    }

    // First byte on the disk of the cluster of `position`, and the distance to it.
    fn split(&self, position: u64) -> (u64, u64) {
        let within = position % self.header.cluster_bytes();
        (position - within, within)
    }

    fn stored_at(&self, entry: u64, position: u64) -> Result<Option<u64>, SourceError> {
        let host = entry & OFFSET_MASK;
        if entry & L2_RESERVED != 0 || !host.is_multiple_of(self.header.cluster_bytes()) {
            return Err(self.bad_entry(entry, position));
        }
        // Offset 0 is the header, never data, but in an external data file it is the first
        // cluster; only its exclusive bit tells it from an unallocated one.
        let first_of_data_file = self.header.has_data_file && entry & EXCLUSIVE != 0;
        Ok((host != 0 || first_of_data_file).then_some(host))
    }

    fn compressed(&self, entry: u64, disk_start: u64) -> Result<Content, SourceError> {
        if self.header.has_data_file || entry & EXCLUSIVE != 0 {
            return Err(self.bad_entry(entry, disk_start));
        }
        // The larger the clusters, the more bits their number of sectors takes.
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let file_offset = entry & ((1 << offset_bits) - 1);
        let more_sectors = (entry & !(L2_COMPRESSED | EXCLUSIVE)) >> offset_bits;
        let bytes_max = (more_sectors + 1) * SECTOR_BYTES - file_offset % SECTOR_BYTES;
        Ok(Content::Compressed(CompressedCluster { disk_start, file_offset, bytes_max }))
    }

    fn bad_entry(&self, entry: u64, position: u64) -> SourceError {
        self.damaged(format!("the L2 entry for byte {position} of the disk is {entry:#x}"))
    }

    fn damaged(&self, what: String) -> SourceError {
        damaged(self.file, what)
    }
}

/// Reads entries of tables, and keeps hold of the block that the last one was in.
struct Cursor<'a> {
    tables: &'a Tables<'a>,
    block: Option<(u64, Arc<[u8]>)>,
}

impl<'a> Cursor<'a> {
    fn new(tables: &'a Tables<'a>) -> Self {
        Self { tables, block: None }
    }

    // `offset` is a multiple of 8, so no number crosses from one block to the next.
    fn u64_at(&mut self, offset: u64) -> Result<u64, SourceError> {
        let within = (offset % BLOCK_BYTES) as usize;
        let start = offset - within as u64;
        let block = match &self.block {
            Some((at, block)) if *at == start => block,
            _ => {
                let tables = self.tables;
                let block = tables.cache.block(tables.layer, tables.file, start)?;
                &self.block.insert((start, block)).1
            }
        };
        let bytes = block.get(within..within + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_be_bytes).ok_or_else(|| {
            self.tables.damaged(format!("a table at byte {offset} is past the end of the file"))
        })
    }
}
