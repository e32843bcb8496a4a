//! Locks on disk images that QEMU and its tools respect, and respects those that they hold.
//!
//! QEMU describes what it does with an image by shared locks on single bytes of the file (source:
//! `block/file-posix.c` and `docs/system/qemu-block-drivers` of QEMU): byte 100 + n says "I use
//! permission n", byte 200 + n says "nobody else may use permission n". Whoever opens the image
//! first takes its own locks and then asks whether anyone's contradict them; so two that begin at
//! the same time may both be refused, but never both succeed.

use super::FileError;
use crate::sys;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// First of the bytes that say which permissions are used.
const USED_BASE: u32 = 100;
/// First of the bytes that say which permissions are not shared.
const UNSHARED_BASE: u32 = 200;

/// Length of the range, from [`USED_BASE`], that holds all of these bytes.
const LOCK_BYTES: u32 = 200;

// Numbers of QEMU's permissions.
const CONSISTENT_READ: u32 = 0;
const WRITE: u32 = 1;
const WRITE_UNCHANGED: u32 = 2;
const RESIZE: u32 = 3;

/// What the lock is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QemuAccess {
    /// Reads; other readers are welcome, writers are not.
    Read,
    /// Reads one instant of what others may be writing, as long as each of their writes leaves
    /// something that counts: those of a running guest do.
    Snapshot,
    /// Writes and resizes; nobody else may write, and nobody may rely on the content.
    Write,
}

impl QemuAccess {
    fn used(self) -> &'static [u32] {
        match self {
            Self::Read | Self::Snapshot => &[CONSISTENT_READ],
            Self::Write => &[CONSISTENT_READ, WRITE, RESIZE],
        }
    }

    // A running guest lets others read its disk, because each of its writes leaves a disk that a
    // power cut could have left. A replica between two points is not even that: whoever reads it
    // then must be told, so a writer does not share CONSISTENT_READ.
    fn unshared(self) -> &'static [u32] {
        match self {
            Self::Read => &[WRITE, RESIZE],
            Self::Snapshot => &[],
            Self::Write => &[CONSISTENT_READ, WRITE, WRITE_UNCHANGED, RESIZE],
        }
    }
}

/// Why an image was not locked.
#[derive(Debug, thiserror::Error)]
pub enum QemuLockError {
    /// Someone uses it in a way that excludes the access.
    #[error(
        "{} is open in another program (a running QEMU, qemu-img or qemu-nbd?); shut that down, \
         then run this again",
        path.display()
    )]
    Busy {
        /// The image.
        path: PathBuf,
    },
    /// The file could not be opened or locked.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A held lock; dropping it, or the death of the process, releases it.
#[derive(Debug)]
pub struct QemuLock {
    file: File,
}

impl QemuLock {
    /// Locks the file or block device at `path` or says at once that it is in use.
    ///
    /// # Errors
    /// [`QemuLockError::Busy`] when someone uses it in a way that excludes `access`.
    pub fn take(path: &Path, access: QemuAccess) -> Result<Self, QemuLockError> {
        // Shared locks need no more than reading. Without O_NONBLOCK a named pipe would hang.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)
            .map_err(|e| FileError::new("open", path, e))?;
        Self::hold(file, path, access)
    }

    /// Like [`QemuLock::take`], on a file that is open already (or a clone of it); the lock then
    /// is on that very file, whatever its name leads to by now.
    pub fn hold(file: File, path: &Path, access: QemuAccess) -> Result<Self, QemuLockError> {
        let held = Self { file };
        if held.claim(access).map_err(|e| FileError::new("lock", path, e))? {
            Ok(held)
        } else {
            Err(QemuLockError::Busy { path: path.to_owned() })
        }
    }

