//! Where the scratch files and the socket of a capture lie.

use super::domain::{Domain, DomainDisk};
use super::error::LibvirtError;
use super::names::{Capture, file_prefix, frozen};
use crate::capture::QemuMark;
use std::collections::BTreeSet;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

/// Where the system's libvirt keeps a folder for each running domain, which its QEMU may write to,
/// also where a security module watches it.
const DOMAIN_FOLDERS: &str = "/var/lib/libvirt/qemu";
const SYSTEM_URI: &str = "qemu:///system";
/// The socket, in a folder of ours.
const SOCKET: &str = "nbd";

/// The folder of a disk's scratch file.
pub(super) fn scratch_folder(
    disk: &DomainDisk,
    chosen: Option<&Path>,
) -> Result<PathBuf, LibvirtError> {
    let beside = || disk.path.parent().filter(|_| !disk.is_device);
    chosen.or_else(beside).map(Path::to_owned).ok_or_else(|| LibvirtError::NoScratch {
        disk: disk.name.to_string(),
        path: disk.path.clone(),
    })
}

/// The folder that libvirt made for a running domain.
pub(super) fn domain_folder(uri: &str, domain: &Domain) -> Option<PathBuf> {
    let id = domain.id.filter(|_| uri == SYSTEM_URI)?;
    let prefix = format!("domain-{id}-");
    let mut entries = std::fs::read_dir(DOMAIN_FOLDERS).ok()?.flatten();
    let found = entries.find(|it| it.file_name().to_string_lossy().starts_with(&prefix))?;
    Some(found.path()).filter(|it| it.is_dir())
}

/// Where the socket lies, until this is dropped.
#[derive(Debug)]
pub(super) struct SocketPlace {
    pub socket: PathBuf,
    /// A folder that only QEMU's user can enter.
    own: Option<PathBuf>,
}

impl SocketPlace {
    /// In libvirt's folder for the domain, which nobody else enters, or in a new folder in `other`.
    pub fn make(
        capture: &Capture,
        domain: &Domain,
        libvirts: Option<&Path>,
        other: &Path,
    ) -> Result<Self, LibvirtError> {
        if let Some(folder) = libvirts {
            return Ok(Self { socket: folder.join(capture.socket()), own: None });
        }
        let folder = other.join(capture.socket());
        let system =
            |source| LibvirtError::System { action: "make a folder for the socket", source };
        std::fs::DirBuilder::new().mode(0o700).create(&folder).map_err(system)?;
        let place = Self { socket: folder.join(SOCKET), own: Some(folder.clone()) };
        if let Some((user, group)) = domain.owner {
            // Where this user may not, QEMU is this user's too, or it says that it cannot write.
            if let Err(error) = chown(&folder, Some(user), Some(group)) {
                tracing::debug!(%error, folder = %folder.display(), "not given to QEMU's user");
            }
        }
        Ok(place)
    }
}

impl Drop for SocketPlace {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        let _ = std::fs::remove_file(&self.socket);
        if let Some(folder) = &self.own {
            let _ = std::fs::remove_dir(folder);
        }
    }
}

/// Removes the files of an owner, none of which is in use any more. Gives back what stays, in words.
pub(super) fn remove_files(mark: &QemuMark, folders: &BTreeSet<PathBuf>) -> Vec<String> {
    let (prefix, frozen) = (file_prefix(mark), frozen(mark));
    let mut left = Vec::new();
    for folder in folders {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries.flatten(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                left.push(format!("{}: {error}", folder.display()));
                continue;
            }
        };
        let ours = entries.filter(|entry| {
            let name = entry.file_name();
            name.to_str().is_some_and(|name| name.starts_with(&prefix) && name != frozen)
        });
        for entry in ours {
            if let Err(error) = remove(&entry.path()) {
                left.push(format!("{}: {error}", entry.path().display()));
            }
        }
    }
    left
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.symlink_metadata().is_ok_and(|it| it.is_dir()) {
        if let Err(error) = std::fs::remove_file(path.join(SOCKET))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error);
        }
        return std::fs::remove_dir(path);
    }
    match std::fs::remove_file(path) {
        // libvirt was faster.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::libvirt::names::tests::mark;

    #[test]
    fn only_what_carries_the_mark_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let xml = "<domain><uuid>1</uuid></domain>";
        let domain = Domain::parse(xml).unwrap();
        let (ours, others) = (Capture::new(mark(1)).unwrap(), Capture::new(mark(2)).unwrap());
        let place = SocketPlace::make(&ours, &domain, None, folder.path()).unwrap();
        std::fs::write(&place.socket, "").unwrap();
        // As a process that is killed leaves it.
        std::mem::forget(place);
        for name in [ours.scratch("vda"), others.scratch("vda"), frozen(&mark(1))] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let folders = BTreeSet::from([folder.path().to_owned(), folder.path().join("missing")]);
        assert_eq!(remove_files(&mark(1), &folders), Vec::<String>::new());
        let names = std::fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name());
        let mut names: Vec<_> = names.map(|it| it.into_string().unwrap()).collect();
        names.sort();
        let mut expected = [others.scratch("vda"), frozen(&mark(1))];
        expected.sort();
        assert_eq!(names, expected);
    }
}
