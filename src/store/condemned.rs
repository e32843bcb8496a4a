//! The list of packs that are about to be removed; see `docs/locking.md` for the protocol.
//!
//! Invariants: lists are immutable and named by the hash of their file; of several, the one with
//! the highest epoch counts; an epoch's number never comes again, because the last list stays,
//! however empty it is.

use super::{Damage, Repository, StoreError, WriterSession, open_document, seal_document};
use crate::fsio::{self, FileKind};
use crate::units::{CollectionEpoch, ListId, PackName, RunId, readable};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

const MAGIC: &[u8; 8] = b"AICONDM\0";
const FORMAT: u32 = 1;
/// Room for a million packs.
const LIST_BYTES_MAX: u64 = 80 * 1024 * 1024;

/// How far the removal of packs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Nothing is about to be removed.
    Idle,
    /// No new point may refer to the packs; whether an older writer still does is not yet known.
    Condemned,
    /// Marks were made anew after all older writers had ended: nothing refers to the packs.
    Confirmed,
}

/// The packs that are about to be removed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CondemnedList {
    /// Its number: each list has one more than the list before.
    pub epoch: CollectionEpoch,
    /// How far their removal is.
    pub stage: Stage,
    /// The packs; none when the stage is idle.
    pub packs: BTreeSet<PackName>,
    /// When it was made. For people: no decision depends on it.
    pub time: jiff::Timestamp,
    /// The run that made it.
    pub run: RunId,
    /// The host that made it.
    pub host: String,
}

/// Which list counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CurrentList {
    /// Its name; `None` before the first one.
    pub id: Option<ListId>,
    /// Its content.
    pub list: Option<CondemnedList>,
    /// Names of lists that it replaces.
    pub older: Vec<ListId>,
}

impl CurrentList {
    /// Its number; 0 before the first one.
    pub fn epoch(&self) -> CollectionEpoch {
        self.list.as_ref().map_or(CollectionEpoch(0), |list| list.epoch)
    }

    /// How far the removal is.
    pub fn stage(&self) -> Stage {
        self.list.as_ref().map_or(Stage::Idle, |list| list.stage)
    }

    /// The packs that are about to be removed.
    pub fn packs(&self) -> BTreeSet<PackName> {
        self.list.as_ref().map(|list| list.packs.clone()).unwrap_or_default()
    }
}

impl Repository {
    /// The list of condemned packs that counts.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when any list cannot be read: it may be the one that counts.
    pub fn condemned(&self) -> Result<CurrentList, StoreError> {
        for _ in 0..LIST_TRIES {
            if let Some(current) = self.try_condemned()? {
                return Ok(current);
            }
        }
        Err(unreadable("", "it changes all the time".to_owned()).into())
    }

    /// `None` when a list was replaced while it was read.
    fn try_condemned(&self) -> Result<Option<CurrentList>, StoreError> {
        let mut current = CurrentList::default();
        for id in self.list_condemned()? {
            let list = match self.load_condemned(id) {
                Ok(Some(list)) => list,
                Ok(None) => return Ok(None),
                Err(error) => return Err(error),
            };
            let is_newer =
                current.id.is_none() || (list.epoch, Some(id)) > (current.epoch(), current.id);
            let other = if is_newer { current.id.replace(id) } else { Some(id) };
            current.older.extend(other);
            if is_newer {
                current.list = Some(list);
            }
        }
        Ok(Some(current))
    }

    fn list_condemned(&self) -> Result<Vec<ListId>, StoreError> {
        let entries = match self.file_system().list(&self.layout().condemned()) {
            Err(error) if error.not_found() => return Ok(Vec::new()),
            listed => listed?,
        };
        let id = |name: &str| name.parse().ok().filter(|id: &ListId| id.to_string() == name);
        let files = entries.iter().filter(|entry| entry.kind == FileKind::File);
        Ok(files.filter_map(|entry| id(&entry.name)).collect())
    }

    /// `None` when it is gone.
    fn load_condemned(&self, id: ListId) -> Result<Option<CondemnedList>, StoreError> {
        let damaged = |reason: String| StoreError::from(unreadable(&id.short(), reason));
        let path = self.layout().condemned().join(id.to_string());
        let mut bytes = match fsio::read_whole(self.file_system().as_ref(), &path, LIST_BYTES_MAX) {
            Err(error) if error.not_found() => return Ok(None),
            read => read?,
        };
        if ListId(Sha256::digest(&bytes).into()) != id {
            return Err(damaged("its content does not match its name".to_owned()));
        }
        let json = open_document(self.keys(), MAGIC, FORMAT, &mut bytes).map_err(damaged)?;
        let list: CondemnedList = serde_json::from_slice(json).map_err(|e| damaged(readable(e)))?;
        if list.stage == Stage::Idle && !list.packs.is_empty() {
            return Err(damaged("it is idle, and yet it names packs".to_owned()));
        }
        Ok(Some(list))
    }

    /// Makes `list` the one that counts, and removes those that it replaces.
    ///
    /// # Errors
    /// When it cannot be written. After an error it may count or not: read it again.
    pub fn publish_condemned(
        &self,
        session: &WriterSession,
        list: &CondemnedList,
        replaces: &CurrentList,
    ) -> Result<(), StoreError> {
        let json = serde_json::to_vec(list).map_err(|_| StoreError::MemoryFault)?;
        let bytes = seal_document(self.keys(), MAGIC, FORMAT, &json)?;
        let id = ListId(Sha256::digest(&bytes).into());
        let mut copy = bytes.clone();
        let same =
            open_document(self.keys(), MAGIC, FORMAT, &mut copy).is_ok_and(|body| body == json);
        if !same {
            return Err(StoreError::MemoryFault);
        }
        let folder = self.layout().condemned();
        self.file_system().create_dir_all(&folder)?;
        let file = session.create()?;
        file.handle().write_all_at(&bytes, 0)?;
        file.publish(&folder.join(id.to_string()))?;
        // One that stays, or comes back after a power cut, has a lower epoch and counts for nothing.
        for old in replaces.id.iter().chain(&replaces.older) {
            match self.file_system().remove_file(&folder.join(old.to_string())) {
                Err(error) if !error.not_found() => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn unreadable(name: &str, reason: String) -> Damage {
    Damage::Document { kind: "list of condemned packs", name: name.to_owned(), reason }
}

/// How often a list that is replaced meanwhile is looked for again.
const LIST_TRIES: u32 = 100;
