//! An export in memory, for the server.

use afterimage::extent::Extent;
use afterimage::nbd::{
    BASE_ALLOCATION, ErrorCode, Export, ExportError, Exports, Limits, STATE_HOLE, STATE_ZERO,
    Server, Transport,
};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What is told zero from data in, in bytes.
const BLOCK_BYTES: usize = 4096;

/// A disk in memory, which counts its flushes. Its first read at `bad_at` and all later ones fail.
#[derive(Default)]
pub struct MemoryExport {
    pub bytes: Mutex<Vec<u8>>,
    pub is_read_only: bool,
    pub flushes: AtomicUsize,
    pub bad_at: Option<u64>,
}

impl MemoryExport {
    pub fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes: Mutex::new(bytes), ..Self::default() })
    }

    pub fn read_only(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self { bytes: Mutex::new(bytes), is_read_only: true, ..Self::default() })
    }

    pub fn content(&self) -> Vec<u8> {
        self.bytes.lock().unwrap().clone()
    }

    fn fill(&self, range: Extent, byte: u8) {
        self.bytes.lock().unwrap()[range.start() as usize..range.end() as usize].fill(byte);
    }
}

impl Export for MemoryExport {
    fn size_bytes(&self) -> u64 {
        self.bytes.lock().unwrap().len() as u64
    }

    fn is_writable(&self) -> bool {
        !self.is_read_only
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ExportError> {
        let end = offset + buffer.len() as u64;
        if self.bad_at.is_some_and(|at| (offset..end).contains(&at)) {
            return Err(ExportError::new(ErrorCode::IO, "a bad\n\x1b[31msector"));
        }
        buffer.copy_from_slice(&self.bytes.lock().unwrap()[offset as usize..end as usize]);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        let from = offset as usize;
        self.bytes.lock().unwrap()[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn write_zeroes(&self, range: Extent, _keeps_allocated: bool) -> Result<(), ExportError> {
        self.fill(range, 0);
        Ok(())
    }

    fn trim(&self, range: Extent) -> Result<(), ExportError> {
        self.fill(range, 0);
        Ok(())
    }

    fn flush(&self) -> Result<(), ExportError> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn contexts(&self) -> Vec<String> {
        vec![BASE_ALLOCATION.into(), "qemu:dirty-bitmap:odd".into()]
    }

    /// `odd`: every other MiB is dirty.
    fn block_status(
        &self,
        context: &str,
        range: Extent,
    ) -> Result<Vec<(Extent, u32)>, ExportError> {
        let bytes = self.bytes.lock().unwrap();
        let mut list: Vec<(Extent, u32)> = Vec::new();
        let mut at = range.start() as usize;
        while at < range.end() as usize {
            let end = ((at / BLOCK_BYTES + 1) * BLOCK_BYTES).min(range.end() as usize);
            let is_zero = bytes[at..end].iter().all(|byte| *byte == 0);
            let state = match context {
                BASE_ALLOCATION if is_zero => STATE_HOLE | STATE_ZERO,
                BASE_ALLOCATION => 0,
                _ => (at >> 20) as u32 & 1,
            };
            let piece = Extent::between(at as u64, end as u64);
            match list.last_mut() {
                Some((last, same)) if *same == state => {
                    *last = Extent::between(last.start(), piece.end());
                }
                _ => list.push((piece, state)),
            }
            at = end;
        }
        Ok(list)
    }
}

/// A server on the unix socket `nbd.sock` of a folder.
pub fn serve(folder: &Path, exports: &[(&str, Arc<MemoryExport>)], limits: Limits) -> Server {
    let place = Transport::Unix { path: folder.join("nbd.sock") };
    Server::start(named(exports), &place, None, limits).unwrap_or_else(|error| panic!("{error}"))
}

pub fn named(exports: &[(&str, Arc<MemoryExport>)]) -> Exports {
    let mut named = Exports::default();
    for (name, export) in exports {
        assert!(named.insert(name, Arc::clone(export) as Arc<dyn Export>).unwrap().is_none());
    }
    named
}
