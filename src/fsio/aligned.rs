//! Memory that reads and writes past the page cache can use.

use std::ops::{Deref, DerefMut};

/// Alignment in memory, in files and of lengths that satisfies every device, in bytes.
pub const DIRECT_ALIGN_BYTES: usize = 4096;

/// Bytes that start at a multiple of [`DIRECT_ALIGN_BYTES`] in memory.
#[derive(Debug, Default)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + DIRECT_ALIGN_BYTES];
        let start = bytes.as_ptr().addr().wrapping_neg() % DIRECT_ALIGN_BYTES;
        Self { bytes, start, len }
    }

    /// Makes it hold `len` bytes; what they are is of no meaning.
    pub fn resize(&mut self, len: usize) {
        if len + DIRECT_ALIGN_BYTES > self.bytes.len() {
            *self = Self::new(len);
        }
        self.len = len;
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}
