//! The repository's objects: packs of sealed chunks and tree objects, and the keys to them.

mod codec;
mod condemned;
mod document;
mod error;
mod export;
mod header;
mod inspect;
mod keyring;
mod keys;
mod layout;
mod lease;
mod listing;
mod opening;
mod pack;
mod reader;
mod repository;
mod seal;
mod slots;
mod temporary;
#[cfg(test)]
mod tests;
mod writer;

pub use codec::{Codec, Encoded, Encoding};
pub use condemned::{CondemnedList, CurrentList, Stage};
pub use document::{DOCUMENT_HEADER_BYTES, document_format, open_document, seal_document};
pub use error::{Damage, StoreError};
pub use export::{KeyExport, PutBack, put_back};
pub use header::{Encryption, Header};
pub use inspect::{PackDamage, PackInspector, PackState};
pub use keyring::{
    Doubt, IndexTrust, Keyring, KeyringError, Own, Rotated, Settled, new_key_path, old_key_path,
    rotate_in_place, rotate_to,
};
pub use keys::Keys;
pub use layout::Layout;
pub use lease::Lease;
pub use pack::{Location, ObjectKind, PackEntry, PackKind, PackRecord};
pub use reader::{ObjectIndex, ObjectReader, Wanted};
pub use repository::{InitOptions, Repository};
pub use slots::{
    InvalidLabel, RecoveryKey, RecoveryKeyError, Secret, SecretError, SlotInfo, SlotKind,
    SlotLabel, SlotProblem, check_slots, generate_key_file, list_slots,
};
pub use temporary::WriterSession;
pub use writer::{KnownObjects, PackSink, PackWriter, Put};
