//! A replica under its lock: what a crash left is finished or swept before anything else.

use super::ReplayError;
use crate::destination::{
    DiskRecord, JournalReader, ReplicaHome, ReplicaRecord, State, Superblock, Target, TargetAccess,
    TargetError, TargetIdentity, TargetKind, apply,
};
use crate::fsio::{FileLock, FileSystem, LockHolder, LockMode};
use crate::store::Damage;
use crate::units::{Breakage, Name, is_broken};
use std::path::PathBuf;
use std::sync::Arc;

/// Where a disk of a replica is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// The disk.
    pub disk: Name,
    /// Its target.
    pub path: PathBuf,
    /// What the target is.
    pub kind: TargetKind,
}

/// The right to work on a replica.
#[derive(Debug)]
pub struct ReplicaSession {
    pub(super) fs: Arc<dyn FileSystem>,
    pub(super) home: ReplicaHome,
    pub(super) replica: Name,
    pub(super) superblock: Option<Superblock>,
    /// Whether a journal that a crash had left was redone.
    pub redone: bool,
    /// Why such a journal cannot be redone, now or ever: it is damaged, or a target is gone. The
    /// images then hold no point, until a replication has compared and repaired them.
    pub unfinished: Option<String>,
    /// Damage that a replication met in the repository; it did not stop it.
    pub damages: Vec<Damage>,
    _lock: FileLock,
}

impl ReplicaSession {
    /// Takes the replica's lock and, if a crash interrupted an update, finishes it on `targets`:
    /// the replica is then at exactly one point again. The repository is not needed for that.
    ///
    /// # Errors
    /// Busy when another process has it. When a file fails while the journal is redone, the
    /// replica stays as it is, and the next session tries again.
    pub fn open(
        fs: &Arc<dyn FileSystem>,
        home: ReplicaHome,
        replica: &Name,
        targets: &[TargetSpec],
    ) -> Result<Self, ReplayError> {
        fs.create_dir_all(home.folder())?;
        let holder = LockHolder::this_process(format!("work on replica {replica}"));
        let lock = FileLock::try_take(fs.as_ref(), &home.lock(), LockMode::Exclusive, &holder)?;
        home.sweep(fs.as_ref())?;
        let superblock = match fs.stat(&home.superblock())? {
            None => None,
            Some(_) => Some(Superblock::open(fs.as_ref(), &home.superblock(), replica)?),
        };
        let (fs, replica) = (Arc::clone(fs), replica.clone());
        let (redone, unfinished) = (false, None);
        let damages = Vec::new();
        let mut session =
            Self { fs, home, replica, superblock, redone, unfinished, damages, _lock: lock };
        session.finish_interrupted(targets)?;
        Ok(session)
    }

    /// What the superblock says; `None` for a replica that was never seeded.
    pub fn record(&self) -> Option<&ReplicaRecord> {
        self.superblock.as_ref().map(Superblock::current)
    }

    fn finish_interrupted(&mut self, targets: &[TargetSpec]) -> Result<(), ReplayError> {
        let applying = |record: &ReplicaRecord| matches!(record.state, State::Applying { .. });
        if !self.record().is_some_and(applying) {
            // A journal that no superblock names was never committed.
            return Ok(self.home.discard_journal(self.fs.as_ref())?);
        }
        match self.open_staged_for(targets).and_then(|targets| self.redo(&targets)) {
            Ok(_) => self.redone = true,
            Err(error) if error.cannot_be_redone() => self.unfinished = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The targets that the journal was staged for.
    fn open_staged_for(&self, specs: &[TargetSpec]) -> Result<Vec<Target>, ReplayError> {
        let disks = self.record().map_or(&[][..], |record| &record.disks);
        let open = |disk: &DiskRecord| match open_configured(self.fs.as_ref(), disk, specs)? {
            // The times are those of the interrupted writes; but it must be the same place.
            Some((target, now)) if disk.is_at(&now) => Ok(target),
            _ => Err(ReplayError::TargetReplaced { disk: disk.name.clone() }),
        };
        disks.iter().map(open).collect()
    }

    /// Redoes the journal that the superblock names, on its targets, and makes the replica clean.
    /// Returns the bytes written.
    pub(super) fn redo(&mut self, targets: &[Target]) -> Result<u64, ReplayError> {
        let Some(superblock) = &mut self.superblock else { return Ok(0) };
        let record = superblock.current().clone();
        let State::Applying { to, journal, .. } = &record.state else { return Ok(0) };
        let reader = JournalReader::open(self.fs.as_ref(), &self.home.journal())?;
        let verified = reader.verify(journal)?;
        let sizes: Vec<u64> = verified.header().disks.iter().map(|disk| disk.size_bytes).collect();
        if is_broken(Breakage::CleanBeforeApplied) {
            let disks = disk_records(&record, targets, &sizes)?;
            let state = State::Clean { point: *to };
            superblock.store(ReplicaRecord { state, disks, ..record.clone() })?;
        }
        if is_broken(Breakage::JournalGoneFirst) {
            self.home.discard_journal(self.fs.as_ref())?;
        }
        let applied = apply(&verified, targets)?;
        let disks = disk_records(&record, targets, &sizes)?;
        superblock.store(ReplicaRecord { state: State::Clean { point: *to }, disks, ..record })?;
        self.home.discard_journal(self.fs.as_ref())?;
        Ok(applied.bytes_written)
    }
}

/// Opens the configured target of a recorded disk; `None` when nothing of its kind is there.
pub(super) fn open_configured(
    fs: &dyn FileSystem,
    disk: &DiskRecord,
    specs: &[TargetSpec],
) -> Result<Option<(Target, TargetIdentity)>, ReplayError> {
    let Some(spec) = specs.iter().find(|spec| spec.disk == disk.name) else { return Ok(None) };
    let error = |error| ReplayError::target(&disk.name, error);
    match Target::open(fs, &spec.path, Some(spec.kind), TargetAccess::Write) {
        Ok(target) => {
            let now = target.identity().map_err(error)?;
            Ok(Some((target, now)))
        }
        Err(TargetError::Missing { .. } | TargetError::WrongKind { .. }) => Ok(None),
        Err(other) => Err(error(other)),
    }
}

/// The disks of `record` with the identities that their synced targets have now.
pub(super) fn disk_records(
    record: &ReplicaRecord,
    targets: &[Target],
    sizes: &[u64],
) -> Result<Vec<DiskRecord>, ReplayError> {
    let disks = record.disks.iter().zip(targets).zip(sizes);
    disks
        .map(|((disk, target), &size_bytes)| {
            let identity = target.identity().map_err(|e| ReplayError::target(&disk.name, e))?;
            let (name, path) = (disk.name.clone(), disk.path.clone());
            Ok(DiskRecord { name, size_bytes, path, identity: Some(identity) })
        })
        .collect()
}
