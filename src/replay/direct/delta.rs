//! What leads from one capture to the next: the content of the changed extents, as far as the
//! targets do not hold it.

use crate::chunk::is_zero;
use crate::destination::{
    JournalDisk, JournalHeader, JournalRef, JournalWriter, ReplicaRecord, Target,
};
use crate::extent::{Extent, differing_blocks};
use crate::progress::Progress;
use crate::replay::ReplayError;
use crate::replay::session::ReplicaSession;
use crate::source::{ChangedExtents, Source};
use crate::units::{MIB, Name, PointId};

/// Read and compared at once, in bytes: a multiple of a block.
const PIECE_BYTES: u64 = MIB;
const BLOCK_BYTES: u64 = 4096;
const _: () = assert!(PIECE_BYTES.is_multiple_of(BLOCK_BYTES));
/// Bytes that a record's header, and rounding, may add to a piece in the journal.
const RECORD_OVERHEAD_BYTES: u64 = 64;
/// Of the journal's header and footer.
const FRAME_BYTES: u64 = 64 * 1024;

/// Where one disk may differ.
#[derive(Debug)]
pub(super) struct DiskDelta {
    name: Name,
    /// Sorted, disjoint, within the disk.
    extents: Vec<Extent>,
    size_bytes: u64,
}

impl DiskDelta {
    /// `None` when a disk of `size_bytes` cannot have such changes.
    pub fn new(name: &Name, changed: ChangedExtents, size_bytes: u64) -> Option<Self> {
        let extents = changed.extents;
        let sorted = extents.windows(2).all(|pair| pair[0].end() <= pair[1].start());
        let fits = extents.last().map_or(0, Extent::end) <= size_bytes;
        (sorted && fits).then(|| Self { name: name.clone(), extents, size_bytes })
    }

    /// Where it may differ.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    pub fn is_empty(&self) -> bool {
        self.extents.iter().all(Extent::is_empty)
    }
}

/// The disks of a capture and the targets that they lead to, all in one order.
pub(super) struct Staging<'a> {
    pub deltas: &'a [DiskDelta],
    pub sources: &'a [&'a dyn Source],
    pub targets: &'a [Target],
}

/// A delta in the journal.
#[derive(Debug)]
pub(super) struct StagedDelta {
    pub journal: JournalRef,
    pub data_bytes: u64,
    /// Bytes that each target may take in addition to what it has.
    pub growth_bytes: Vec<u64>,
}

impl Staging<'_> {
    /// Bytes that the journal takes at most.
    pub fn journal_bytes(&self) -> Result<u64, ReplayError> {
        let mut bytes = FRAME_BYTES;
        for (delta, source) in self.deltas.iter().zip(self.sources) {
            for extent in &delta.extents {
                let data = source.data_extents(*extent);
                let data = data.map_err(|error| ReplayError::source(&delta.name, error))?;
                let data_bytes: u64 = data.iter().map(Extent::len).sum();
                let pieces = 2 + extent.len() / PIECE_BYTES;
                bytes += data_bytes + pieces * RECORD_OVERHEAD_BYTES;
            }
        }
        Ok(bytes)
    }

    /// Writes the delta to the journal of the replica and makes it durable.
    pub fn stage(
        &self,
        session: &ReplicaSession,
        record: &ReplicaRecord,
        (from, to): (PointId, PointId),
        progress: &Progress,
    ) -> Result<StagedDelta, ReplayError> {
        let disks = self.deltas.iter().map(|delta| JournalDisk {
            name: delta.name.clone(),
            size_before_bytes: delta.size_bytes,
            size_bytes: delta.size_bytes,
        });
        let replica_id = record.replica_id;
        let header = JournalHeader { replica_id, from, to, disks: disks.collect() };
        let journal = JournalWriter::create(&session.fs, &session.home.journal(), header)?;
        for delta in self.deltas {
            progress.add_total(delta.extents.iter().map(Extent::len).sum());
        }
        let mut staged =
            Staged { journal, progress, growth_bytes: Vec::new(), buffers: Default::default() };
        let disks = self.deltas.iter().zip(self.sources).zip(self.targets);
        for (number, ((delta, source), target)) in disks.enumerate() {
            staged.growth_bytes.push(0);
            for extent in &delta.extents {
                staged.extent(number as u16, *extent, (delta, *source), target)?;
            }
        }
        let (data_bytes, growth_bytes) = (staged.journal.data_bytes(), staged.growth_bytes);
        Ok(StagedDelta { journal: staged.journal.finish()?, data_bytes, growth_bytes })
    }
}

