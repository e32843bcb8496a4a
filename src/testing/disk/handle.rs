//! An open file of a simulated disk.

use super::state::{File, Inode, State};
use super::{SimulatedDisk, Step, Verdict};
use crate::fsio::{FileError, FileHandle, FileKind, FileStat, Result};
use std::io;
use std::path::{Path, PathBuf};

/// Number of the simulated file system's device.
const DEVICE: u64 = 7;

pub(super) fn dead(action: &'static str, path: &Path) -> FileError {
    FileError::new(action, path, io::Error::other("the process was killed (test)"))
}

/// What is known of a file, or of a folder.
pub(super) fn stat_of(inode: Inode, file: Option<&File>) -> FileStat {
    let (len_bytes, mtime_ns) = file.map_or((0, 0), |it| (it.seen.len() as u64, it.mtime_ns));
    FileStat {
        kind: if file.is_some() { FileKind::File } else { FileKind::Directory },
        len_bytes,
        allocated_bytes: len_bytes.next_multiple_of(4096),
        device: DEVICE,
        inode,
        raw_device: 0,
        mtime_ns,
        ctime_ns: mtime_ns,
    }
}

#[derive(Debug)]
pub(super) struct SimulatedFile {
    pub disk: SimulatedDisk,
    pub path: PathBuf,
    pub inode: Inode,
}

impl SimulatedFile {
    fn look<T>(&self, look: impl FnOnce(&File) -> T) -> Result<T> {
        let state = self.disk.state();
        let found = state.nodes.get(&self.inode).map(look);
        found.ok_or_else(|| dead("use", &self.path))
    }

    /// A change that has no half-done form.
    fn change(&self, step: Step, action: &'static str, act: impl FnOnce(&mut State)) -> Result<()> {
        self.disk.permit(step, action, &self.path)?;
        act(&mut self.disk.state());
        Ok(())
    }
}

impl FileHandle for SimulatedFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let verdict = self.disk.ask(Step::Read, "read", &self.path)?;
        let mut count = self.look(|file| {
            let from = (offset as usize).min(file.seen.len());
            let count = buffer.len().min(file.seen.len() - from);
            buffer[..count].copy_from_slice(&file.seen[from..from + count]);
            count
        })?;
        match verdict {
            Verdict::Short if count > 1 => count -= 1,
            Verdict::Flipped(place) if count > 0 => {
                let among = if place % 2 == 0 { count } else { count.min(1024) };
                buffer[(place / 2) as usize % among] ^= 1 << (place % 7);
            }
            _ => {}
        }
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let written = match self.disk.director.decide(Step::Write, &self.path) {
            Verdict::Gone => return Err(dead("write to", &self.path)),
            Verdict::Fail(errno) => return Err(failed(errno, "write to", &self.path)),
            Verdict::HalfWay(errno) => Err(errno),
            Verdict::Go | Verdict::Short | Verdict::Flipped(_) => Ok(()),
        };
        let count = if written.is_ok() { bytes.len() } else { bytes.len() / 2 };
        self.disk.state().write(self.inode, offset, &bytes[..count]);
        written.map_err(|errno| failed(errno, "write to", &self.path))
    }

    fn zero_range(&self, offset: u64, len_bytes: u64) -> Result<()> {
        self.change(Step::Zero, "punch a hole in", |state| {
            state.zero(self.inode, offset, len_bytes);
        })
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.change(Step::Resize, "resize", |state| state.resize(self.inode, len_bytes))
    }

    fn sync(&self) -> Result<()> {
        match self.disk.director.decide(Step::Sync, &self.path) {
            Verdict::Gone => Err(dead("sync", &self.path)),
            Verdict::Fail(errno) | Verdict::HalfWay(errno) => {
                self.disk.state().forget(self.inode);
                Err(failed(errno, "sync", &self.path))
            }
            Verdict::Go | Verdict::Short | Verdict::Flipped(_) => {
                self.disk.state().sync(self.inode);
                Ok(())
            }
        }
    }

    fn drop_cache(&self) {
        self.disk.state().drop_cache(self.inode);
    }

    fn stat(&self) -> Result<FileStat> {
        self.disk.permit(Step::Look, "look at", &self.path)?;
        self.look(|file| stat_of(self.inode, Some(file)))
    }

    fn size(&self) -> Result<u64> {
        self.disk.permit(Step::Look, "ask the size of", &self.path)?;
        self.look(|file| file.seen.len() as u64)
    }
}

pub(super) fn failed(errno: i32, action: &'static str, path: &Path) -> FileError {
    FileError::new(action, path, io::Error::from_raw_os_error(errno))
}
