//! The repository's objects: packs of sealed chunks and tree objects, and the keys to them.

mod audit;
mod codec;
mod condemned;
mod document;
mod error;
mod header;
mod inspect;
mod keys;
mod layout;
mod lease;
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

pub use audit::PackAudit;
pub use codec::{Codec, Encoded, Encoding};
pub use condemned::{CondemnedList, CurrentList, Stage};
pub use document::{DOCUMENT_HEADER_BYTES, open_document, seal_document};
pub use error::{Damage, StoreError};
pub use header::{Encryption, Header};
pub use inspect::{PackDamage, PackInspector, PackState};
pub use keys::Keys;
pub use layout::Layout;
pub use lease::Lease;
pub use pack::{Location, ObjectKind, PackEntry, PackKind, PackRecord};
pub use reader::{ObjectIndex, ObjectReader, Wanted};
pub use repository::{InitOptions, Repository};
pub use slots::{Secret, SecretError, generate_key_file};
pub use temporary::WriterSession;
pub use writer::{KnownObjects, PackSink, PackWriter, Put};
