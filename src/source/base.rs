//! What a capture of a disk leaves for a later one to build upon.

use super::{CloneIdentity, FileIdentity};
use crate::units::Name;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// By what it can be told later where a disk changed since it was captured.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DiskBase {
    /// The files that it was read from, in the order of its chain: while nobody writes to them,
    /// nothing changed.
    Files {
        /// By what they are known again.
        files: Vec<FileIdentity>,
    },
    /// A dirty bitmap that QEMU keeps from that instant on.
    Bitmap {
        /// Its name.
        name: String,
        /// The block node that it belongs to.
        node: String,
        /// Bytes that one bit stands for.
        granularity_bytes: u64,
        /// Size of the disk then, in bytes.
        size_bytes: u64,
    },
    /// A checkpoint that libvirt keeps.
    Checkpoint {
        /// Its name.
        name: String,
        /// UUID of its domain.
        domain: String,
        /// The disk's target there, such as `vda`.
        target: String,
        /// Size of the disk then, in bytes.
        size_bytes: u64,
    },
    /// A clone of the image, which shares its blocks.
    Clone {
        /// Where it lies.
        path: PathBuf,
        /// By what it is known again.
        identity: CloneIdentity,
    },
    /// A snapshot that the user's commands made, and keep.
    Snapshot {
        /// What they know it by.
        token: String,
    },
}

impl DiskBase {
    /// Reads what was noted; `None` for what this program does not know.
    pub fn from_json(noted: serde_json::Value) -> Option<Self> {
        match noted {
            // As it was noted when only files were known again.
            serde_json::Value::Array(_) => {
                Some(Self::Files { files: serde_json::from_value(noted).ok()? })
            }
            _ => serde_json::from_value(noted).ok(),
        }
    }

    /// Whether it still counts after the system was booted anew. A power cut can take back the
    /// time of a write to a file, and keep what was written.
    pub fn outlives_boot(&self) -> bool {
        !matches!(self, Self::Files { .. })
    }
}

/// Reads what was noted of several disks: nothing is known of a disk whose base this program does
/// not know.
///
/// # Errors
/// When it is no map of disks.
pub fn known_bases<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<Name, DiskBase>, D::Error> {
    let noted = BTreeMap::<Name, serde_json::Value>::deserialize(deserializer)?;
    let known = |(disk, base)| Some((disk, DiskBase::from_json(base)?));
    Ok(noted.into_iter().filter_map(known).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_and_what_is_unknown_is_nothing() {
        let file = r#"{"device":1,"inode":2,"len_bytes":3,"mtime_ns":4,"ctime_ns":5}"#;
        let read = |text: &str| DiskBase::from_json(serde_json::from_str(text).unwrap());
        let files = read(&format!("[{file}]")).unwrap();
        assert!(matches!(&files, DiskBase::Files { files } if files.len() == 1));
        let again = DiskBase::from_json(serde_json::to_value(&files).unwrap());
        assert_eq!(again, Some(files));
        assert!(read(r#"{"kind":"snapshot","token":"a"}"#).is_some());
        for unknown in [r#"{"kind":"moon","token":"a"}"#, r#"{"kind":"snapshot"}"#, "7", "[7]"] {
            assert_eq!(read(unknown), None, "{unknown}");
        }
    }
}
