//! Locks that the kernel drops when their holder dies.

use super::{FileError, FileSystem, Result, parent_dir};
use crate::units::readable;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Holder notes longer than this are not ours.
const NOTE_BYTES_MAX: u64 = 4096;

/// Whether others may hold the lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Several holders, no exclusive one.
    Shared,
    /// One holder.
    Exclusive,
}

/// Who holds a lock, for messages.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LockHolder {
    /// What it is doing: `backup of web01`.
    pub work: String,
    /// Its process id.
    pub pid: u32,
    /// Its machine.
    pub host: String,
}

impl LockHolder {
    /// This process, doing `work`.
    pub fn this_process(work: impl Into<String>) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { work: work.into(), pid: std::process::id(), host }
    }
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever can write to the lock's file wrote it.
        let (work, host) = (readable(&self.work), readable(&self.host));
        write!(f, "{work} (process {} on {host})", self.pid)
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Someone else has it.
    #[error("{} is held by {}; wait for it to end, then run this again", path.display(),
        holder.as_ref().map_or("another process".to_owned(), ToString::to_string))]
    Busy {
        /// The lock's file.
        path: PathBuf,
        /// Who, where it is known.
        holder: Option<LockHolder>,
    },
    /// The lock's file failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A held lock; dropping it, or the death of the process, releases it.
///
/// Invariant: the lock's file is never removed while its folder is in use. Were it removed, two
/// processes could hold locks on two files of the same name.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock at `path` or says at once who holds it. An exclusive holder leaves a note
    /// of who it is.
    ///
    /// # Errors
    /// [`LockError::Busy`] when it is held in a way that excludes `mode`.
    pub fn try_take(
        fs: &dyn FileSystem,
        path: &Path,
        mode: LockMode,
        holder: &LockHolder,
    ) -> Result<Self, LockError> {
        let folder = parent_dir(path);
        if fs.stat(&folder)?.is_none() {
            fs.create_dir_all(&folder)?;
        }
        let mut file = open_plain(&fs.lock_path(path)?)
            .map_err(|e| FileError::new("open the lock", path, e))?;
        let taken = match mode {
            LockMode::Shared => file.try_lock_shared(),
            LockMode::Exclusive => file.try_lock(),
        };
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Busy {
                    path: path.to_owned(),
                    holder: read_note(&mut file),
                });
            }
            Err(TryLockError::Error(e)) => return Err(FileError::new("lock", path, e).into()),
        }
        if mode == LockMode::Exclusive {
            leave_note(&mut file, holder).map_err(|e| FileError::new("write to", path, e))?;
        }
        Ok(Self { file })
    }
}

impl Drop for FileLock {
    // Closing is not enough: a child process that is being started right now has a copy of the
    // descriptor until it runs its program, and would keep the lock for that long.
    fn drop(&mut self) {
        // Best effort: the lock goes at the latest when the last copy is closed.
        let _ = self.file.unlock();
    }
}

/// Opens a lock's file, which is created when it is missing. The folder may be one that others can
/// write to: what is opened is a file in that folder, never what a name in it leads to.
fn open_plain(path: &Path) -> std::io::Result<File> {
    let no_file = |what| {
        let advice = "a lock is a plain file; see who made this, remove it, then run this again";
        std::io::Error::other(format!("it is {what}, {advice}"))
    };
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        // Opening a device may wait for it, or set something off.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(no_file("no regular file")),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => Err(no_file("a symbolic link")),
        Err(error) => Err(error),
    }
}

fn leave_note(file: &mut File, holder: &LockHolder) -> std::io::Result<()> {
    // One of the names may be somebody else's file; it may also be a copy made of hard links.
    if file.metadata()?.nlink() > 1 {
        return Ok(());
    }
    let note = serde_json::to_vec(holder)?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&note)
}

// The note is for people only: what is missing or damaged in it decides nothing.
fn read_note(file: &mut File) -> Option<LockHolder> {
    let mut note = Vec::new();
    file.take(NOTE_BYTES_MAX).read_to_end(&mut note).ok()?;
    serde_json::from_slice(&note).ok()
}

#[cfg(test)]
mod tests {
    use super::super::RealFileSystem;
    use super::*;

    #[test]
    fn a_held_lock_names_its_holder_and_is_free_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("locks/a.lock");
        let holder = LockHolder::this_process("backup of web01");
        let take = |mode| FileLock::try_take(&RealFileSystem, &path, mode, &holder);
        let held = take(LockMode::Exclusive).unwrap();
        let message = take(LockMode::Shared).unwrap_err().to_string();
        assert!(message.contains("backup of web01"), "{message}");
        assert!(message.contains(&std::process::id().to_string()), "{message}");
        drop(held);
        let shared = take(LockMode::Shared).unwrap();
        let other = take(LockMode::Shared).unwrap();
        assert!(take(LockMode::Exclusive).is_err());
        drop((shared, other));
        take(LockMode::Exclusive).unwrap();
    }

    /// Whoever could write to a repository's folder could have any file emptied.
    #[test]
    fn a_lock_that_leads_elsewhere_is_refused_and_changes_nothing_there() {
        let folder = tempfile::tempdir().unwrap();
        let (path, somebodys) = (folder.path().join("a.lock"), folder.path().join("somebodys"));
        std::fs::write(&somebodys, "somebody's").unwrap();
        let holder = LockHolder::this_process("a test");
        let take = |mode| FileLock::try_take(&RealFileSystem, &path, mode, &holder);
        std::os::unix::fs::symlink(&somebodys, &path).unwrap();
        for mode in [LockMode::Shared, LockMode::Exclusive] {
            let refused = take(mode).unwrap_err().to_string();
            assert!(refused.contains("a.lock") && refused.contains("remove it"), "{refused}");
        }
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(folder.path().join("nothing"), &path).unwrap();
        take(LockMode::Exclusive).unwrap_err();
        assert!(!folder.path().join("nothing").exists());
        std::fs::remove_file(&path).unwrap();
        // A file with several names can be locked, as copies by hard links are; but no note is left.
        std::fs::hard_link(&somebodys, &path).unwrap();
        take(LockMode::Exclusive).unwrap();
        assert_eq!(std::fs::read(&somebodys).unwrap(), b"somebody's");
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        take(LockMode::Exclusive).unwrap_err();
    }
}
