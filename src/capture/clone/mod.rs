//! Instant clones of image files, on file systems where files can share blocks (XFS and btrfs).
//!
//! A clone is taken in a moment, whatever the image's size, and holds it as it was at one instant,
//! also while a guest writes to it: both file systems keep writers out while they clone, and write
//! out first what waits. So a clone holds every write that was completed before, none that began
//! after, and is what a power cut would have left.
//!
//! The clone of the point before is kept. Where it and the new one lie in the same blocks nothing
//! changed; see `differences.rs`.
//!
//! Invariants: a clone is never written to, and is durable before it is read. What is no clone that
//! was noted, byte for byte as it was left, tells nothing.

mod captured;
mod differences;
mod error;
mod folder;
mod mapping;
mod take;

pub use captured::CloneCapturer;
pub use error::CloneError;

use crate::capture::Mark;
use crate::extent::Extent;
use crate::source::{CloneIdentity, CloneSpec, DiskBase, ImageFormat, changed_in_clone};
use crate::sys;
use crate::units::{Name, RunId, readable};
use differences::differences;
use folder::{CloneFolder, carries};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A clone that was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptClone {
    /// Where it lies.
    pub path: PathBuf,
    /// By what it is known again.
    pub identity: CloneIdentity,
}

impl KeptClone {
    /// What was noted, if it is a clone.
    pub fn noted(base: &DiskBase) -> Option<Self> {
        match base {
            DiskBase::Clone { path, identity } => {
                Some(Self { path: path.clone(), identity: *identity })
            }
            _ => None,
        }
    }

    /// Its folder and its name in it, if it carries `mark`.
    fn place(&self, mark: &Mark) -> Option<(&Path, &OsStr)> {
        let (folder, name) = (self.path.parent()?, self.path.file_name()?);
        carries(name.to_str()?, mark).then_some((folder, name))
    }
}

/// What to clone, and for whom.
#[derive(Debug)]
pub struct CloneRequest<'a> {
    /// The image.
    pub image: &'a Path,
    /// What it holds; `None`: find out.
    pub format: Option<ImageFormat>,
    /// The machine, for people who look at the folder.
    pub machine: &'a Name,
    /// The disk, likewise.
    pub disk: &'a Name,
    /// For whom the clone is. Others with this mark, which no run uses any more, are removed.
    pub mark: Mark,
    /// The run.
    pub run: RunId,
    /// The clone of the point before, which stays.
    pub kept: Option<&'a KeptClone>,
}

/// Whether anybody wrote to the image when it was cloned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloneState {
    /// Nobody.
    Quiet,
    /// Somebody did, or may have.
    InUse,
}

/// A clone of an image; removed when it is dropped, unless it is to be kept.
#[derive(Debug)]
pub struct ImageClone {
    folder: CloneFolder,
    name: String,
    /// Locked for as long as the clone is in use.
    file: File,
    identity: CloneIdentity,
    mark: Mark,
    image: PathBuf,
    format: ImageFormat,
    state: CloneState,
    is_kept: bool,
}

impl ImageClone {
    /// How to open it.
    pub fn spec(&self) -> CloneSpec {
        self.spec_of(self.folder.path_of(&self.name))
    }

    fn spec_of(&self, path: PathBuf) -> CloneSpec {
        CloneSpec { path, image: self.image.clone(), format: self.format }
    }

    /// Whether the image was in use.
    pub fn state(&self) -> CloneState {
        self.state
    }

    /// What a later clone can be compared with, once this one is kept.
    pub fn as_base(&self) -> KeptClone {
        KeptClone { path: self.folder.path_of(&self.name), identity: self.identity }
    }

    /// Where the disk may differ from what it was when `base` was taken: sorted, disjoint, in bytes
    /// of the disk; or why that is not known, in words.
    pub fn changed_since(&self, base: &KeptClone) -> Result<Vec<Extent>, String> {
        let doubt = |what: &str| format!("{what} ({})", readable(base.path.display()));
        let (folder, name) =
            base.place(&self.mark).ok_or_else(|| doubt("what was noted is no clone"))?;
        let opened = CloneFolder::open(folder).map_err(|e| e.to_string())?;
        let old = opened.map(|folder| folder.read(name)).transpose().map_err(|e| e.to_string())?;
        let old = old.flatten().ok_or_else(|| doubt("the clone of the point before is gone"))?;
        let told =
            |e: io::Error| doubt(&format!("the clone of the point before tells nothing: {e}"));
        let require_same = || match CloneIdentity::of(&old).map_err(told)? {
            identity if identity == base.identity => Ok(()),
            _ => Err(doubt("the clone of the point before is not what it was")),
        };
        require_same()?;
        if !are_comparable(&old, &self.file).map_err(told)? {
            return Err(doubt("the clone of the point before lies on another device"));
        }
        let differing = differences(&old, &self.file).map_err(told)?;
        let differing = differing.ok_or("it changed in too many places")?;
        require_same()?;
        let changed = changed_in_clone(&self.spec_of(base.path.clone()), &self.spec(), differing);
        let unknown = "it is a qcow2 image that stands on another one";
        changed.map_err(|error| error.to_string())?.ok_or_else(|| unknown.to_owned())
    }

    /// Keeps this clone, and removes the one of the point before. Gives back what went wrong, in
    /// words; the next run tries again.
    pub fn keep(&mut self, before: Option<&KeptClone>) -> Vec<String> {
        self.is_kept = true;
        let Some((folder, name)) = before.and_then(|kept| kept.place(&self.mark)) else {
            return Vec::new();
        };
        let removed = CloneFolder::open(folder).and_then(|found| {
            let Some(found) = found else { return Ok(()) };
            found.remove(name)?;
            found.remove_if_empty();
            Ok(())
        });
        removed.err().map(|error| error.to_string()).into_iter().collect()
    }
}

impl Drop for ImageClone {
    fn drop(&mut self) {
        if !self.is_kept {
            // Where it cannot be removed, the next run tries again.
            let _ = self.folder.remove(OsStr::new(&self.name));
            self.folder.remove_if_empty();
        }
    }
}

/// Whether the addresses of both are within the same space.
fn are_comparable(old: &File, new: &File) -> io::Result<bool> {
    let same_file_system = old.metadata()?.dev() == new.metadata()?.dev();
    Ok(same_file_system && !sys::is_on_realtime_device(old)? && !sys::is_on_realtime_device(new)?)
}
