//! 32-byte names. Each kind is a type of its own, so that none is taken for another.

use std::fmt;
use std::str::FromStr;

/// Length of every content name, in bytes.
pub const DIGEST_BYTES: usize = 32;

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a name of 64 hexadecimal digits")]
pub struct ParseDigestError {
    text: String,
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// Decodes exactly `N` bytes of hexadecimal text.
pub(super) fn decode_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_digit(pair[0])? << 4 | hex_digit(pair[1])?;
    }
    Some(bytes)
}

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

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                decode_hex(text)
                    .map(Self)
                    .ok_or_else(|| ParseDigestError { text: text.to_owned() })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
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
    /// Name of anything that lies in a pack: a chunk, a leaf or a node.
    ObjectName
);
digest_type!(
    /// Name of a replica's redo journal: SHA-256 of the file's bytes before its own footer.
    JournalDigest
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_their_text_form() {
        let name = PackName(std::array::from_fn(|index| index as u8 * 7));
        assert_eq!(name.to_string().parse::<PackName>(), Ok(name));
        assert!("zz".repeat(32).parse::<PackName>().is_err());
        assert!("ab".repeat(31).parse::<PackName>().is_err());
    }
}
