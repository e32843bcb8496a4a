//! Clones of images: files of their own that share blocks with an image, and stand for it as it was
//! at one instant.

use super::error::SourceError;
use super::file::{Guard, SourceFile};
use super::qcow2::Qcow2Source;
use super::{ImageFormat, Source, probe, raw};
use crate::extent::Extent;
use crate::fsio::FileStat;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// By what a clone is known again, as it was left. Not by the number of its device: btrfs gives
/// itself another one with every mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloneIdentity {
    inode: u64,
    len_bytes: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

impl CloneIdentity {
    /// The identity of an open clone.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of(file: &File) -> io::Result<Self> {
        let stat = FileStat::of(&file.metadata()?);
        let time = |ns: i128| i64::try_from(ns).map_err(io::Error::other);
        let (mtime_ns, ctime_ns) = (time(stat.mtime_ns)?, time(stat.ctime_ns)?);
        Ok(Self { inode: stat.inode, len_bytes: stat.len_bytes, mtime_ns, ctime_ns })
    }
}

/// A clone of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneSpec {
    /// The clone.
    pub path: PathBuf,
    /// The image that it stands for: messages name it, and names in it are relative to its folder.
    pub image: PathBuf,
    /// What the image holds.
    pub format: ImageFormat,
}

/// The format of an image, of which the content is believed only as [`super::open`] does. Nothing is
/// locked.
///
/// # Errors
/// When it cannot be told.
pub fn image_format(image: &Path) -> Result<ImageFormat, SourceError> {
    probe::probe(&SourceFile::open(image, Guard::None)?)
}

/// Opens a clone for reading.
///
/// # Errors
/// As [`super::open`]; also when the image has a part that the clone does not hold.
pub fn open_clone(spec: &CloneSpec) -> Result<Box<dyn Source>, SourceError> {
    let file = SourceFile::open(&spec.path, Guard::Lock)?.standing_for(&spec.image);
    Ok(match spec.format {
        ImageFormat::Raw => Box::new(raw::RawSource::new(file)),
        ImageFormat::Qcow2 => Box::new(Qcow2Source::open_clone(file)?),
    })
}

/// Where the disk in `new` may differ from that in `old`, an earlier clone of the image, when the two
/// files may differ in `differing` (sorted, disjoint): sorted and disjoint. `None` when it is not
/// known, as of an image that stands on others.
///
/// # Errors
/// When one of them cannot be read.
pub fn changed_in_clone(
    old: &CloneSpec,
    new: &CloneSpec,
    differing: Vec<Extent>,
) -> Result<Option<Vec<Extent>>, SourceError> {
    let open = |spec: &CloneSpec| {
        Ok::<_, SourceError>(SourceFile::open(&spec.path, Guard::Lock)?.standing_for(&spec.image))
    };
    match (old.format, new.format) {
        (ImageFormat::Raw, ImageFormat::Raw) => Ok(Some(differing)),
        (ImageFormat::Qcow2, ImageFormat::Qcow2) => {
            let (old, new) = (Qcow2Source::open_clone(open(old)?)?, open(new)?);
            Qcow2Source::open_clone(new)?.changed_since_clone(&old, &differing)
        }
        _ => Ok(None),
    }
}
