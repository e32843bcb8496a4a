//! How the content of a region is come by.

use std::marker::PhantomData;
use std::ops::Range;

/// The content of a region, of which no more is read than is asked for.
pub trait RegionContent {
    /// Why it cannot be given.
    type Error;

    /// The bytes of `range`, in bytes from the region's start.
    ///
    /// # Errors
    /// When they cannot be read.
    fn bytes(&mut self, range: Range<usize>) -> Result<&[u8], Self::Error>;
}

/// A region's content that is in memory as a whole; `E`: why it cannot be given, which never happens.
#[derive(Debug)]
pub struct InMemory<'c, E> {
    bytes: &'c [u8],
    error: PhantomData<E>,
}

impl<'c, E> InMemory<'c, E> {
    /// The content `bytes`.
    pub fn new(bytes: &'c [u8]) -> Self {
        Self { bytes, error: PhantomData }
    }
}

impl<E> RegionContent for InMemory<'_, E> {
    type Error = E;

    fn bytes(&mut self, range: Range<usize>) -> Result<&[u8], E> {
        Ok(&self.bytes[range])
    }
}
