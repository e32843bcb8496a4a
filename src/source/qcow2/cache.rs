//! A bounded cache of the tables of all images of a chain.

use super::super::error::SourceError;
use super::super::file::SourceFile;
use crate::units::MIB;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Most bytes of tables that are kept, of all images of a chain together.
const KEPT_BYTES_MAX: u64 = 16 * MIB;
/// Tables are read and kept in pieces of this size, at multiples of it in the file.
pub(super) const BLOCK_BYTES: u64 = 64 * 1024;
/// What a kept piece costs besides its content, roughly.
const OVERHEAD_BYTES: u64 = 128;

/// Position of an image in its chain, and of a block in that image's file.
type Key = (usize, u64);

/// Blocks of tables. What was used lately survives: when the young half is full, it becomes the
/// old half, and what is in the old half and not asked for again goes with it.
#[derive(Debug, Default)]
pub(super) struct TableCache {
    halves: Mutex<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<Key, Arc<[u8]>>,
    old: HashMap<Key, Arc<[u8]>>,
    young_bytes: u64,
}

impl Halves {
    fn find(&mut self, key: Key) -> Option<Arc<[u8]>> {
        if let Some(block) = self.young.get(&key) {
            return Some(Arc::clone(block));
        }
        let block = self.old.remove(&key)?;
        self.keep(key, Arc::clone(&block));
        Some(block)
    }

    fn keep(&mut self, key: Key, block: Arc<[u8]>) {
        let cost = block.len() as u64 + OVERHEAD_BYTES;
        if self.young_bytes + cost > KEPT_BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(key, block).is_none() {
            self.young_bytes += cost;
        }
    }
}

impl TableCache {
    /// The block that starts at `start`, a multiple of [`BLOCK_BYTES`], of image `layer` of the
    /// chain; shorter than a block at the end of the file.
    pub(super) fn block(
        &self,
        layer: usize,
        file: &SourceFile,
        start: u64,
    ) -> Result<Arc<[u8]>, SourceError> {
        // A panic elsewhere leaves the maps whole: every change of them is one call.
        let halves = || self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = halves().find((layer, start)) {
            return Ok(block);
        }
        // Read without the lock: two threads may read the same block, none waits for the medium.
        let len = file.size_bytes().saturating_sub(start).min(BLOCK_BYTES);
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, start)?;
        let block: Arc<[u8]> = bytes.into();
        halves().keep((layer, start), Arc::clone(&block));
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stays_within_its_bound_and_keeps_what_is_used() {
        let mut halves = Halves::default();
        let block: Arc<[u8]> = vec![0; BLOCK_BYTES as usize].into();
        halves.keep((0, 0), Arc::clone(&block));
        for start in 1..10_000 {
            halves.keep((0, start), Arc::clone(&block));
            assert!(halves.find((0, 0)).is_some());
            let kept = (halves.young.len() + halves.old.len()) as u64;
            assert!(kept * BLOCK_BYTES <= KEPT_BYTES_MAX);
        }
        assert!(halves.find((0, 1)).is_none());
    }
}
