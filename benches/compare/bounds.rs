//! What this machine can do at most: the same work on the same data in memory, with nothing else.

use crate::patch::Range;
use afterimage::chunk::{CutParameters, Cutter, Namer, PieceKind};
use anyhow::{Context, Result};
use rustix::fs::{SeekFrom, seek};
use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// What is read of the disk, at most.
const SAMPLE_BYTES: u64 = 1536 << 20;
/// What is written for the bound of writing.
const WRITTEN_BYTES: u64 = 1 << 30;
const CHUNK_BYTES: u32 = 16 * 1024;
const COMPRESSION_LEVEL: i32 = 1;

/// Regions of the disk in memory.
#[derive(Debug)]
pub struct Bounds {
    regions: Vec<Vec<u8>>,
    cutter: Cutter,
    workers: usize,
}

/// Bytes a second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Cut, named and, where a chunk is new, compressed.
    pub stored: f64,
    /// Cut and named.
    pub named: f64,
    /// Copied in memory, by one thread.
    pub copied: f64,
    /// Written to one file, and synced.
    pub written: f64,
}

impl Bounds {
    /// Reads regions of the disk that hold data, evenly spread.
    pub fn read(disk: &Path) -> Result<Self> {
        let parameters = CutParameters::with_average(CHUNK_BYTES)?;
        let region_bytes = u64::from(parameters.region_bytes);
        let file = File::open(disk).with_context(|| disk.display().to_string())?;
        let with_data = regions_with_data(&file, region_bytes)?;
        let wanted = (SAMPLE_BYTES / region_bytes) as usize;
        let step = with_data.len().div_ceil(wanted).max(1);
        let mut regions = Vec::new();
        for (start, len) in with_data.into_iter().step_by(step) {
            let mut region = vec![0; len as usize];
            file.read_exact_at(&mut region, start)?;
            regions.push(region);
        }
        let workers = std::thread::available_parallelism()?.get();
        Ok(Self { regions, cutter: Cutter::new(parameters, 0), workers })
    }

    /// Measures all of them once.
    pub fn measure(&self, folder: &Path) -> Result<Rates> {
        Ok(Rates {
            stored: self.chunks(true)?,
            named: self.chunks(false)?,
            copied: self.copied(),
            written: self.written(folder)?,
        })
    }

    /// All cores take regions until there are none: data bytes a second.
    fn chunks(&self, compress: bool) -> Result<f64> {
        let (next, data_bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        let known = Mutex::new(HashSet::new());
        let namer = Namer::plain();
        let worker = || -> Result<()> {
            let mut compressor = zstd::bulk::Compressor::new(COMPRESSION_LEVEL)?;
            let mut room = vec![0; zstd::zstd_safe::compress_bound(4 * CHUNK_BYTES as usize)];
            while let Some(region) = self.regions.get(next.fetch_add(1, Ordering::Relaxed)) {
                for piece in self.cutter.cut(region) {
                    if piece.kind == PieceKind::Hole {
                        continue;
                    }
                    let chunk = &region[piece.start as usize..(piece.start + piece.len) as usize];
                    data_bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    let name = std::hint::black_box(namer.chunk(chunk));
                    let is_new = || known.lock().is_ok_and(|mut known| known.insert(name.0));
                    if compress && is_new() {
                        compressor.compress_to_buffer(chunk, &mut room)?;
                    }
                }
            }
            Ok(())
        };
        let begun = Instant::now();
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = (0..self.workers).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().try_for_each(|it| it.join().ok().context("a worker panicked")?)
        })?;
        Ok(data_bytes.into_inner() as f64 / begun.elapsed().as_secs_f64())
    }

    fn copied(&self) -> f64 {
        let mut to = vec![1_u8; self.regions.first().map_or(0, Vec::len)];
        let (begun, mut bytes) = (Instant::now(), 0);
        for region in &self.regions {
            let to = &mut to[..region.len()];
            to.copy_from_slice(region);
            std::hint::black_box(to);
            bytes += region.len();
        }
        bytes as f64 / begun.elapsed().as_secs_f64()
    }

    fn written(&self, folder: &Path) -> Result<f64> {
        let path = folder.join("written");
        rustix::fs::sync();
        let begun = Instant::now();
        let mut file = File::create(&path)?;
        let mut bytes = 0;
        for region in self.regions.iter().cycle() {
            if bytes >= WRITTEN_BYTES.min(self.sample_bytes()) {
                break;
            }
            file.write_all(region)?;
            bytes += region.len() as u64;
        }
        file.sync_all()?;
        let rate = bytes as f64 / begun.elapsed().as_secs_f64();
        std::fs::remove_file(&path)?;
        Ok(rate)
    }

    fn sample_bytes(&self) -> u64 {
        self.regions.iter().map(|region| region.len() as u64).sum()
    }
}

/// The regions that are not holes as a whole.
fn regions_with_data(file: &File, region_bytes: u64) -> Result<Vec<Range>> {
    let size = file.metadata()?.len();
    let mut found = Vec::new();
    let mut at = 0;
    while at < size {
        let Ok(data) = seek(file, SeekFrom::Data(at)) else { break };
        let start = data / region_bytes * region_bytes;
        found.push((start, region_bytes.min(size - start)));
        at = start + region_bytes;
    }
    Ok(found)
}
