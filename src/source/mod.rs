//! Where a disk is read: raw images, block devices, offline qcow2 images with their backing chains,
//! and NBD exports.
//!
//! Invariant: what is reported as zeros reads as zeros; doubt means data. A short read, a file
//! that was cut off or a table that contradicts itself is an error, never zeros.

mod base;
mod changes;
mod clones;
mod direct;
mod error;
mod file;
mod nbd;
mod probe;
mod qcow2;
mod raw;

#[cfg(test)]
mod tests;

pub use base::{DiskBase, known_bases};
pub use changes::{
    Changed, ChangedExtents, ChangedList, Evidence, FileIdentity, HandedOver, Untold,
};
pub use clones::{CloneIdentity, CloneSpec, changed_in_clone, image_format, open_clone};
pub use error::SourceError;
pub use nbd::{NbdSource, open_nbd};
pub use qcow2::StoredBitmap;

use crate::extent::Extent;
use crate::fsio::FileStat;
use file::{Guard, SourceFile};
use std::path::{Path, PathBuf};

/// A disk that can be read. All methods may be called from several threads at once.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// Size of the disk in bytes.
    fn size_bytes(&self) -> u64;

    /// First byte at or after `offset` that may not be zero; `None`: only zeros until the end.
    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError>;

    /// Ranges of `range` (within the disk) that may hold something else than zeros: sorted,
    /// disjoint, never touching. Outside them the disk reads as zeros.
    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError>;

    /// Fills `buffer` from `offset` (within the disk); a short read is an error, never
    /// zero-filled.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError>;

    /// Looks whether any file that the disk is read from was changed since it was opened: by
    /// size, times of change or, of a device, what the kernel counted.
    ///
    /// # Errors
    /// [`SourceError::Changed`]: what was read may mix two states of the disk.
    fn check_unchanged(&self) -> Result<(), SourceError>;

    /// What it is, for records: `raw image`, `block device`, `qcow2 image`, `NBD export`.
    fn description(&self) -> &'static str;

    /// All files that the disk is read from, the whole backing chain, as they were opened. None
    /// where another program reads it.
    fn files(&self) -> Vec<FileStat>;

    /// By what its files are known again, unmodified, at a later time, in the order of
    /// [`Source::files`]; `None` where their times prove nothing. It was opened at `opened`, or
    /// later.
    fn identities(&self, opened: jiff::Timestamp) -> Option<Vec<FileIdentity>> {
        let _ = opened;
        None
    }

    /// A dirty bitmap that QEMU stored with the disk.
    ///
    /// # Errors
    /// Why there is none that counts, in words.
    fn stored_bitmap(&self, name: &str) -> Result<StoredBitmap, String> {
        let _ = name;
        Err("it is no qcow2 image, which could store bitmaps".to_owned())
    }

    /// Where the disk may differ from what it was when its files were `before`; `None` when that
    /// is not known.
    fn changed_since(
        &self,
        before: &[FileIdentity],
    ) -> Result<Option<ChangedExtents>, SourceError> {
        let _ = before;
        Ok(None)
    }
}

/// How a disk lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    /// Byte for byte.
    Raw,
    /// QEMU's format, version 2 or 3.
    Qcow2,
}

/// Which disk to read, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// The image or device.
    pub path: PathBuf,
    /// What it holds; `None`: find out. Then qcow2 is believed only of files that are named so,
    /// because the guest of a raw disk decides how the disk begins.
    pub format: Option<ImageFormat>,
    /// Refuse anything but a block device.
    pub must_be_device: bool,
    /// The user vouches that nobody writes: nothing is locked or claimed.
    pub quiesced: bool,
}

/// Opens a disk for reading, and keeps writers out until it is dropped.
///
/// # Errors
/// When it is written to, mounted, encrypted, damaged or in a format that is not read; the error
/// says what to do.
pub fn open(spec: &SourceSpec) -> Result<Box<dyn Source>, SourceError> {
    let guard = if spec.quiesced { Guard::None } else { Guard::LockAndClaim };
    let file = SourceFile::open(&spec.path, guard)?;
    if spec.must_be_device && !file.is_device() {
        return Err(SourceError::NotADevice { path: spec.path.clone() });
    }
    // A file of no bytes is a disk of no bytes; a device of no bytes is one that nothing is
    // connected to, and a point of it would empty the replicas.
    if file.is_device() && file.size_bytes() == 0 {
        return Err(SourceError::Empty { path: spec.path.clone() });
    }
    let format = match spec.format {
        Some(format) => format,
        None => probe::probe(&file)?,
    };
    let source: Box<dyn Source> = match format {
        ImageFormat::Raw => Box::new(raw::RawSource::new(file)),
        ImageFormat::Qcow2 => Box::new(qcow2::Qcow2Source::open(file, spec.quiesced)?),
    };
    Ok(source)
}

fn require_within(range: Extent, size_bytes: u64, path: &Path) -> Result<(), SourceError> {
    if range.end() <= size_bytes {
        Ok(())
    } else {
        let (offset, end) = (range.start(), range.end());
        Err(SourceError::PastEnd { path: path.to_owned(), offset, end, size_bytes })
    }
}
