//! Files under construction, and sweeping those of writers that died.

use super::{Layout, StoreError};
use crate::fsio::{FileLock, FileSystem, LockError, LockHolder, LockMode, TemporaryFile};
use crate::units::{Breakage, RunId, is_broken};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The right to have temporary files in a repository. While it lives, its lock tells sweepers
/// that the files of this writer are in use.
///
/// Invariant: a writer's lock is created and taken, and dead writers are swept, only under the
/// sweep lock; so a lock that can be taken belongs to a writer that is dead.
#[derive(Debug)]
pub struct WriterSession {
    fs: Arc<dyn FileSystem>,
    layout: Layout,
    id: RunId,
    next: AtomicU64,
    _lock: FileLock,
}

/// How often, and how long, a new writer waits while another one begins, in milliseconds.
const BEGIN_TRIES: u32 = 200;
const BEGIN_WAIT_MS: u64 = 10;

impl WriterSession {
    /// Begins to write to the repository: sweeps what dead writers left, then takes this one's
    /// own lock.
    pub(super) fn begin(
        fs: &Arc<dyn FileSystem>,
        layout: &Layout,
        id: RunId,
    ) -> Result<Self, StoreError> {
        let holder = LockHolder::this_process("the beginning of a write");
        let _sweep = take_patiently(fs.as_ref(), layout, &holder)?;
        if fs.stat(&layout.temporary())?.is_none() {
            fs.create_dir_all(&layout.temporary())?;
        }
        if !is_broken(Breakage::FoundNamesUnsynced) {
            // Whoever created the repository may have been killed just before its header's name
            // was durable, and nothing that is written here would be worth anything without it.
            fs.sync_dir(layout.root())?;
        }
        sweep_dead_writers(fs.as_ref(), layout)?;
        let path = layout.writer_lock(id);
        let lock = FileLock::try_take(fs.as_ref(), &path, LockMode::Exclusive, &holder)?;
        let (fs, layout) = (Arc::clone(fs), layout.clone());
        Ok(Self { fs, layout, id, next: AtomicU64::new(0), _lock: lock })
    }

    /// When the writer that has been at work for the longest began, by the clock of the file system,
    /// in nanoseconds since 1970; `None` when none is at work.
    ///
    /// # Errors
    /// When the temporary folder cannot be looked at.
    pub(super) fn oldest_ns(
        fs: &dyn FileSystem,
        layout: &Layout,
    ) -> Result<Option<i128>, StoreError> {
        let holder = LockHolder::this_process("a look at writers");
        // A writer that begins meanwhile must not find its own lock taken.
        let _sweep = take_patiently(fs, layout, &holder)?;
        let mut oldest: Option<i128> = None;
        for entry in fs.list(&layout.temporary())? {
            let path = layout.temporary().join(&entry.name);
            if writer_of_lock(&entry.name).is_none() {
                continue;
            }
            let taken = FileLock::try_take(fs, &path, LockMode::Exclusive, &holder);
            if let (Err(LockError::Busy { .. }), Some(stat)) = (taken, fs.stat(&path)?) {
                oldest = Some(oldest.map_or(stat.mtime_ns, |other| other.min(stat.mtime_ns)));
            }
        }
        Ok(oldest)
    }

    /// The repository's paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Creates a file under construction.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(&self) -> Result<TemporaryFile, StoreError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.layout.temporary_file(self.id, number);
        Ok(TemporaryFile::create(&self.fs, path)?)
    }
}

impl Drop for WriterSession {
    fn drop(&mut self) {
        // Best effort; a lock file that stays is swept when the next writer begins.
        let _ = self.fs.remove_file(&self.layout.writer_lock(self.id));
    }
}

fn take_patiently(
    fs: &dyn FileSystem,
    layout: &Layout,
    holder: &LockHolder,
) -> Result<FileLock, LockError> {
    for _ in 0..BEGIN_TRIES {
        match FileLock::try_take(fs, &layout.sweep_lock(), LockMode::Exclusive, holder) {
            Err(LockError::Busy { .. }) => {
                std::thread::sleep(std::time::Duration::from_millis(BEGIN_WAIT_MS));
            }
            other => return other,
        }
    }
    FileLock::try_take(fs, &layout.sweep_lock(), LockMode::Exclusive, holder)
}

/// Whose lock has this name; `None` for whatever else is there, which is not ours to take.
fn writer_of_lock(name: &str) -> Option<RunId> {
    name.strip_suffix(".lock")?.parse().ok()
}

fn sweep_dead_writers(fs: &dyn FileSystem, layout: &Layout) -> Result<(), StoreError> {
    let names: Vec<String> =
        fs.list(&layout.temporary())?.into_iter().map(|entry| entry.name).collect();
    let holder = LockHolder::this_process("sweeping");
    for name in &names {
        let Some(writer) = writer_of_lock(name) else { continue };
        let path = layout.temporary().join(name);
        let taken = FileLock::try_take(fs, &path, LockMode::Exclusive, &holder);
        let _dead = match taken {
            Ok(lock) => Some(lock),
            Err(LockError::Busy { .. }) if is_broken(Breakage::LiveWritersSwept) => None,
            Err(LockError::Busy { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        // The lock goes last: were it gone first, a crash here would leave files nobody owns.
        let its = format!("{writer}-");
        for file in names.iter().filter(|file| file.starts_with(&its)) {
            remove_if_there(fs, layout, file)?;
        }
        remove_if_there(fs, layout, name)?;
    }
    // Without a lock nobody is at work: every writer makes its lock before its first file. The
    // lock's name is never synced, so that a power cut can take it and leave the files.
    let has_lock = |file: &str| {
        let writer = file.split('-').next().unwrap_or(file);
        names.iter().any(|name| name.strip_suffix(".lock") == Some(writer))
    };
    for file in names.iter().filter(|file| file.ends_with(".tmp") && !has_lock(file)) {
        remove_if_there(fs, layout, file)?;
    }
    Ok(())
}

// A writer that ends in good order removes its own files meanwhile.
fn remove_if_there(fs: &dyn FileSystem, layout: &Layout, name: &str) -> Result<(), StoreError> {
    match fs.remove_file(&layout.temporary().join(name)) {
        Err(error) if !error.not_found() => Err(error.into()),
        _ => Ok(()),
    }
}
