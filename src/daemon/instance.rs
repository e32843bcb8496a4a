//! One daemon for each state folder, and its socket.

use crate::fsio::{
    FileError, FileLock, LockError, LockHolder, LockMode, RealFileSystem, parent_dir,
};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Who may connect to the socket: its owner and group. Who they are is looked at all the same.
const SOCKET_MODE: u32 = 0o660;

/// Why this process cannot be the daemon.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// There is one already.
    #[error("a daemon runs already: {0}")]
    Runs(LockError),
    /// The lock's file failed.
    #[error(transparent)]
    Lock(LockError),
    /// A file that is no socket is where the socket should be.
    #[error("{} is there and is no socket; remove it, or name another `socket`", path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// Somebody listens there.
    #[error("{} belongs to another daemon, which answers; name another `socket`", path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
    },
    /// The socket failed.
    #[error(transparent)]
    Socket(FileError),
}

/// Takes the lock that one daemon holds for as long as it runs.
pub(super) fn take_lock(state_dir: &Path) -> Result<FileLock, InstanceError> {
    let path = state_dir.join("daemon.lock");
    let holder = LockHolder::this_process("the daemon");
    let taken = FileLock::try_take(&RealFileSystem, &path, LockMode::Exclusive, &holder);
    taken.map_err(|error| match error {
        LockError::Busy { .. } => InstanceError::Runs(error),
        LockError::File(_) => InstanceError::Lock(error),
    })
}

/// The daemon's socket; it goes with this.
#[derive(Debug)]
pub struct BoundSocket {
    path: PathBuf,
    listener: UnixListener,
    /// Which file it is.
    identity: (u64, u64),
}

impl BoundSocket {
    /// Listens at `path`. What a daemon that died left there is removed. Only who holds the lock of
    /// the state folder may do this.
    pub(super) fn bind(path: &Path) -> Result<Self, InstanceError> {
        let failed = |what| move |error| InstanceError::Socket(FileError::new(what, path, error));
        clear(path)?;
        let folder = parent_dir(path);
        std::fs::create_dir_all(&folder)
            .map_err(|e| InstanceError::Socket(FileError::new("create", &folder, e)))?;
        let listener = UnixListener::bind(path).map_err(failed("listen at"))?;
        let mode = std::fs::Permissions::from_mode(SOCKET_MODE);
        std::fs::set_permissions(path, mode).map_err(failed("set the mode of"))?;
        let stat = std::fs::symlink_metadata(path).map_err(failed("look at"))?;
        Ok(Self { path: path.to_owned(), listener, identity: (stat.dev(), stat.ino()) })
    }

    /// What clients connect to.
    ///
    /// # Errors
    /// When the system has no descriptor more.
    pub fn listener(&self) -> std::io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let stat = std::fs::symlink_metadata(&self.path);
        if stat.is_ok_and(|stat| (stat.dev(), stat.ino()) == self.identity) {
            // What stays is removed by the next daemon.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket to which nobody listens.
fn clear(path: &Path) -> Result<(), InstanceError> {
    let path = path.to_owned();
    let failed = |error| InstanceError::Socket(FileError::new("remove", &path, error));
    match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(stat) if !stat.file_type().is_socket() => return Err(InstanceError::NoSocket { path }),
        Ok(_) => {}
    }
    // The lock is that of the state folder: a daemon with another one may have the same socket.
    match UnixStream::connect(&path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) => return Err(failed(error)),
        Ok(_) => return Err(InstanceError::Taken { path }),
    }
    std::fs::remove_file(&path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_goes_and_one_that_answers_or_is_none_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/daemon.sock");
        let socket = BoundSocket::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, SOCKET_MODE);
        assert!(matches!(BoundSocket::bind(&path), Err(InstanceError::Taken { .. })));
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let old = BoundSocket::bind(&path).unwrap();
        // One that took its place is not its own.
        std::fs::remove_file(&path).unwrap();
        let new = BoundSocket::bind(&path).unwrap();
        drop(old);
        UnixStream::connect(&path).unwrap();
        drop(new);
        std::fs::write(&path, "mine").unwrap();
        let refused = BoundSocket::bind(&path).unwrap_err().to_string();
        assert!(refused.contains("no socket"), "{refused}");
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn the_second_daemon_of_a_state_folder_hears_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let _first = take_lock(folder.path()).unwrap();
        let refused = take_lock(folder.path()).unwrap_err();
        assert!(matches!(refused, InstanceError::Runs(_)));
        let message = refused.to_string();
        assert!(message.contains(&format!("process {}", std::process::id())), "{message}");
    }
}
