//! The header of a qcow2 image, every field checked before anything relies on it.
//!
//! Source of the layout: QEMU's `docs/interop/qcow2.rst`. All numbers are big-endian.

use super::super::error::SourceError;
use super::super::file::SourceFile;
use crate::units::{DISK_BYTES_MAX, MIB};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// How every qcow2 image begins.
pub(in crate::source) const MAGIC: [u8; 4] = *b"QFI\xfb";

/// Length of the header of version 2.
const V2_BYTES: usize = 72;
/// Shortest header of version 3.
const V3_BYTES_MIN: usize = 104;
/// Longest name of a backing file.
const BACKING_NAME_BYTES_MAX: usize = 1023;
/// Largest L1 table.
const L1_BYTES_MAX: u64 = 32 * MIB;

const INCOMPATIBLE_DIRTY: u64 = 1;
const INCOMPATIBLE_CORRUPT: u64 = 1 << 1;
const INCOMPATIBLE_DATA_FILE: u64 = 1 << 2;
const INCOMPATIBLE_COMPRESSION: u64 = 1 << 3;
const INCOMPATIBLE_EXTENDED_L2: u64 = 1 << 4;
const INCOMPATIBLE_KNOWN: u64 = (1 << 5) - 1;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_BITMAPS: u32 = 0x2385_2875;

/// Set by whoever keeps the bitmaps true; every other writer clears it.
const AUTOCLEAR_BITMAPS: u64 = 1;

/// Where the image's bitmaps are listed. Nothing of it is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BitmapDirectory {
    pub(super) offset: u64,
    pub(super) len_bytes: u64,
    pub(super) count: u32,
}

/// How clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Deflate,
    Zstd,
}

/// A checked header.
///
/// Invariants: a cluster has 512 bytes to 2 MiB (16 KiB at least with extended L2 entries), the
/// L1 table covers the whole disk, lies within the file and starts on a cluster.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Size of the disk in bytes.
    pub(super) size_bytes: u64,
    pub(super) l1_offset: u64,
    pub(super) compression: Compression,
    pub(super) extended_l2: bool,
    pub(super) has_data_file: bool,
    pub(super) backing_name: Option<OsString>,
    pub(super) backing_format: Option<String>,
    pub(super) data_file_name: Option<OsString>,
    /// `None` also when they are not to be believed.
    pub(super) bitmaps: Option<BitmapDirectory>,
}

impl Header {
    /// Reads and checks the header of `file`.
    pub(super) fn read(file: &SourceFile) -> Result<Self, SourceError> {
        let mut start = vec![0; file.size_bytes().min(V3_BYTES_MIN as u64) as usize];
        file.read_exact_at(&mut start, 0)?;
        if !start.starts_with(&MAGIC) {
            return Err(damaged(file, "it does not begin like a qcow2 image"));
        }
        let fields = Fields { bytes: &start, file };
        let cluster_bits = fields.u32_at(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return Err(damaged(file, format!("its clusters have 2^{cluster_bits} bytes")));
        }
        // All that is still of interest lies in the first cluster.
        let mut cluster = vec![0; file.size_bytes().min(1 << cluster_bits) as usize];
        file.read_exact_at(&mut cluster, 0)?;
        Self::parse(&Fields { bytes: &cluster, file }, cluster_bits)
    }

    fn parse(fields: &Fields<'_>, cluster_bits: u32) -> Result<Self, SourceError> {
        let file = fields.file;
        let version = fields.u32_at(4)?;
        let (incompatible, header_bytes) = match version {
            2 => (0, V2_BYTES),
            3 => (fields.u64_at(72)?, fields.u32_at(100)? as usize),
            _ => return Err(unsupported(file, format!("it is qcow2 version {version}"))),
        };
        check_features(incompatible, file)?;
        if fields.u32_at(32)? != 0 {
            return Err(SourceError::Encrypted { path: file.path().to_owned() });
        }
        let fits = header_bytes <= fields.bytes.len() && header_bytes % 8 == 0;
        if !fits || (version == 3 && header_bytes < V3_BYTES_MIN) {
            return Err(damaged(file, format!("its header has {header_bytes} bytes")));
        }
        let backing_name = backing_name(fields)?;
        let extensions = Extensions::read(fields, header_bytes)?;
        let autoclear = if version == 3 { fields.u64_at(88)? } else { 0 };
        let header = Self {
            version,
            cluster_bits,
            size_bytes: fields.u64_at(24)?,
            l1_offset: fields.u64_at(40)?,
            compression: compression(fields, incompatible, header_bytes)?,
            extended_l2: incompatible & INCOMPATIBLE_EXTENDED_L2 != 0,
            has_data_file: incompatible & INCOMPATIBLE_DATA_FILE != 0,
            backing_name,
            backing_format: extensions.backing_format,
            data_file_name: extensions.data_file_name,
            bitmaps: extensions.bitmaps.filter(|_| autoclear & AUTOCLEAR_BITMAPS != 0),
        };
        header.check_tables(u64::from(fields.u32_at(36)?), file)?;
        Ok(header)
    }

    fn check_tables(&self, l1_entries: u64, file: &SourceFile) -> Result<(), SourceError> {
        if self.size_bytes > DISK_BYTES_MAX {
            let (path, size_bytes) = (file.path().to_owned(), self.size_bytes);
            return Err(SourceError::TooLarge { path, size_bytes });
        }
        if self.extended_l2 && self.cluster_bits < 14 {
            return Err(damaged(file, "its clusters are too small for extended L2 entries"));
        }
        let needed = self.size_bytes.div_ceil(self.l2_coverage_bytes());
        if l1_entries < needed {
            let what = format!("its L1 table has {l1_entries} entries, the disk needs {needed}");
            return Err(damaged(file, what));
        }
        let l1_bytes = l1_entries * 8;
        if l1_bytes > L1_BYTES_MAX {
            return Err(damaged(file, format!("its L1 table has {l1_bytes} bytes")));
        }
        let l1_end = self.l1_offset.checked_add(l1_bytes);
        let fits = l1_end.is_some_and(|end| end <= file.size_bytes());
        if !fits || !self.l1_offset.is_multiple_of(self.cluster_bytes()) {
            return Err(damaged(file, "its L1 table does not lie in the file"));
        }
        Ok(())
    }

