//! What is in a repository, by the names of its files.

use super::{Repository, StoreError};
use crate::fsio::FileKind;
use crate::units::{PackName, PointId};
use std::collections::HashSet;
use std::str::FromStr;

impl Repository {
    /// Names of all packs, with their lengths in bytes. Files with other names are ignored.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn list_packs(&self) -> Result<Vec<(PackName, u64)>, StoreError> {
        let mut packs = Vec::new();
        for folder in self.pack_folders()? {
            for entry in self.fs.list(&self.layout().packs().join(&folder))? {
                packs.extend(pack_in(&folder, &entry.name).map(|name| (name, entry.len_bytes)));
            }
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// Names of all packs. Cheaper than [`Repository::list_packs`]: nothing is asked of each.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn pack_names(&self) -> Result<HashSet<PackName>, StoreError> {
        let mut packs = HashSet::new();
        for folder in self.pack_folders()? {
            let names = self.fs.names(&self.layout().packs().join(&folder))?;
            packs.extend(names.iter().filter_map(|name| pack_in(&folder, name)));
        }
        Ok(packs)
    }

    /// Length of a pack; `None`: it is not there.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn pack_bytes(&self, name: PackName) -> Result<Option<u64>, StoreError> {
        Ok(self.fs.stat(&self.layout().pack(name))?.map(|stat| stat.len_bytes))
    }

    fn pack_folders(&self) -> Result<Vec<String>, StoreError> {
        let folders = self.fs.list(&self.layout().packs())?.into_iter();
        let folders = folders.filter(|folder| folder.kind == FileKind::Directory);
        Ok(folders.map(|folder| folder.name).collect())
    }

    /// Names of all points, in no particular order. Files with other names are ignored.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn list_points(&self) -> Result<Vec<PointId>, StoreError> {
        let names = self.fs.names(&self.layout().points())?;
        Ok(names.iter().filter_map(|name| only_form(name)).collect())
    }
}

/// What a file's name says, if it is the one text form of that.
fn only_form<T: FromStr>(name: &str) -> Option<T> {
    name.parse().ok().filter(|_| !name.bytes().any(|byte| byte.is_ascii_uppercase()))
}

/// The pack that a file is, if it is in the folder that it belongs to.
fn pack_in(folder: &str, name: &str) -> Option<PackName> {
    only_form(name).filter(|_| name.get(..2) == Some(folder))
}
