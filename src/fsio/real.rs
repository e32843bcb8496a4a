//! The operating system's files.

use super::{
    DIRECT_ALIGN_BYTES, DirEntry, FileError, FileHandle, FileKind, FileStat, FileSystem, OpenMode,
    Result,
};
use rustix::fs::{FallocateFlags, RenameFlags};
use std::fs::{File, OpenOptions};
use std::io::{self, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Shorter writes wait longer for the medium than they take to be copied.
const DIRECT_BYTES_MIN: usize = 256 * 1024;

/// Zeros are written in pieces of this size where a hole cannot be punched.
const ZERO_PIECE_BYTES: usize = 256 * 1024;

/// The files of the machine that this process runs on.
#[derive(Debug, Default, Clone, Copy)]
pub struct RealFileSystem;

impl RealFileSystem {
    /// A shared handle, as the engine takes it.
    pub fn shared() -> Arc<dyn FileSystem> {
        Arc::new(Self)
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
    /// The same file past the page cache, once it was asked for; `None`: that cannot be done.
    direct: OnceLock<Option<File>>,
}

fn kind_of(file_type: std::fs::FileType) -> FileKind {
    if file_type.is_file() {
        FileKind::File
    } else if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_block_device() {
        FileKind::BlockDevice
    } else {
        FileKind::Other
    }
}

impl FileStat {
    /// What `metadata` says.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        let kind = kind_of(metadata.file_type());
        Self {
            kind,
            len_bytes: metadata.len(),
            allocated_bytes: metadata.blocks() * 512,
            device: metadata.dev(),
            inode: metadata.ino(),
            raw_device: if kind == FileKind::BlockDevice { metadata.rdev() } else { 0 },
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl RealFileSystem {
    /// Whoever created what is in `folder` may not have come to sync it. Where this process could
    /// not have created it either, there is nothing to make durable.
    fn sync_found(&self, folder: &Path) -> Result<()> {
        use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
        match self.sync_dir(folder) {
            Err(error)
                if matches!(
                    error.source.kind(),
                    InvalidInput | PermissionDenied | ReadOnlyFilesystem
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }
}

impl FileSystem for RealFileSystem {
    fn open(&self, path: &Path, mode: OpenMode) -> Result<Arc<dyn FileHandle>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        let action = match mode {
            OpenMode::Read => "open",
            OpenMode::Write => {
                options.write(true);
                "open for writing"
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
                "create"
            }
        };
        let file = options.open(path).map_err(|e| FileError::new(action, path, e))?;
        Ok(Arc::new(RealFile { file, path: path.to_owned(), direct: OnceLock::new() }))
    }

    fn rename_no_replace(&self, from: &Path, to: &Path) -> Result<()> {
        use rustix::fs::CWD;
        let error = |e: rustix::io::Errno| FileError::new("rename to", to, e);
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Some file systems (NFS among them) have no such rename: link() refuses an
            // existing name just as well, and the second name is dropped afterwards.
            Err(
                rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP,
            ) => {
                rustix::fs::link(from, to).map_err(error)?;
                rustix::fs::unlink(from).map_err(error)
            }
            other => other.map_err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|e| FileError::new("rename to", to, e))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        std::fs::remove_file(path).map_err(|e| FileError::new("remove", path, e))
    }

    fn create_dir_all(&self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let parent = super::parent_dir(path);
        if path.is_dir() {
            return self.sync_found(&parent);
        }
        self.create_dir_all(&parent)?;
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => {
                Err(FileError::new("create", path, e))
            }
            _ => self.sync_dir(&parent),
        }
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let sync = || {
            let folder = File::open(path)?;
            folder.sync_all()?;
            // XFS that has shut down, as it does when its disk fails, says that the folder is
            // synced; asked about the folder itself, it tells the truth.
            folder.metadata()
        };
        sync().map(drop).map_err(|e| FileError::new("sync", path, e))
    }

    fn list(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let error = |e| FileError::new("list", path, e);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(error)? {
            let entry = entry.map_err(error)?;
            let metadata = match entry.metadata() {
                // Removed since the listing began: no longer a name in this folder.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(error)?,
            };
            entries.push(DirEntry {
                name: entry.file_name().to_string_lossy().into_owned(),
                kind: kind_of(metadata.file_type()),
                len_bytes: metadata.len(),
            });
        }
        Ok(entries)
    }

    fn names(&self, path: &Path) -> Result<Vec<String>> {
        let error = |e| FileError::new("list", path, e);
        let entries = std::fs::read_dir(path).map_err(error)?;
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.map(|entry| entry.map(name).map_err(error)).collect()
    }

    fn stat(&self, path: &Path) -> Result<Option<FileStat>> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(FileStat::of(&metadata))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(FileError::new("look at", path, e)),
        }
    }

    fn lock_path(&self, path: &Path) -> Result<PathBuf> {
        Ok(path.to_owned())
    }

    fn free_bytes(&self, path: &Path) -> Result<u64> {
        let stat = rustix::fs::statvfs(path)
            .map_err(|e| FileError::new("ask the free space of", path, e))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl RealFile {
    fn error(&self, action: &'static str, source: impl Into<io::Error>) -> FileError {
        FileError::new(action, &self.path, source)
    }

    /// The same file, opened anew to be written past the page cache.
    fn direct(&self) -> Option<&File> {
        let open = || {
            let same = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(same).ok()
        };
        self.direct.get_or_init(open).as_ref()
    }

    fn write_zeros(&self, offset: u64, len_bytes: u64) -> Result<()> {
        let zeros = vec![0_u8; ZERO_PIECE_BYTES.min(len_bytes as usize)];
        let mut done = 0;
        while done < len_bytes {
            let piece = (len_bytes - done).min(zeros.len() as u64) as usize;
            self.write_all_at(&zeros[..piece], offset + done)?;
            done += piece as u64;
        }
        Ok(())
    }
}

impl FileHandle for RealFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|e| self.error("read", e)),
            }
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| self.error("write to", e))
    }

    fn write_past_cache(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let align = DIRECT_ALIGN_BYTES;
        let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % align);
        let fits = bytes.as_ptr().addr().is_multiple_of(align)
            && offset.is_multiple_of(align as u64)
            && whole.len() >= DIRECT_BYTES_MIN;
        let Some(direct) = self.direct().filter(|_| fits) else {
            return self.write_all_at(bytes, offset);
        };
        match direct.write_all_at(whole, offset) {
            Ok(()) => self.write_all_at(rest, offset + whole.len() as u64),
            // The file system or the device wants it otherwise.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => self.write_all_at(bytes, offset),
            Err(e) => Err(self.error("write to", e)),
        }
    }

    fn zero_range(&self, offset: u64, len_bytes: u64) -> Result<()> {
        if len_bytes == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, len_bytes) {
            Ok(()) => Ok(()),
            // EINVAL: a device wants whole sectors.
            Err(
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL,
            ) => self.write_zeros(offset, len_bytes),
            Err(e) => Err(self.error("punch a hole in", e)),
        }
    }

    fn set_len(&self, len_bytes: u64) -> Result<()> {
        self.file.set_len(len_bytes).map_err(|e| self.error("resize", e))
    }

    fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|e| self.error("sync", e))
    }

    fn stat(&self) -> Result<FileStat> {
        let metadata = self.file.metadata().map_err(|e| self.error("look at", e))?;
        Ok(FileStat::of(&metadata))
    }

    fn drop_cache(&self) {
        // Only clean pages go; a file system that has no such cache says so, which changes nothing.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn begin_write_back(&self, offset: u64, len_bytes: u64) {
        crate::sys::begin_write_back(&self.file, offset, len_bytes);
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>> {
        match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(found) => Ok(Some(found.max(offset))),
            Err(rustix::io::Errno::NXIO) => Ok(None),
            Err(_) => Ok((offset < self.size()?).then_some(offset)),
        }
    }

    fn size(&self) -> Result<u64> {
        let stat = self.stat()?;
        if stat.kind == FileKind::BlockDevice {
            let mut file = &self.file;
            return file.seek(io::SeekFrom::End(0)).map_err(|e| self.error("ask the size of", e));
        }
        Ok(stat.len_bytes)
    }
}
