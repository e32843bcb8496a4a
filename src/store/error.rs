//! What can go wrong with a repository.

use crate::chunk::InvalidParameters;
use crate::fsio::{FileError, LockError};
use crate::units::{ObjectName, PackName, PointId, format_count};
use std::path::PathBuf;

/// A repository could not be used, or part of it is damaged.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another process is in the way.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// There is no repository.
    #[error("there is no repository in {}; create it with `afterimage init`", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is the rest of a repository, without its header.
    #[error(
        "the header of the repository in {} is lost: repository.json is missing; bring it back from \
         an export with `afterimage key recover --from`, or from a copy of the repository",
        path.display()
    )]
    HeaderLost {
        /// Where.
        path: PathBuf,
    },
    /// There is one already.
    #[error("{} already holds a repository; nothing was changed", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// The folder holds something else.
    #[error("{} is not empty and holds no repository; give an empty or new folder", path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// Written by a later version of this program.
    #[error(
        "the repository in {} has format {found}, this version of afterimage reads up to {known}; \
         use a newer afterimage", path.display()
    )]
    NewerFormat {
        /// Where.
        path: PathBuf,
        /// The format found.
        found: u64,
        /// The newest format known here.
        known: u64,
    },
    /// The header cannot be trusted.
    #[error("the header {} is damaged: {reason}; bring it back from an export with \
        `afterimage key recover --from`, or from a copy of the repository", path.display())]
    Header {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The header's numbers make no sense.
    #[error(transparent)]
    Parameters(#[from] InvalidParameters),
    /// The repository is encrypted, the settings say it is not, or the other way round.
    #[error("the repository in {} is {found}, but the settings say `encryption = {configured}`",
        path.display())]
    EncryptionDiffers {
        /// Where.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What the settings say.
        configured: &'static str,
    },
    /// No slot opens with the key given.
    #[error(
        "the {given} does not open the repository in {} (tried {}); check \
         `encryption` in the settings, or open it with its recovery key: `afterimage key recover`",
        path.display(), format_count(*tried as u64, "key slot")
    )]
    WrongKey {
        /// Where.
        path: PathBuf,
        /// Which kind of key was given.
        given: &'static str,
        /// How many slots of that kind there were.
        tried: usize,
    },
    /// The key's file is missing or unfit.
    #[error(transparent)]
    Secret(#[from] super::SecretError),
    /// Its keys cannot be changed so.
    #[error(transparent)]
    Keyring(#[from] super::KeyringError),
    /// Part of the repository is damaged.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// Something that must exist in a pack is known nowhere.
    #[error(
        "the repository holds no pack with the object {}; a pack was lost: bring it back from a \
         copy of the repository, or back the machine up again", name.short()
    )]
    Unknown {
        /// The object.
        name: ObjectName,
    },
    /// The index says of an object what cannot be.
    #[error(
        "the catalog places the object {} where nothing can be: it is damaged; build it anew with \
         `afterimage catalog rebuild`", name.short()
    )]
    Misplaced {
        /// The object.
        name: ObjectName,
    },
    /// The index of objects failed.
    #[error("the catalog failed: {0}")]
    Index(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The content that was compressed or sealed did not come back as it was.
    #[error(
        "a chunk changed while it was compressed and sealed, so nothing of it was kept: this \
         machine's memory or processor is failing; test the memory before the next backup"
    )]
    MemoryFault,
    /// The operating system gave no random numbers.
    #[error("the system's random source failed: {0}")]
    Random(#[source] std::io::Error),
}

/// A damaged or missing part of a repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A pack is not what its name says, or not there.
    #[error("pack {} is damaged: {reason}", pack.short())]
    Pack {
        /// The pack.
        pack: PackName,
        /// What is wrong.
        reason: String,
    },
    /// An object within a pack does not decode to its name.
    #[error("object {} in pack {} is damaged: {reason}", object.short(), pack.short())]
    Object {
        /// The pack.
        pack: PackName,
        /// The object.
        object: ObjectName,
        /// What is wrong.
        reason: &'static str,
    },
    /// A point's manifest is not what its name says.
    #[error("the manifest of point {} is damaged: {reason}", point.short())]
    Manifest {
        /// The point.
        point: PointId,
        /// What is wrong.
        reason: String,
    },
    /// A small file of the repository is not what its name says.
    #[error("the {kind} {name} is damaged: {reason}; set it apart with `afterimage repair`")]
    Document {
        /// What it is.
        kind: &'static str,
        /// The first digits of its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A leaf or node decodes, but does not fit where it stands.
    #[error("tree object {} does not fit its place: {reason}", object.short())]
    Tree {
        /// The object.
        object: ObjectName,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Damage {
    /// The damaged pack, where there is one.
    pub fn pack(&self) -> Option<PackName> {
        match self {
            Self::Pack { pack, .. } | Self::Object { pack, .. } => Some(*pack),
            Self::Manifest { .. } | Self::Document { .. } | Self::Tree { .. } => None,
        }
    }
}

impl StoreError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::File(error) => error.is_permanent(),
            Self::Lock(LockError::Busy { .. }) => false,
            _ => true,
        }
    }
}
