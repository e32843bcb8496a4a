//! New packs are read back before anything may rely on them.

use super::Side;
use crate::progress::Progress;
use crate::store::{Damage, PackRecord, PackSink, PackState, StoreError};

/// Reads each new pack back, all of it, then tells the catalog of it.
pub(super) struct AuditingSink<'a> {
    to: Side<'a>,
    progress: &'a Progress,
}

impl<'a> AuditingSink<'a> {
    pub fn new(to: Side<'a>, progress: &'a Progress) -> Self {
        Self { to, progress }
    }

    /// Reads the pack back and holds it against what was written.
    fn look(&self, record: &PackRecord) -> Result<(), StoreError> {
        let repository = self.to.repository;
        let damaged = |reason: &str| {
            let reason = reason.to_owned();
            Err(StoreError::from(Damage::Pack { pack: record.name, reason }))
        };
        match repository.inspector()?.inspect_medium(record.name)? {
            PackState::Good if repository.read_pack_record(record.name)? == *record => Ok(()),
            PackState::Good => damaged("it reads back otherwise than it was written"),
            PackState::Damaged(damage) => damaged(&damage.reason),
            PackState::Missing => damaged("it is missing"),
        }
    }

    /// The next synchronisation would find the pack and believe it: what lies in it counts as
    /// unknown until a verification has read it and found it good.
    fn distrust(&self, record: &PackRecord) -> Result<(), StoreError> {
        let copies: Vec<_> = record.entries.iter().map(|entry| (entry.name, record.name)).collect();
        self.to.catalog.add_pack(record)?;
        Ok(self.to.catalog.note_damaged(&copies)?)
    }
}

impl PackSink for AuditingSink<'_> {
    fn pack_written(&self, record: &PackRecord) -> Result<(), StoreError> {
        let Some(error) = self.look(record).err() else {
            self.progress.add_stored(record.bytes);
            return self.to.catalog.pack_written(record);
        };
        self.distrust(record)?;
        Err(error)
    }
}
