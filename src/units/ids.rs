//! Random identifiers of 128 bits.

use super::digest::decode_hex;
use std::fmt;
use std::str::FromStr;

/// A text that is not 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not an identifier of 32 hexadecimal digits")]
pub struct ParseIdError {
    text: String,
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// A new identifier from the operating system's random source.
            ///
            /// # Errors
            /// When that source does not answer.
            pub fn random() -> std::io::Result<Self> {
                let mut bytes = [0; 16];
                getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                decode_hex(text)
                    .map(Self)
                    .ok_or_else(|| ParseIdError { text: text.to_owned() })
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

random_id!(
    /// Identity of a repository, given when it is created and never changed.
    RepositoryId
);
random_id!(
    /// Identity of one run: one execution of backup, replicate, restore or verify.
    RunId
);
random_id!(
    /// Identity of a key slot.
    SlotId
);

random_id!(
    /// Identity of a machine, given with its first point and kept by all later ones.
    MachineId
);
random_id!(
    /// Identity of a disk of a machine, given when it first appears.
    DiskId
);
random_id!(
    /// Identity of a replica, given when it is first seeded and never changed.
    ReplicaId
);