struct Staged<'a> {
    journal: JournalWriter,
    progress: &'a Progress,
    growth_bytes: Vec<u64>,
    /// What the source holds, and what the target holds.
    buffers: (Vec<u8>, Vec<u8>),
}

impl Staged<'_> {
    fn extent(
        &mut self,
        disk: u16,
        extent: Extent,
        (delta, source): (&DiskDelta, &dyn Source),
        target: &Target,
    ) -> Result<(), ReplayError> {
        let mut at = extent.start();
        while at < extent.end() {
            self.progress.check()?;
            let next = next_data(&delta.name, source, target, at)?;
            let next = next.unwrap_or(extent.end()).min(extent.end());
            // Not into the middle of a block: what is compared begins where blocks do.
            let next = (next / BLOCK_BYTES * BLOCK_BYTES).max(at);
            self.progress.add_done(next - at);
            // Pieces end where blocks do.
            let end = (next / PIECE_BYTES + 1) * PIECE_BYTES;
            let piece = Extent::between(next, end.min(extent.end()));
            if !piece.is_empty() {
                self.piece(disk, piece, (delta, source), target)?;
                self.progress.add_done(piece.len());
            }
            at = piece.end();
        }
        Ok(())
    }

    fn piece(
        &mut self,
        disk: u16,
        piece: Extent,
        (delta, source): (&DiskDelta, &dyn Source),
        target: &Target,
    ) -> Result<(), ReplayError> {
        let (content, held) = &mut self.buffers;
        let read = read_thin(source, piece, content);
        self.progress.add_read(read.map_err(|error| ReplayError::source(&delta.name, error))?);
        held.resize(content.len(), 0);
        // What of the target cannot be read is written; it may be what mends it.
        if target.read_exact_at(held, piece.start()).is_err() {
            held.clear();
        }
        self.progress.pace(held.len() as u64);
        for run in differing_blocks(piece.start(), held, content) {
            let start = piece.start() + run.start as u64;
            if is_zero(&content[run.clone()]) {
                let zeros = Extent::between(start, start + run.len() as u64);
                self.journal.zeros(disk, zeros)?;
                continue;
            }
            let was_zero = held.get(run.clone()).is_none_or(is_zero);
            if let Some(growth_bytes) = self.growth_bytes.last_mut().filter(|_| was_zero) {
                *growth_bytes += run.len() as u64;
            }
            self.journal.data(disk, start, &content[run])?;
        }
        Ok(())
    }
}

/// First byte at or after `at` that may not be zero in the source, or in the target.
pub(super) fn next_data(
    disk: &Name,
    source: &dyn Source,
    target: &Target,
    at: u64,
) -> Result<Option<u64>, ReplayError> {
    let there = source.next_data(at).map_err(|error| ReplayError::source(disk, error))?;
    let here = target.next_data(at).map_err(|error| ReplayError::target(disk, error))?;
    Ok(match (there, here) {
        (Some(there), Some(here)) => Some(there.min(here)),
        (there, here) => there.or(here),
    })
}

/// Fills `buffer` with a range of a disk, of which only what may be data is read. Returns how many
/// bytes that was.
pub(super) fn read_thin(
    source: &dyn Source,
    range: Extent,
    buffer: &mut Vec<u8>,
) -> Result<u64, crate::source::SourceError> {
    buffer.clear();
    buffer.resize(range.len() as usize, 0);
    let mut read = 0;
    for data in source.data_extents(range)? {
        let start = (data.start() - range.start()) as usize;
        source.read_exact_at(&mut buffer[start..start + data.len() as usize], data.start())?;
        read += data.len();
    }
    Ok(read)
}
