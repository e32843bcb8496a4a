//! Which installation of afterimage this is.

use crate::fsio::{FileError, RealFileSystem, read_whole, write_new};
use crate::units::{Hex, RunId};
use std::path::{Path, PathBuf};

const FILE: &str = "owner";
const FILE_BYTES_MAX: u64 = 64;

/// The identity of an installation: of one folder of local state. What it leaves on guests and file
/// systems carries it, so that the next run finds what this one could not take away, and leaves
/// alone what belongs to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerId(pub [u8; 16]);

/// Why the identity of this installation is not known.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// Its file cannot be read or made.
    #[error("the identity of this installation: {0}; check the state folder, then run this again")]
    File(#[from] FileError),
    /// Its file holds something else.
    #[error("{} does not hold the identity of this installation; restore it, or remove it: then \
        what afterimage left elsewhere is not known as its own any more", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A new one could not be made.
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[source] std::io::Error),
}

impl OwnerId {
    /// The identity of the installation whose state is in `state_dir`; it is made when there is
    /// none, and durable when this returns.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn of(state_dir: &Path) -> Result<Self, OwnerError> {
        let (fs, path) = (RealFileSystem::shared(), state_dir.join(FILE));
        match Self::read(&path) {
            Err(OwnerError::File(error)) if error.not_found() => {}
            other => return other,
        }
        fs.create_dir_all(state_dir)?;
        let new = RunId::random().map_err(OwnerError::Random)?;
        let temporary = state_dir.join(format!("{FILE}.{new}"));
        match write_new(&fs, temporary, &path, new.to_string().as_bytes()) {
            // Another process was faster.
            Err(error) if !error.already_exists() => Err(error.into()),
            _ => Self::read(&path),
        }
    }

    fn read(path: &Path) -> Result<Self, OwnerError> {
        let bytes = read_whole(&RealFileSystem, path, FILE_BYTES_MAX)?;
        let text = std::str::from_utf8(&bytes).ok();
        let id = text.and_then(|text| text.trim_ascii().parse::<Hex<16>>().ok());
        id.map(|id| Self(id.0)).ok_or_else(|| OwnerError::Damaged { path: path.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_stays_the_same_and_differs_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let owner = OwnerId::of(&state).unwrap();
        assert_eq!(OwnerId::of(&state).unwrap(), owner);
        assert_ne!(OwnerId::of(folder.path()).unwrap(), owner);
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), 1);
        std::fs::write(state.join(FILE), "something else").unwrap();
        let damaged = OwnerId::of(&state).unwrap_err();
        assert!(matches!(damaged, OwnerError::Damaged { .. }), "{damaged}");
    }
}
