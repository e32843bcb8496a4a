//! A disk in memory that knows what is durable, and yields every state that a crash may leave.
//!
//! *The model.* A file has the content that programs see and the content that is safe. What is
//! written, zeroed or resized waits until the file is synced; names that are created, renamed or
//! removed wait until their folder is synced. When the power goes, each waiting change may be
//! there or not, whatever was made before or after it: file systems and disks reorder. A write
//! may be there in part, sector by sector of 512 or 4096 bytes. Length and data of a write are
//! two changes: a file may have grown and hold zeros.
//!
//! *What is taken for granted*, as on file systems with a journal: a rename is there as a whole
//! or not at all, and whoever syncs the folder of the new name makes it durable; a name that was
//! renamed durably does not come back under the old one; a synced sector stays what it is.
//! What lies in a folder whose own name is lost is lost with it.
//!
//! *A failed sync* leaves the content that programs see and forgets the content that waited: a
//! later sync succeeds and changes nothing of it, as Linux does it (the "fsyncgate" of PostgreSQL,
//! 2018). Lengths go on waiting: the inode stays dirty.
//!
//! Locks are real ones, on files in a folder of the operating system that belongs to one state of
//! the disk: whoever held one before a crash holds it no longer after it.

mod crash;
mod director;
mod file_system;
mod handle;
mod state;
#[cfg(test)]
mod tests;

pub use crash::{CrashStates, Loss, Waiting};
pub use director::{Director, Errno, Failing, Free, Killed, Span, Step, Verdict};

use state::State;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk in memory, as one process sees it.
#[derive(Debug, Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
    locks: Arc<locks::Folder>,
    director: Arc<dyn Director>,
}

impl SimulatedDisk {
    /// An empty one, on which every operation succeeds.
    pub fn new() -> Self {
        Self::over(State::default())
    }

    fn over(state: State) -> Self {
        let locks = Arc::new(locks::Folder::new());
        Self { state: Arc::new(Mutex::new(state)), locks, director: Arc::new(Free) }
    }

    /// The same disk for another process, whose operations `director` decides on.
    pub fn directed(&self, director: Arc<dyn Director>) -> Arc<Self> {
        Arc::new(Self { director, ..self.clone() })
    }

    /// An independent copy: what is seen, what is safe and what waits.
    pub fn copy(&self) -> Self {
        Self::over(self.state().clone())
    }

    /// Everything that waits becomes durable.
    pub fn settle(&self) {
        self.state().settle();
    }

    /// Files that were removed take no memory any more; nobody may have them open.
    pub fn forget_removed(&self) {
        self.state().drop_nameless();
    }

    /// How many changes wait.
    pub fn waiting(&self) -> usize {
        self.state().waiting()
    }

    /// The same for two disks that hold the same under the same names and numbers.
    pub fn fingerprint(&self) -> u64 {
        self.state().fingerprint()
    }

    /// Content of a file as programs see it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        self.state().content(path)
    }

    /// Someone else writes to a file, which is seen by its time.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn overwrite(&self, path: &Path, offset: u64, bytes: &[u8]) {
        let mut state = self.state();
        let inode = state.file_at(path);
        assert!(inode.is_some(), "{} is no file", path.display());
        state.write(inode.unwrap_or_default(), offset, bytes);
    }

    /// All files, as programs see them.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state().files()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SimulatedDisk {
    fn default() -> Self {
        Self::new()
    }
}

/// Where locks are taken.
mod locks {
    use std::path::{Path, PathBuf};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static NEXT: AtomicU64 = AtomicU64::new(0);

    /// A folder that is made for its first lock, and goes with its last user.
    #[derive(Debug)]
    pub struct Folder {
        path: PathBuf,
        is_made: OnceLock<()>,
    }

    impl Folder {
        pub fn new() -> Self {
            let memory = Path::new("/dev/shm");
            let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("afterimage-locks-{}-{number}", std::process::id()));
            Self { path, is_made: OnceLock::new() }
        }

        /// The file for the lock of a path, in a folder that is there.
        pub fn file(&self, path: &Path) -> std::io::Result<PathBuf> {
            if self.is_made.get().is_none() {
                std::fs::create_dir_all(&self.path)?;
                self.is_made.get_or_init(|| ());
            }
            Ok(self.path.join(path.to_string_lossy().replace('/', "%")))
        }

        /// Forgets the lock of a path that is removed.
        pub fn remove(&self, path: &Path) -> std::io::Result<()> {
            if self.is_made.get().is_none() {
                return Ok(());
            }
            match std::fs::remove_file(self.file(path)?) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            if self.is_made.get().is_some() {
                // A folder of locks that stays harms nobody.
                let _ = std::fs::remove_dir_all(&self.path);
            }
        }
    }
}
