//! A disk that lies nowhere: its content is a function of a seed and the place, so that a disk of
//! a terabyte needs no room.

use afterimage::capture::{CapturedDisk, CapturedFile, DiskCapturer};
use afterimage::extent::{Extent, push_joined};
use afterimage::fsio::FileStat;
use afterimage::source::{DiskBase, Source, SourceError};
use afterimage::testing::Random;
use afterimage::units::{MIB, Name};
use std::collections::BTreeMap;
use std::sync::Arc;

pub const BLOCK_BYTES: u64 = 4096;
/// Noise at the front of each block, which the rest of it repeats a part of: it becomes about a
/// fifth when it is compressed.
const NOISE_BYTES: usize = 768;
const REPEATED_BYTES: usize = 64;
/// Stretches of data have 1 to 16 MiB, most of the time.
const STRETCH_BYTES_MIN: u64 = MIB;
const STRETCH_BYTES_AVERAGE: u64 = STRETCH_BYTES_MIN + 15 * MIB / 2;

/// A disk of one size with stretches of data, spread evenly, whose blocks can be changed.
#[derive(Debug, Clone)]
pub struct Generated {
    size_bytes: u64,
    seed: u64,
    /// Each slot begins with one stretch of data; the rest of it is zero.
    slot_bytes: u64,
    /// Versions of the blocks that were changed since the beginning.
    versions: Arc<BTreeMap<u64, u64>>,
}

impl Generated {
    /// A disk with about `data_bytes` of data; nothing but data when that is its size.
    pub fn new(size_bytes: u64, data_bytes: u64, seed: u64) -> Self {
        let slots = (data_bytes / STRETCH_BYTES_AVERAGE).max(1);
        let slot_bytes = match size_bytes == data_bytes {
            true => size_bytes,
            false => size_bytes / slots / MIB * MIB,
        };
        Self { size_bytes, seed, slot_bytes, versions: Arc::default() }
    }

    /// The stretch of a slot, cut off at the end of the disk.
    fn stretch(&self, slot: u64) -> Extent {
        let start = slot * self.slot_bytes;
        let spread = 2 * (STRETCH_BYTES_AVERAGE - STRETCH_BYTES_MIN) / BLOCK_BYTES;
        let len = STRETCH_BYTES_MIN + Random::new(self.seed ^ slot).below(spread) * BLOCK_BYTES;
        let len = if self.slot_bytes == self.size_bytes { self.size_bytes } else { len };
        let end = start.saturating_add(len.min(self.slot_bytes)).min(self.size_bytes);
        Extent::between(start.min(end), end)
    }

    fn slots(&self) -> u64 {
        self.size_bytes.div_ceil(self.slot_bytes)
    }

    /// How many bytes of it are data.
    pub fn data_bytes(&self) -> u64 {
        (0..self.slots()).map(|slot| self.stretch(slot).len()).sum()
    }

    /// Changes `count` blocks at random places of its data, and gives them back, sorted.
    pub fn change(&mut self, count: u64, version: u64) -> Vec<Extent> {
        let mut random = Random::new(self.seed ^ version << 32);
        let versions = Arc::make_mut(&mut self.versions);
        let mut changed = BTreeMap::new();
        while (changed.len() as u64) < count {
            let slot = random.below(self.size_bytes.div_ceil(self.slot_bytes));
            let start = slot * self.slot_bytes;
            let len = STRETCH_BYTES_MIN.min(self.size_bytes.saturating_sub(start));
            let len = if self.slot_bytes == self.size_bytes { self.size_bytes } else { len };
            if len < BLOCK_BYTES {
                continue;
            }
            let block = start / BLOCK_BYTES + random.below(len / BLOCK_BYTES);
            changed.insert(block, version);
        }
        versions.extend(&changed);
        let mut extents = Vec::new();
        for block in changed.into_keys() {
            let start = block * BLOCK_BYTES;
            push_joined(&mut extents, Extent::between(start, start + BLOCK_BYTES));
        }
        extents
    }

    fn fill_block(&self, block: u64, buffer: &mut [u8]) {
        let version = self.versions.get(&block).copied().unwrap_or(0);
        let mut random = Random::new(Random::new(self.seed ^ version << 40).word() ^ block);
        let (noise, rest) = buffer.split_at_mut(NOISE_BYTES);
        for word in noise.as_chunks_mut::<8>().0 {
            *word = random.word().to_le_bytes();
        }
        for piece in rest.chunks_mut(REPEATED_BYTES) {
            piece.copy_from_slice(&noise[..piece.len()]);
        }
    }
}

impl DiskCapturer for Generated {
    fn capture(
        &self,
        _: &Name,
        _: Option<&DiskBase>,
    ) -> Result<Box<dyn CapturedDisk>, SourceError> {
        Ok(Box::new(CapturedFile::new(Box::new(self.clone()), false)))
    }
}

impl Source for Generated {
    fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError> {
        let slot = offset / self.slot_bytes;
        if offset < self.stretch(slot).end() {
            return Ok(Some(offset));
        }
        let next = (slot + 1) * self.slot_bytes;
        Ok((next < self.size_bytes).then_some(next))
    }

    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        let mut list = Vec::new();
        for slot in range.start() / self.slot_bytes..range.end().div_ceil(self.slot_bytes) {
            let data = self.stretch(slot).intersection(range);
            if !data.is_empty() {
                push_joined(&mut list, data);
            }
        }
        Ok(list)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let mut whole = [0; BLOCK_BYTES as usize];
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let into = (at % BLOCK_BYTES) as usize;
            let count = rest.len().min(BLOCK_BYTES as usize - into);
            let (part, later) = rest.split_at_mut(count);
            // Stretches begin and end between blocks.
            if at >= self.stretch(at / self.slot_bytes).end() {
                part.fill(0);
            } else if count == BLOCK_BYTES as usize {
                self.fill_block(at / BLOCK_BYTES, part);
            } else {
                self.fill_block(at / BLOCK_BYTES, &mut whole);
                part.copy_from_slice(&whole[into..into + count]);
            }
            (at, rest) = (at + count as u64, later);
        }
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn description(&self) -> &'static str {
        "generated disk"
    }

    fn files(&self) -> Vec<FileStat> {
        Vec::new()
    }
}
