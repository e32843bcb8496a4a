//! Random identifiers of 128 bits.

use super::hex::hex_text;
use std::fmt;

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
                super::random::fill_random(&mut bytes)?;
                Ok(Self(bytes))
            }

            /// The first twelve hexadecimal digits: what people are shown and may type.
            pub fn short(&self) -> String {
                self.to_string()[..12].to_owned()
            }
        }

        hex_text!($name);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
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
    /// Identity of a notification, the same for all who are told and all attempts to tell them.
    NotificationId
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