    fn claim(&self, access: QemuAccess) -> io::Result<bool> {
        let own = access.used().iter().map(|bit| USED_BASE + bit);
        for byte in own.chain(access.unshared().iter().map(|bit| UNSHARED_BASE + bit)) {
            match sys::lock_byte_shared(self.file.as_fd(), byte) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                other => other?,
            }
        }
        // Only now, with the own claims visible, look for those that contradict them.
        let forbidden = access.used().iter().map(|bit| UNSHARED_BASE + bit);
        for byte in forbidden.chain(access.unshared().iter().map(|bit| USED_BASE + bit)) {
            if sys::is_byte_locked_by_others(self.file.as_fd(), byte)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Drop for QemuLock {
    // Closing is not enough: a child process that is being started right now has a copy of the
    // descriptor until it runs its program, and would keep the lock for that long.
    fn drop(&mut self) {
        // Best effort: the lock goes at the latest when the last copy is closed.
        let _ = sys::unlock_bytes(self.file.as_fd(), USED_BASE, LOCK_BYTES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write as _};
    use std::process::{Child, Command, Stdio};

    fn run(program: &str, args: &[&str], path: &Path) -> bool {
        let output = Command::new(program).args(args).arg(path).output();
        output.expect("the Debian package qemu-utils is needed: it has qemu-img").status.success()
    }

    /// qemu-io, holding the image until dropped.
    struct Opened(Child);

    impl Opened {
        fn new(args: &[&str], path: &Path) -> Self {
            let mut child = Command::new("qemu-io")
                .args(args)
                .arg(path)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the Debian package qemu-utils is needed: it has qemu-io");
            child.stdin.as_mut().unwrap().write_all(b"length\n").unwrap();
            // An answer means that the image is open and locked.
            let mut answer = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
            assert!(answer.contains("MiB"), "{answer}");
            Self(child)
        }
    }

    impl Drop for Opened {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn images(folder: &Path) -> [(&'static str, PathBuf); 2] {
        ["raw", "qcow2"].map(|format| {
            let path = folder.join(format);
            let made = Command::new("qemu-img")
                .args(["create", "-q", "-f", format])
                .arg(&path)
                .arg("1M")
                .status()
                .expect("the Debian package qemu-utils is needed: it has qemu-img");
            assert!(made.success());
            (format, path)
        })
    }

    #[test]
    fn an_image_that_qemu_writes_is_refused_and_one_that_it_reads_is_readable() {
        let folder = tempfile::tempdir().unwrap();
        for (format, path) in images(folder.path()) {
            let writer = Opened::new(&["-f", format], &path);
            for access in [QemuAccess::Read, QemuAccess::Write] {
                let refused = QemuLock::take(&path, access).unwrap_err();
                assert!(matches!(refused, QemuLockError::Busy { .. }), "{format}: {refused}");
            }
            QemuLock::take(&path, QemuAccess::Snapshot).unwrap();
            drop(writer);
            let reader = Opened::new(&["-r", "-f", format], &path);
            QemuLock::take(&path, QemuAccess::Read).unwrap();
            QemuLock::take(&path, QemuAccess::Write).unwrap_err();
            drop(reader);
            QemuLock::take(&path, QemuAccess::Write).unwrap();
        }
    }

    #[test]
    fn qemu_reads_but_does_not_write_what_is_locked_for_reading() {
        let folder = tempfile::tempdir().unwrap();
        for (format, path) in images(folder.path()) {
            let held = QemuLock::take(&path, QemuAccess::Read).unwrap();
            assert!(run("qemu-img", &["info", "-f", format], &path));
            assert!(!run("qemu-io", &["-f", format, "-c", "write 0 512"], &path));
            let second = QemuLock::take(&path, QemuAccess::Read).unwrap();
            QemuLock::take(&path, QemuAccess::Write).unwrap_err();
            drop((held, second));
            assert!(run("qemu-io", &["-f", format, "-c", "write 0 512"], &path));
        }
    }

    #[test]
    fn qemu_neither_reads_nor_writes_what_is_locked_for_writing() {
        let folder = tempfile::tempdir().unwrap();
        for (format, path) in images(folder.path()) {
            let held = QemuLock::take(&path, QemuAccess::Write).unwrap();
            let reading = ["-r", "-f", format, "-c", "read 0 512"];
            assert!(!run("qemu-io", &reading, &path));
            assert!(!run("qemu-io", &["-f", format, "-c", "write 0 512"], &path));
            QemuLock::take(&path, QemuAccess::Read).unwrap_err();
            QemuLock::take(&path, QemuAccess::Snapshot).unwrap_err();
            drop(held);
            assert!(run("qemu-io", &reading, &path));
        }
    }
}
