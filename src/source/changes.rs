//! What a disk may have changed in since a point, and how that is known.
//!
//! Invariant: doubt means that nothing is known, and then everything is read.

use crate::extent::{Extent, joined, push_joined};
use crate::fsio::{self, FileKind, FileStat, RealFileSystem};
use crate::units::{MIB, PointId, readable};
use std::fs::File;
use std::path::{Path, PathBuf};

/// A list of three million extents has about this length.
const LIST_BYTES_MAX: u64 = 128 * MIB;
const LIST_FORMAT: u32 = 1;

/// How it is known what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// No file that the disk is read from was modified.
    Unmodified,
    /// What was read before is the unmodified backing file now; what is allocated above it may have
    /// changed.
    Overlay,
    /// A list that was handed over.
    List,
    /// A dirty bitmap that whoever writes to the disk keeps.
    Bitmap,
    /// Which blocks two clones of an image share.
    Reflink,
    /// What the snapshots of a volume told of their difference.
    Snapshot,
}

/// Where a disk may differ from what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedExtents {
    /// Sorted, disjoint, within the disk. Everything outside is as it was.
    pub extents: Vec<Extent>,
    /// How that is known.
    pub evidence: Evidence,
}

/// What is known of the changes of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// Where they can be.
    Known(ChangedExtents),
    /// Nothing; why, in words, where that is worth telling.
    Unknown(Option<String>),
}

/// Changes that nothing told of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Untold {
    /// The first ranges.
    pub extents: Vec<Extent>,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Ranges that are kept one by one; further ones only count.
const UNTOLD_EXTENTS_MAX: usize = 1000;

impl Untold {
    /// Adds a range.
    pub fn add(&mut self, extent: Extent) {
        self.bytes += extent.len();
        if self.extents.len() < UNTOLD_EXTENTS_MAX {
            push_joined(&mut self.extents, extent);
        }
    }
}

/// By what a file that a disk was read from is known again, unmodified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    len_bytes: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

/// A file whose times of change are not older than this when it is opened can be written to again
/// within the same tick of the clock: its times prove nothing.
const SETTLED_NS: i128 = 2_000_000_000;

impl FileIdentity {
    /// The identity of a file; `None` where its times cannot prove that nobody wrote to it: of
    /// devices, and of what was changed just before `now`, or after it.
    pub fn of(stat: &FileStat, now: jiff::Timestamp) -> Option<Self> {
        let latest = stat.mtime_ns.max(stat.ctime_ns);
        let is_settled = latest + SETTLED_NS <= now.as_nanosecond();
        if stat.kind != FileKind::File || !is_settled {
            return None;
        }
        Some(Self {
            device: stat.device,
            inode: stat.inode,
            len_bytes: stat.len_bytes,
            mtime_ns: i64::try_from(stat.mtime_ns).ok()?,
            ctime_ns: i64::try_from(stat.ctime_ns).ok()?,
        })
    }

    /// Whether a file is this one, unmodified.
    pub fn matches(&self, stat: &FileStat) -> bool {
        stat.kind == FileKind::File
            && (self.device, self.inode, self.len_bytes)
                == (stat.device, stat.inode, stat.len_bytes)
            && i128::from(self.mtime_ns) == stat.mtime_ns
            && i128::from(self.ctime_ns) == stat.ctime_ns
    }
}

/// Numbers of file systems whose times of change this kernel sets itself, from Linux's `magic.h`,
/// `statfs(2)` and OpenZFS: ext2 to ext4, XFS, btrfs, tmpfs, ZFS, F2FS and bcachefs. Those of a
/// server or of another program may come late, or not at all.
const LOCAL_FILE_SYSTEMS: [u64; 7] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x2fc1_2fc1, 0xf2f5_2010, 0xca45_1a4e];

/// Whether the times of a file tell of every write to it.
pub(super) fn keeps_times(file: &File) -> bool {
    rustix::fs::fstatfs(file)
        .is_ok_and(|stat| LOCAL_FILE_SYSTEMS.contains(&(stat.f_type as u64 & 0xffff_ffff)))
}

/// Changed extents that the user, or a tool of the user's, hands over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedList {
    /// The point since which they are.
    pub since: PointId,
    /// Sorted and disjoint.
    pub extents: Vec<Extent>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ListDocument {
    format: u32,
    since: PointId,
    extents: Vec<(u64, u64)>,
}

