//! Writing to the log.

use super::AuditError;
use super::chain::{Link, last_line};
use super::entry::{AuditEntry, AuditLine, AuditOutcome, LINE_BYTES_MAX, Removed, Torn, digest};
use super::files;
use crate::fsio::{
    FileHandle, FileLock, FileSystem, LockError, LockHolder, LockMode, OpenMode, read_whole,
};
use jiff::Timestamp;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Files longer than this are not ours.
pub(super) const READ_BYTES_MAX: u64 = 64 << 20;
/// How long another process may write.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// When a file is full, and how many full ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file that is as long as this gets no more lines, in bytes.
    pub file_bytes: u64,
    /// Full files that are kept.
    pub files_kept: usize,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { file_bytes: 8 << 20, files_kept: 64 }
    }
}

/// The log of a state folder. Threads and processes may write to the same one.
#[derive(Debug)]
pub struct AuditLog {
    fs: Arc<dyn FileSystem>,
    folder: PathBuf,
    rotation: Rotation,
    known: Mutex<Option<Known>>,
}

/// What this process knows of the file that is written to, so that it need not be read again.
#[derive(Debug, Clone, Copy)]
struct Known {
    file: (u64, u64),
    /// Number of its first line.
    first: u64,
    /// Its last line.
    last: Link,
    /// Where that ends.
    end: u64,
    /// Its length: what is behind `end` is torn.
    len: u64,
    /// Whether its last newline is missing.
    is_unended: bool,
}

impl AuditLog {
    /// The log in `state_dir`, which is created with the first line.
    pub fn new(fs: &Arc<dyn FileSystem>, state_dir: &Path, rotation: Rotation) -> Self {
        let (fs, folder) = (Arc::clone(fs), state_dir.to_owned());
        Self { fs, folder, rotation, known: Mutex::default() }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files that it is made of.
    pub(super) fn fs(&self) -> &dyn FileSystem {
        self.fs.as_ref()
    }

    /// Adds a line, which is durable when this returns, and returns its number.
    ///
    /// # Errors
    /// When it could not be made durable. What was asked for must then not be done.
    pub fn record(&self, now: Timestamp, entry: &AuditEntry) -> Result<u64, AuditError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let _lock = self.lock()?;
        // After an error nothing that was known is trusted: the file is read again.
        let before = known.take();
        let after = self.append(before, now, entry)?;
        *known = Some(after);
        Ok(after.last.sequence)
    }

    fn lock(&self) -> Result<FileLock, AuditError> {
        let path = files::lock(&self.folder);
        let holder = LockHolder::this_process("the audit log");
        let began = Instant::now();
        loop {
            match FileLock::try_take(self.fs(), &path, LockMode::Exclusive, &holder) {
                Err(LockError::Busy { .. }) if began.elapsed() < LOCK_WAIT => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                taken => return Ok(taken?),
            }
        }
    }

    fn append(
        &self,
        known: Option<Known>,
        now: Timestamp,
        entry: &AuditEntry,
    ) -> Result<Known, AuditError> {
        let (mut handle, mut known) = self.open(known)?;
        if known.end < known.len {
            known = tell_of_torn(&handle, &known, now)?;
        } else if known.len >= self.rotation.file_bytes {
            (handle, known) = self.rotate(&known)?;
            known = self.forget_oldest(&handle, known, now)?;
        }
        write_line(&handle, &known, &next_line(&known, now, entry)?)
    }

    /// The file that is written to, which may have to be made, and what is in it.
    fn open(&self, known: Option<Known>) -> Result<(Arc<dyn FileHandle>, Known), AuditError> {
        let path = files::current(&self.folder);
        let handle = match self.fs.open(&path, OpenMode::Write) {
            Err(error) if error.not_found() => {
                let last = self.last_of_rotated()?;
                return self.create(last);
            }
            opened => opened?,
        };
        // Whoever made it may not have come to make its name durable.
        if known.is_none() {
            self.fs.sync_dir(&self.folder)?;
        }
        let stat = handle.stat()?;
        if let Some(known) = known
            && (stat.device, stat.inode) == known.file
            && stat.len_bytes == known.len
        {
            return Ok((handle, known));
        }
        let bytes = read_whole(self.fs(), &path, READ_BYTES_MAX)?;
        let before = self.last_of_rotated()?;
        let (last, end) = last_line(&bytes, before);
        let first = before.sequence.checked_add(1).ok_or(AuditError::Full)?;
        let file = (stat.device, stat.inode);
        let is_unended = bytes.last().is_some_and(|byte| *byte != b'\n');
        let (end, len) = (end as u64, bytes.len() as u64);
        let known = Known { file, first, last, end, len, is_unended };
        Ok((handle, known))
    }