    /// Bytes of one cluster.
    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Bytes of one entry of an L2 table.
    pub(super) fn l2_entry_bytes(&self) -> u64 {
        if self.extended_l2 { 16 } else { 8 }
    }

    /// Bytes of the disk that one L2 table describes: at most 512 GiB.
    pub(super) fn l2_coverage_bytes(&self) -> u64 {
        (self.cluster_bytes() / self.l2_entry_bytes()) << self.cluster_bits
    }
}

fn check_features(incompatible: u64, file: &SourceFile) -> Result<(), SourceError> {
    let unknown = incompatible & !INCOMPATIBLE_KNOWN;
    if unknown != 0 {
        let what = format!("it uses features of a newer qcow2 (bits {unknown:#x})");
        return Err(unsupported(file, what));
    }
    let path = || file.path().to_owned();
    if incompatible & INCOMPATIBLE_CORRUPT != 0 {
        return Err(SourceError::NeedsRepair { path: path(), mark: "corrupt" });
    }
    if incompatible & INCOMPATIBLE_DIRTY != 0 {
        return Err(SourceError::NeedsRepair { path: path(), mark: "not closed cleanly" });
    }
    Ok(())
}

fn compression(
    fields: &Fields<'_>,
    incompatible: u64,
    header_bytes: usize,
) -> Result<Compression, SourceError> {
    let kind = if header_bytes > V3_BYTES_MIN { fields.take(104, 1)?[0] } else { 0 };
    match (kind, incompatible & INCOMPATIBLE_COMPRESSION != 0) {
        (0, false) => Ok(Compression::Deflate),
        (1, true) => Ok(Compression::Zstd),
        (0 | 1, _) => Err(damaged(fields.file, "its feature bits and compression disagree")),
        _ => Err(unsupported(fields.file, format!("it is compressed by unknown method {kind}"))),
    }
}

fn backing_name(fields: &Fields<'_>) -> Result<Option<OsString>, SourceError> {
    let (offset, len) = (fields.u64_at(8)?, fields.u32_at(16)? as usize);
    if offset == 0 || len == 0 {
        return Ok(None);
    }
    if len > BACKING_NAME_BYTES_MAX {
        return Err(damaged(fields.file, format!("its backing file's name has {len} bytes")));
    }
    let offset = usize::try_from(offset).unwrap_or(usize::MAX);
    Ok(Some(OsString::from_vec(fields.take(offset, len)?.to_vec())))
}

#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    data_file_name: Option<OsString>,
    bitmaps: Option<BitmapDirectory>,
}

impl Extensions {
    fn read(fields: &Fields<'_>, start: usize) -> Result<Self, SourceError> {
        // They end where the backing file's name begins, or with the cluster.
        let end = match fields.u64_at(8)? {
            0 => fields.bytes.len(),
            name => usize::try_from(name).unwrap_or(usize::MAX).min(fields.bytes.len()),
        };
        let mut extensions = Self::default();
        let mut at = start;
        while at.saturating_add(8) <= end {
            let kind = fields.u32_at(at)?;
            let len = fields.u32_at(at + 4)? as usize;
            if kind == EXTENSION_END {
                break;
            }
            let data = fields.take(at + 8, len)?;
            match kind {
                EXTENSION_BACKING_FORMAT => {
                    let format = String::from_utf8_lossy(data).into_owned();
                    extensions.backing_format = Some(format);
                }
                EXTENSION_DATA_FILE => {
                    extensions.data_file_name = Some(OsString::from_vec(data.to_vec()));
                }
                EXTENSION_BITMAPS if len == 24 => {
                    extensions.bitmaps = Some(BitmapDirectory {
                        count: fields.u32_at(at + 8)?,
                        len_bytes: fields.u64_at(at + 16)?,
                        offset: fields.u64_at(at + 24)?,
                    });
                }
                // The rest names features, or describes encryption.
                _ => {}
            }
            at = at.saturating_add(8).saturating_add(len.next_multiple_of(8));
        }
        Ok(extensions)
    }
}

/// The first cluster, read with every offset checked.
struct Fields<'a> {
    bytes: &'a [u8],
    file: &'a SourceFile,
}

impl Fields<'_> {
    fn take(&self, at: usize, len: usize) -> Result<&[u8], SourceError> {
        let end = at.checked_add(len);
        end.and_then(|end| self.bytes.get(at..end))
            .ok_or_else(|| damaged(self.file, "its header does not fit in its first cluster"))
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], SourceError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(at, N)?);
        Ok(array)
    }

    fn u32_at(&self, at: usize) -> Result<u32, SourceError> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn u64_at(&self, at: usize) -> Result<u64, SourceError> {
        self.array(at).map(u64::from_be_bytes)
    }
}

/// `file` contradicts itself.
pub(super) fn damaged(file: &SourceFile, what: impl Into<String>) -> SourceError {
    SourceError::Damaged { path: file.path().to_owned(), what: what.into() }
}

fn unsupported(file: &SourceFile, what: impl Into<String>) -> SourceError {
    SourceError::UnsupportedFeature { path: file.path().to_owned(), what: what.into() }
}
