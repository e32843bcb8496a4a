//! Whether the catalog has lost anything that it knew: packs, or its reliance on what lies in them.
//!
//! Invariant: after everything by which an object that could be relied on may no longer be, the
//! mark is another one, and never one that it was before.

use super::{Catalog, CatalogError};
use rusqlite::Transaction;

pub(super) const MIGRATION: &str =
    "ALTER TABLE repository ADD COLUMN loss_mark INTEGER NOT NULL DEFAULT 0;";

/// Something can no longer be relied on. The mark is drawn by lot: a number that only rises would
/// come again after a power cut had taken it back.
pub(super) fn mark_loss(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute("UPDATE repository SET loss_mark = random()", []).map(drop)
}

impl Catalog {
    /// A mark that is another one after each loss. While it stays the same, everything that a
    /// point refers to can be relied on as it could before.
    ///
    /// # Errors
    /// When the database fails.
    pub fn loss_mark(&self) -> Result<i64, CatalogError> {
        self.database.read(|connection| {
            connection.query_row("SELECT loss_mark FROM repository", [], |row| row.get(0))
        })
    }
}