impl ChangedList {
    /// Reads a list: `{"format": 1, "since": "ID", "extents": [[OFFSET, LENGTH], …]}`, in bytes. `ID`
    /// is the full id of the point since which the disk may have changed in these extents, and in
    /// no others.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: ListDocument = serde_json::from_slice(bytes).map_err(readable)?;
        if document.format != LIST_FORMAT {
            let found = document.format;
            return Err(format!("it has format {found}; format {LIST_FORMAT} is read"));
        }
        let mut extents = Vec::with_capacity(document.extents.len());
        for (start, len) in document.extents {
            let extent = Extent::new(start, len)
                .ok_or_else(|| format!("{len} bytes from byte {start} is no range"))?;
            extents.push(extent);
        }
        Ok(Self { since: document.since, extents: joined(extents) })
    }

    /// Reads the list in a file, if it was written after `files`, which the disk is read from.
    ///
    /// # Errors
    /// Why it does not count, in words.
    pub fn read(path: &Path, files: &[FileStat]) -> Result<Self, String> {
        let stat =
            std::fs::metadata(path).map_err(|error| format!("it cannot be read: {error}"))?;
        let listed_ns = FileStat::of(&stat).mtime_ns;
        let is_newer = |file: &FileStat| file.kind == FileKind::File && file.mtime_ns > listed_ns;
        if files.iter().any(is_newer) {
            return Err("the disk was written to after it was made".to_owned());
        }
        let bytes = fsio::read_whole(&RealFileSystem, path, LIST_BYTES_MAX)
            .map_err(|error| error.to_string())?;
        Self::parse(&bytes)
    }

    /// Where a disk of `size_bytes` may differ from `since`.
    ///
    /// # Errors
    /// Why it does not count, in words.
    pub fn within(self, since: PointId, size_bytes: u64) -> Result<ChangedExtents, String> {
        if self.since != since {
            let (listed, newest) = (self.since.short(), since.short());
            return Err(format!(
                "it lists changes since the point {listed}, the newest is {newest}"
            ));
        }
        match self.extents.last().map(Extent::end) {
            Some(end) if end > size_bytes => {
                Err(format!("it reaches to byte {end} of a disk of {size_bytes}"))
            }
            _ => Ok(ChangedExtents { extents: self.extents, evidence: Evidence::List }),
        }
    }
}

/// Whether all of `files` are those of `before`, unmodified.
pub(super) fn are_unmodified(before: &[FileIdentity], files: &[FileStat]) -> bool {
    before.len() == files.len() && before.iter().zip(files).all(|(was, is)| was.matches(is))
}

/// How a list of changed extents reaches a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandedOver {
    /// In this file.
    File(PathBuf),
    /// As it is.
    List(ChangedList),
}

impl HandedOver {
    /// The list, if it counts for a disk that is read from `files`.
    ///
    /// # Errors
    /// Why it does not, in words.
    pub fn list(&self, files: &[FileStat]) -> Result<ChangedList, String> {
        match self {
            Self::File(path) => ChangedList::read(path, files)
                .map_err(|reason| format!("the list {}: {reason}", path.display())),
            Self::List(list) => Ok(list.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Result<ChangedList, String> {
        ChangedList::parse(text.replace("ID", &"ab".repeat(32)).as_bytes())
    }

    #[test]
    fn a_list_is_sorted_and_joined() {
        let found =
            list(r#"{"format":1,"since":"ID","extents":[[8192,4096],[0,0],[100,50],[120,100]]}"#);
        let expected = [Extent::between(100, 220), Extent::between(8192, 12288)];
        assert_eq!(found.unwrap().extents, expected);
    }

    #[test]
    fn a_list_that_is_not_one_is_refused_in_words() {
        for (text, reason) in [
            (r#"{"format":2,"since":"ID","extents":[]}"#, "format 2"),
            (r#"{"format":1,"since":"ID","extents":[[18446744073709551615,2]]}"#, "no range"),
            (r#"{"format":1,"since":"abc","extents":[]}"#, "abc"),
            (r#"{"format":1,"since":"ID","extents":[[0,-1]]}"#, "-1"),
            (r#"{"format":1,"since":"ID","extents":[],"more":1}"#, "more"),
            ("", "EOF"),
        ] {
            let found = list(text).unwrap_err();
            assert!(found.contains(reason), "{text}: {found}");
        }
    }

    #[test]
    fn a_list_counts_only_for_its_point_and_within_the_disk() {
        let found = list(r#"{"format":1,"since":"ID","extents":[[0,4096]]}"#).unwrap();
        let since = found.since;
        assert!(found.clone().within(since, 4096).is_ok());
        let past = found.clone().within(since, 4095).unwrap_err();
        assert!(past.contains("4096"), "{past}");
        let other = found.within(PointId([1; 32]), 4096).unwrap_err();
        assert!(other.contains("0101"), "{other}");
    }

    #[test]
    fn a_file_that_was_written_to_just_now_has_no_identity() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stat = FileStat::of(&file.as_file().metadata().unwrap());
        let now = jiff::Timestamp::from_nanosecond(stat.ctime_ns).unwrap();
        assert_eq!(FileIdentity::of(&stat, now), None);
        let later = now + jiff::SignedDuration::from_secs(3);
        let identity = FileIdentity::of(&stat, later).unwrap();
        assert!(identity.matches(&stat));
        assert!(!identity.matches(&FileStat { ctime_ns: stat.ctime_ns + 1, ..stat }));
        assert!(!identity.matches(&FileStat { len_bytes: 1, ..stat }));
        let device = FileStat { kind: FileKind::BlockDevice, ..stat };
        assert_eq!(FileIdentity::of(&device, later), None);
    }
}
