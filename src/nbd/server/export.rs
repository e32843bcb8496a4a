//! What a server serves.

use crate::extent::Extent;
use crate::nbd::error::{ErrorCode, Said};
use crate::nbd::numbers::BASE_ALLOCATION;

/// Why an export could not do what a client asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}{said}")]
pub struct ExportError {
    /// The number that the client is told.
    pub code: ErrorCode,
    /// What the client is told in words.
    pub said: Said,
}

impl ExportError {
    /// An error with this number, one of those of [`ErrorCode`], and these words.
    pub fn new(code: u32, words: impl std::fmt::Display) -> Self {
        Self { code: ErrorCode(code), said: Said::new(words.to_string().as_bytes()) }
    }

    fn read_only() -> Self {
        Self::new(ErrorCode::PERM, "the export is read-only")
    }
}

/// A disk that clients may read, and perhaps write. All methods may be called from several
/// threads at once, and every range lies within the disk.
pub trait Export: Send + Sync {
    /// Size in bytes. It never changes.
    fn size_bytes(&self) -> u64;

    /// Whether clients may write.
    fn is_writable(&self) -> bool {
        false
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// What the client is told.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ExportError>;

    /// Writes `data` at `offset`. Nothing is durable until [`Export::flush`] returns.
    ///
    /// # Errors
    /// What the client is told. Part of it may be written then.
    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        let _ = (data, offset);
        Err(ExportError::read_only())
    }

    /// Makes `range` read as zeros. Its space may be given back unless `keeps_allocated`.
    ///
    /// # Errors
    /// What the client is told.
    fn write_zeroes(&self, range: Extent, keeps_allocated: bool) -> Result<(), ExportError> {
        let _ = (range, keeps_allocated);
        Err(ExportError::read_only())
    }

    /// The client does not need `range` any more.
    ///
    /// # Errors
    /// What the client is told.
    fn trim(&self, range: Extent) -> Result<(), ExportError> {
        let _ = range;
        if self.is_writable() { Ok(()) } else { Err(ExportError::read_only()) }
    }

    /// Makes everything durable that was written before.
    ///
    /// # Errors
    /// What the client is told. What was written may be lost then.
    fn flush(&self) -> Result<(), ExportError> {
        Ok(())
    }

    /// In which contexts the status of blocks is known.
    fn contexts(&self) -> Vec<String> {
        vec![BASE_ALLOCATION.to_owned()]
    }

    /// Status of the blocks of `range` in one of the contexts, from its start on: in order,
    /// without gaps or empty pieces, at least one. It may end early.
    ///
    /// # Errors
    /// What the client is told.
    fn block_status(
        &self,
        context: &str,
        range: Extent,
    ) -> Result<Vec<(Extent, u32)>, ExportError> {
        let _ = context;
        // No hole, no zeros: anything may be there.
        Ok(vec![(range, 0)])
    }
}
