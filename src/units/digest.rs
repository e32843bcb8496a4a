//! 32-byte names. Each kind is a type of its own, so that none is taken for another.

use super::hex::hex_text;
use std::fmt;

/// Length of every content name, in bytes.
pub const DIGEST_BYTES: usize = 32;

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; DIGEST_BYTES]);

        impl $name {
            /// The first twelve hexadecimal digits: what people are shown and may type.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        hex_text!($name);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }
    };
}

digest_type!(
    /// Name of a chunk of disk content: SHA-256 of it, or HMAC-SHA-256 under the
    /// repository's secret naming key.
    ChunkName
);
digest_type!(
    /// Name of a leaf or node of a disk's tree, from its encoded bytes.
    TreeName
);
digest_type!(
    /// Name of a pack: SHA-256 of the file's bytes, so that no key is needed to check it.
    PackName
);
digest_type!(
    /// Name of a recovery point: SHA-256 of its manifest file's bytes.
    PointId
);
digest_type!(
    /// Name of a pin or lock of a point: SHA-256 of its file's bytes.
    HoldId
);
digest_type!(
    /// Name of a record of removed points: SHA-256 of its file's bytes.
    RemovalId
);
digest_type!(
    /// Name of anything that lies in a pack: a chunk, a leaf or a node.
    ObjectName
);
digest_type!(
    /// Name of a list of condemned packs: SHA-256 of its file's bytes.
    ListId
);
digest_type!(
    /// Name of a replica's redo journal: SHA-256 of the file's bytes before its own footer.
    JournalDigest
);
digest_type!(
    /// Name of what a settings file says: SHA-256 of its bytes.
    SettingsDigest
);

impl From<ChunkName> for ObjectName {
    fn from(name: ChunkName) -> Self {
        Self(name.0)
    }
}

impl From<TreeName> for ObjectName {
    fn from(name: TreeName) -> Self {
        Self(name.0)
    }
}
