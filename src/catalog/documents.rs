//! Documents of a repository that were there, so that a verification notices which are gone.
//!
//! Invariant: what this host removes on purpose is taken from the table before it goes, and once
//! more after it: a verification beside it may have entered it in between.

use super::objects::digest;
use super::{Catalog, CatalogError};
use crate::point::remove_hold;
use crate::store::{Repository, StoreError};
use crate::units::{CollectionEpoch, Hex, HoldId, PointId};
use rusqlite::params;
use rusqlite::types::Type;

/// A folder of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentFolder {
    /// Pins and locks.
    Holds,
    /// Records of removed points.
    Removed,
    /// Lists of condemned packs.
    Condemned,
}

impl DocumentFolder {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Holds, Self::Removed, Self::Condemned];

    /// Its name, below the repository's folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Removed => "removed",
            Self::Condemned => "condemned",
        }
    }
}

/// A document that was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownDocument {
    /// Where.
    pub folder: DocumentFolder,
    /// Its name.
    pub name: Hex<32>,
    /// The point that a pin or lock keeps.
    pub point: Option<PointId>,
    /// The number of a list of condemned packs.
    pub epoch: Option<CollectionEpoch>,
}

impl Catalog {
    /// The documents that were there.
    ///
    /// # Errors
    /// When the database fails.
    pub fn documents(&self) -> Result<Vec<KnownDocument>, CatalogError> {
        self.database.read(|connection| {
            let mut all = connection.prepare("SELECT folder, name, point, epoch FROM document")?;
            let rows = all.query_map([], |row| {
                let text: String = row.get(0)?;
                let folder = DocumentFolder::ALL.into_iter().find(|it| it.name() == text);
                let folder = folder.ok_or_else(|| {
                    rusqlite::Error::InvalidColumnType(0, text.clone(), Type::Text)
                })?;
                let name = Hex(digest(row, 1)?);
                let point: Option<[u8; 32]> = row.get(2)?;
                let epoch: Option<u64> = row.get(3)?;
                let (point, epoch) = (point.map(PointId), epoch.map(CollectionEpoch));
                Ok(KnownDocument { folder, name, point, epoch })
            })?;
            rows.collect()
        })
    }

    /// Enters documents that are there. Entering one twice changes nothing.
    ///
    /// # Errors
    /// When the database fails.
    pub fn add_documents(&self, documents: &[KnownDocument]) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            let mut insert = transaction
                .prepare_cached("INSERT OR IGNORE INTO document VALUES (?1, ?2, ?3, ?4)")?;
            for KnownDocument { folder, name, point, epoch } in documents {
                let (point, epoch) = (point.as_ref().map(|it| &it.0[..]), epoch.map(|it| it.0));
                insert.execute(params![folder.name(), &name.0[..], point, epoch])?;
            }
            Ok(())
        })
    }

    /// Takes a document from the table.
    ///
    /// # Errors
    /// When the database fails.
    pub fn forget_document(
        &self,
        folder: DocumentFolder,
        name: Hex<32>,
    ) -> Result<(), CatalogError> {
        self.database.write(|transaction| {
            let delete = "DELETE FROM document WHERE folder = ?1 AND name = ?2";
            transaction.execute(delete, params![folder.name(), &name.0[..]]).map(drop)
        })
    }

    /// Removes a pin, or what held a point that is gone, and does not miss it.
    ///
    /// # Errors
    /// When the database fails or the file system refuses. One that is gone already is no error.
    pub fn remove_hold(&self, repository: &Repository, id: HoldId) -> Result<(), StoreError> {
        let name = Hex(id.0);
        self.forget_document(DocumentFolder::Holds, name)?;
        remove_hold(repository, id)?;
        Ok(self.forget_document(DocumentFolder::Holds, name)?)
    }
}
