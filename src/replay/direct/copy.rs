//! Making a target hold what a captured disk holds: the first copy, or comparing everything.

use super::delta::{next_data, read_thin};
use crate::destination::{Background, Target};
use crate::extent::{Extent, differing_blocks, outside};
use crate::progress::Progress;
use crate::replay::ReplayError;
use crate::source::{Source, Untold};
use crate::units::{MIB, Name};
use crate::workers::in_parallel;
use std::sync::{Mutex, PoisonError};

/// What one worker reads at once, in bytes.
const PIECE_BYTES: u64 = 4 * MIB;

/// What a copy found.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Bytes that differed, where anything was compared.
    pub differing_bytes: u64,
    /// What of them nothing had told of.
    pub untold: Untold,
}

impl Copied {
    fn add(&mut self, differing: Extent, told: Option<&[Extent]>) {
        self.differing_bytes += differing.len();
        let Some(told) = told else { return };
        let first = told.partition_point(|it| it.end() <= differing.start());
        outside(&[differing], &told[first..]).into_iter().for_each(|it| self.untold.add(it));
    }
}

/// One disk. The target has at least its size; the caller syncs.
pub(super) struct Copy<'a> {
    pub disk: &'a Name,
    pub source: &'a dyn Source,
    pub target: &'a Target,
    /// Whether all of the target reads as zeros.
    pub is_fresh: bool,
    /// Where it was told that the disk may differ, where that is held against what is found.
    pub told: Option<&'a [Extent]>,
    pub progress: &'a Progress,
}

impl Copy<'_> {
    /// Copies, or compares and writes what differs.
    pub fn run(&self, workers: usize) -> Result<Copied, ReplayError> {
        let copied = Mutex::new(Copied::default());
        in_parallel(
            workers,
            |send| self.pieces(send),
            || Ok((Vec::new(), Vec::new())),
            |buffers, piece| {
                let differing = self.piece(buffers, piece)?;
                let mut copied = copied.lock().unwrap_or_else(PoisonError::into_inner);
                differing.into_iter().for_each(|extent| copied.add(extent, self.told));
                Ok::<(), ReplayError>(())
            },
        )?;
        let mut copied = copied.into_inner().unwrap_or_else(PoisonError::into_inner);
        copied.untold.extents.sort_unstable();
        Ok(copied)
    }

    /// Sends out whatever is not known to be zeros on both sides, in order.
    fn pieces(&self, send: &dyn Fn(Extent) -> bool) -> Result<(), ReplayError> {
        let size_bytes = self.source.size_bytes();
        let mut at = 0;
        while at < size_bytes {
            self.progress.check()?;
            let next = match self.is_fresh {
                true => self
                    .source
                    .next_data(at)
                    .map_err(|error| ReplayError::source(self.disk, error))?,
                false => next_data(self.disk, self.source, self.target, at)?,
            };
            let next = next.unwrap_or(size_bytes).min(size_bytes);
            let start = if next == size_bytes { next } else { next / PIECE_BYTES * PIECE_BYTES };
            let start = start.max(at);
            self.progress.add_done(start - at);
            at = (start / PIECE_BYTES + 1).saturating_mul(PIECE_BYTES).min(size_bytes);
            let piece = Extent::between(start, at);
            if !piece.is_empty() && !send(piece) {
                break;
            }
        }
        Ok(())
    }

    fn piece(
        &self,
        (content, held): &mut (Vec<u8>, Vec<u8>),
        piece: Extent,
    ) -> Result<Vec<Extent>, ReplayError> {
        self.progress.check()?;
        let read = read_thin(self.source, piece, content);
        self.progress.add_read(read.map_err(|error| ReplayError::source(self.disk, error))?);
        let differing = match self.is_fresh {
            true => {
                self.write(piece.start(), content, Background::Zeros)?;
                Vec::new()
            }
            false => self.repair(piece, content, held)?,
        };
        self.progress.add_done(piece.len());
        Ok(differing)
    }

    fn repair(
        &self,
        piece: Extent,
        content: &[u8],
        held: &mut Vec<u8>,
    ) -> Result<Vec<Extent>, ReplayError> {
        held.resize(content.len(), 0);
        // What of the target cannot be read is written.
        if self.target.read_exact_at(held, piece.start()).is_err() {
            held.clear();
        }
        self.progress.pace(held.len() as u64);
        let mut differing = Vec::new();
        for run in differing_blocks(piece.start(), held, content) {
            let start = piece.start() + run.start as u64;
            differing.push(Extent::between(start, start + run.len() as u64));
            self.write(start, &content[run], Background::Unknown)?;
        }
        Ok(differing)
    }

    fn write(&self, start: u64, bytes: &[u8], background: Background) -> Result<(), ReplayError> {
        let thinned = self.target.write_thin(start, bytes, background);
        let thinned = thinned.map_err(|error| ReplayError::target(self.disk, error))?;
        self.progress.add_written(thinned.data_bytes);
        self.target.begin_write_back(Extent::between(start, start + bytes.len() as u64));
        Ok(())
    }
}
