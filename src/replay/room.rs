//! Whether what will be written fits, added up for each file system.

use super::ReplayError;
use crate::fsio::FileSystem;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Bytes that will be written, by file system.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// A folder of each file system, and the bytes that go to it.
    needs: BTreeMap<u64, (PathBuf, u64)>,
}

impl Room {
    /// So much more goes to the file system of `folder`, which exists.
    pub fn add(
        &mut self,
        fs: &dyn FileSystem,
        folder: &Path,
        bytes: u64,
    ) -> Result<(), ReplayError> {
        let device = fs.stat(folder)?.map_or(0, |stat| stat.device);
        let (_, needed) = self.needs.entry(device).or_insert_with(|| (folder.to_owned(), 0));
        *needed = needed.saturating_add(bytes);
        Ok(())
    }

    /// Refuses what does not fit.
    pub fn check(&self, fs: &dyn FileSystem, what: &'static str) -> Result<(), ReplayError> {
        for (path, needed_bytes) in self.needs.values() {
            let (path, needed_bytes) = (path.clone(), *needed_bytes);
            let free_bytes = fs.free_bytes(&path)?;
            if needed_bytes > free_bytes {
                return Err(ReplayError::NoSpace { path, what, needed_bytes, free_bytes });
            }
        }
        Ok(())
    }
}