    fn create(&self, last: Link) -> Result<(Arc<dyn FileHandle>, Known), AuditError> {
        let path = files::current(&self.folder);
        let handle = self.fs.open(&path, OpenMode::CreateNew)?;
        self.fs.sync_dir(&self.folder)?;
        let stat = handle.stat()?;
        let first = last.sequence.checked_add(1).ok_or(AuditError::Full)?;
        let file = (stat.device, stat.inode);
        Ok((handle, Known { file, first, last, end: 0, len: 0, is_unended: false }))
    }

    /// The last line of the newest full file.
    fn last_of_rotated(&self) -> Result<Link, AuditError> {
        let Some((first, path)) = files::list_rotated(self.fs(), &self.folder)?.pop() else {
            return Ok(Link::BEGIN);
        };
        let bytes = read_whole(self.fs(), &path, READ_BYTES_MAX)?;
        let unknown = Link { sequence: first, ..Link::BEGIN };
        Ok(last_line(&bytes, unknown).0)
    }

    fn rotate(&self, full: &Known) -> Result<(Arc<dyn FileHandle>, Known), AuditError> {
        let to = files::rotated(&self.folder, full.first);
        self.fs.rename_no_replace(&files::current(&self.folder), &to)?;
        self.fs.sync_dir(&self.folder)?;
        self.create(full.last)
    }

    /// Removes full files that are too many, each after a line that tells of it.
    fn forget_oldest(
        &self,
        handle: &Arc<dyn FileHandle>,
        mut known: Known,
        now: Timestamp,
    ) -> Result<Known, AuditError> {
        let rotated = files::list_rotated(self.fs(), &self.folder)?;
        let surplus = rotated.len().saturating_sub(self.rotation.files_kept);
        for (first, path) in rotated.into_iter().take(surplus) {
            let bytes = read_whole(self.fs(), &path, READ_BYTES_MAX)?;
            let (last, _) = last_line(&bytes, Link { sequence: first, ..Link::BEGIN });
            let mut entry = AuditEntry::new("afterimage", "audit rotate", AuditOutcome::Done);
            entry.detail = Some(format!("{} is removed", path.display()));
            let mut line = next_line(&known, now, &entry)?;
            line.removed = Some(Removed { through: last.sequence, sha256: last.digest });
            known = write_line(handle, &known, &line)?;
            self.fs.remove_file(&path)?;
        }
        Ok(known)
    }
}

/// Says what was left behind the last line, so that it can be passed over from now on.
fn tell_of_torn(
    handle: &Arc<dyn FileHandle>,
    known: &Known,
    now: Timestamp,
) -> Result<Known, AuditError> {
    // Both are lengths of a file that was read whole.
    let mut torn = vec![0; (known.len - known.end) as usize];
    handle.read_exact_at(&mut torn, known.end)?;
    if known.is_unended {
        torn.push(b'\n');
    }
    let mut entry = AuditEntry::new("afterimage", "audit repair", AuditOutcome::Done);
    entry.detail = Some("a line before this one was cut off; it is passed over".to_owned());
    let mut line = next_line(known, now, &entry)?;
    line.torn = Some(Torn { bytes: torn.len() as u64, sha256: digest(&torn) });
    write_line(handle, known, &line)
}

fn next_line(known: &Known, now: Timestamp, entry: &AuditEntry) -> Result<AuditLine, AuditError> {
    let sequence = known.last.sequence.checked_add(1).ok_or(AuditError::Full)?;
    let entry = entry.bounded();
    Ok(AuditLine {
        sequence,
        time: now,
        entry,
        torn: None,
        removed: None,
        before: known.last.digest,
    })
}

/// Writes one line and makes it durable. Never two at once: the second could
/// come to the medium without the first.
fn write_line(
    handle: &Arc<dyn FileHandle>,
    known: &Known,
    line: &AuditLine,
) -> Result<Known, AuditError> {
    let text = serde_json::to_vec(line)?;
    if text.len() > LINE_BYTES_MAX {
        return Err(AuditError::TooLong { bytes: text.len(), max: LINE_BYTES_MAX });
    }
    let missing: &[u8] = if known.is_unended { b"\n" } else { b"" };
    let bytes = [missing, &text, b"\n"].concat();
    handle.write_all_at(&bytes, known.len)?;
    handle.sync()?;
    let len = known.len + bytes.len() as u64;
    let last = Link { sequence: line.sequence, digest: digest(&text) };
    Ok(Known { last, end: len, len, is_unended: false, ..*known })
}
