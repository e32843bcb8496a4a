//! The index of key slots: which slots there are, so that one that was removed, added, changed or
//! swapped is told; and the change that is being made, so that one that was cut off is finished.
//!
//! Invariant: opening a repository never depends on it. A good slot opens.

use crate::fsio::{self, FileSystem};
use crate::store::{Keys, Layout, StoreError, WriterSession};
use crate::units::{Hex, RepositoryId, SlotId, readable};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

const INDEX_FORMAT: u64 = 1;
const INDEX_BYTES_MAX: u64 = 64 * 1024;

/// The digest of a slot's file.
pub(in crate::store) fn digest(text: &[u8]) -> Hex<32> {
    Hex(Sha256::digest(text).into())
}

/// A change of slots that was begun. While it stands in the index, it tells its own traces from
/// those of anybody else.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct Change {
    /// Slots that are being added, with the digests of their files.
    pub adding: BTreeMap<SlotId, Hex<32>>,
    /// Slots that are being removed.
    pub removing: BTreeSet<SlotId>,
    /// Whether the new key takes the place of the old one in the key file of the settings, by way
    /// of files beside it.
    pub in_place: bool,
}

impl Change {
    /// Whether one key takes the place of another.
    pub fn is_rotation(&self) -> bool {
        !self.adding.is_empty() && !self.removing.is_empty()
    }

    /// In words, for messages.
    pub fn describe(&self) -> &'static str {
        match (self.adding.is_empty(), self.removing.is_empty()) {
            (false, false) => "a rotation",
            (false, true) => "the adding of a slot",
            (true, _) => "the removal of a slot",
        }
    }
}

/// The content of the index. The field order is the order that the MAC covers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct Index {
    format: u64,
    repository: RepositoryId,
    /// The slots, with the digests of their files.
    pub slots: BTreeMap<SlotId, Hex<32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    index: Index,
    mac: Hex<32>,
}

impl Sealed {
    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

/// What can be read of an index of any format.
#[derive(serde::Deserialize)]
struct Any {
    index: AnyIndex,
}

#[derive(serde::Deserialize)]
struct AnyIndex {
    format: u64,
}

impl Index {
    pub fn new(repository: RepositoryId, slots: BTreeMap<SlotId, Hex<32>>) -> Self {
        Self { format: INDEX_FORMAT, repository, slots, change: None }
    }

    fn mac(&self, keys: &Keys) -> Result<[u8; 32], serde_json::Error> {
        Ok(keys.slot_index_mac(&serde_json::to_vec(self)?))
    }

    pub fn encode(&self, keys: &Keys) -> Result<Vec<u8>, serde_json::Error> {
        Sealed { index: self.clone(), mac: Hex(self.mac(keys)?) }.encode()
    }

    /// Writes it in the place of the one before, durably.
    pub fn store(&self, session: &WriterSession, keys: &Keys) -> Result<(), StoreError> {
        // It holds nothing that could fail to be written as JSON.
        let text = self.encode(keys).map_err(|_| StoreError::MemoryFault)?;
        let file = session.create()?;
        file.handle().write_all_at(&text, 0)?;
        Ok(file.publish_replacing(&session.layout().slot_index())?)
    }

    /// Reads an index; without keys its code is not checked.
    pub fn decode(text: &[u8], keys: Option<&Keys>) -> Result<Self, String> {
        let any: Any = serde_json::from_slice(text).map_err(readable)?;
        if any.index.format != INDEX_FORMAT {
            let found = any.index.format;
            return Err(format!(
                "it has format {found}, this version of afterimage reads {INDEX_FORMAT}"
            ));
        }
        let sealed: Sealed = serde_json::from_slice(text).map_err(readable)?;
        // What it says may be the same with other white space. It was damaged all the same.
        if sealed.encode().map_err(|e| e.to_string())? != text {
            return Err("its bytes are not those that were written".to_owned());
        }
        let Sealed { index, mac } = sealed;
        if let Some(keys) = keys {
            if index.repository != keys.repository() {
                return Err("it belongs to another repository".to_owned());
            }
            // As for the header: who can change the file learns nothing from the time this takes.
            if index.mac(keys).map_err(|e| e.to_string())? != mac.0 {
                return Err("its content does not match its authentication code".to_owned());
            }
        }
        Ok(index)
    }
}

/// The index as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) enum IndexState {
    /// There is none: the repository was made before there were any, or it was lost.
    Missing,
    /// It cannot be believed.
    Damaged(String),
    /// As far as the keys that were there can tell.
    Good(Index),
}

pub(in crate::store) fn read_index(
    fs: &dyn FileSystem,
    layout: &Layout,
    keys: Option<&Keys>,
) -> Result<IndexState, StoreError> {
    let path = layout.slot_index();
    if fs.stat(&path)?.is_none() {
        return Ok(IndexState::Missing);
    }
    Ok(match fsio::read_whole(fs, &path, INDEX_BYTES_MAX) {
        Err(error) => IndexState::Damaged(error.to_string()),
        Ok(text) => match Index::decode(&text, keys) {
            Ok(index) => IndexState::Good(index),
            Err(reason) => IndexState::Damaged(reason),
        },
    })
}
