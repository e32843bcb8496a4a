//! Reads that bypass the page cache, at any position.
//!
//! The kernel reads whole sectors into aligned memory only; what does not fit that goes by way of
//! an aligned buffer.

use crate::fsio::{AlignedBuffer, DIRECT_ALIGN_BYTES};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Largest read by way of the buffer. Invariant: a multiple of every sector size.
const BUFFER_BYTES_MAX: u64 = 1024 * 1024;

/// Reads up to `buffer.len()` bytes at `offset` from `file`, which was opened with O_DIRECT;
/// 0 means the end. `sector_bytes` is the device's logical sector, a power of two.
pub(super) fn read_at(
    file: &File,
    buffer: &mut [u8],
    offset: u64,
    sector_bytes: u64,
) -> io::Result<usize> {
    let fits = |number: u64| number.is_multiple_of(sector_bytes);
    let whole = buffer.len() - (buffer.len() as u64 % sector_bytes) as usize;
    if whole > 0 && fits(offset) && buffer.as_ptr().addr().is_multiple_of(DIRECT_ALIGN_BYTES) {
        return file.read_at(&mut buffer[..whole], offset);
    }
    let start = offset - offset % sector_bytes;
    let wanted = (offset - start).saturating_add(buffer.len() as u64);
    let len = wanted.min(BUFFER_BYTES_MAX).next_multiple_of(sector_bytes);
    let mut aligned = AlignedBuffer::new(len as usize);
    let count = file.read_at(&mut aligned, start)?;
    let skipped = (offset - start) as usize;
    let got = &aligned[skipped.min(count)..count];
    let used = got.len().min(buffer.len());
    buffer[..used].copy_from_slice(&got[..used]);
    Ok(used)
}
