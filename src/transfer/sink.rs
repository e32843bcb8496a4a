//! New packs are read back before anything may rely on them.

use super::Side;
use crate::progress::Progress;
use crate::store::{Damage, PackRecord, PackSink, StoreError};

/// Reads each new pack back, all of it, then tells the catalog of it.
pub(super) struct AuditingSink<'a> {
    to: Side<'a>,
    progress: &'a Progress,
}

impl<'a> AuditingSink<'a> {
    pub fn new(to: Side<'a>, progress: &'a Progress) -> Self {
        Self { to, progress }
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
        let error = match self.to.repository.audit_pack(record.name) {
            Ok(audit) => match audit.damages.into_iter().next() {
                None if audit.record == *record => {
                    self.progress.add_stored(record.bytes);
                    return self.to.catalog.pack_written(record);
                }
                None => {
                    let reason = "it reads back otherwise than it was written".to_owned();
                    StoreError::from(Damage::Pack { pack: record.name, reason })
                }
                Some(damage) => damage.into(),
            },
            Err(error) => error,
        };
        self.distrust(record)?;
        Err(error)
    }
}
