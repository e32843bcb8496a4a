//! Comparing a replica that is fed straight from its machine with the machine: where that did not
//! change since the capture that the replica is at, both must be the same. There is nothing else to
//! hold it against: no repository has what it holds.

use super::replica::{DiskVerdict, VerifyError, open};
use crate::capture::{Captured, Capturer};
use crate::destination::{
    DirectFeed, DiskRecord, PointRef, ReplicaHome, ReplicaRecord, State, Superblock, Target,
    TargetKind,
};
use crate::extent::{Extent, differing_blocks, outside, push_joined};
use crate::fsio::{FileLock, FileSystem, LockHolder, LockMode};
use crate::progress::Progress;
use crate::source::{Changed, Source};
use crate::units::{MIB, Name};
use crate::workers::in_parallel;
use std::sync::{Arc, Mutex, PoisonError};

/// What one worker reads at once, in bytes.
const PIECE_BYTES: u64 = 4 * MIB;
/// Differing ranges that are kept one by one; further ones only count.
const DIFFERENCES_MAX: usize = 10_000;

/// Which replica to verify.
#[derive(Debug)]
pub struct VerifyDirectRequest<'a> {
    /// The replica.
    pub replica: &'a Name,
    /// Where its own files are.
    pub home: ReplicaHome,
    /// How its machine is captured.
    pub capturer: &'a dyn Capturer,
    /// Threads that read and compare.
    pub workers: usize,
}

/// How a replica compares with its machine.
#[derive(Debug)]
pub struct DirectVerdict {
    /// The capture that the replica is at.
    pub at: PointRef,
    /// How each disk compares.
    pub disks: Vec<DiskVerdict>,
    /// Bytes that may have changed in the machine since, and were not compared.
    pub changed_bytes: u64,
    /// What the user should know of the capture, in words.
    pub notes: Vec<String>,
}

/// Compares a replica with its machine and says what differs. Nothing is written, and what the next
/// replication builds upon stays.
///
/// # Errors
/// When it could not be compared to the end. A difference is no error.
pub fn verify_direct(
    fs: &Arc<dyn FileSystem>,
    request: &VerifyDirectRequest<'_>,
    progress: &Progress,
) -> Result<DirectVerdict, VerifyError> {
    let (home, replica) = (&request.home, request.replica);
    if fs.stat(&home.superblock())?.is_none() {
        return Err(VerifyError::NeverSeeded { replica: replica.clone() });
    }
    let holder = LockHolder::this_process(format!("verification of replica {replica}"));
    let _lock = FileLock::try_take(fs.as_ref(), &home.lock(), LockMode::Exclusive, &holder)?;
    let record = Superblock::read_only(fs.as_ref(), &home.superblock(), replica)?;
    let (at, direct) = capture_of(&record)?;
    let captured = request.capturer.capture(&direct.known())?;
    let mut verdict =
        DirectVerdict { at, disks: Vec::new(), changed_bytes: 0, notes: captured.notes() };
    for disk in &record.disks {
        let (source, same) = unchanged(captured.as_ref(), direct, disk)?;
        let same_bytes: u64 = same.iter().map(Extent::len).sum();
        verdict.changed_bytes += disk.size_bytes - same_bytes;
        progress.add_total(same_bytes);
        let target = open(fs.as_ref(), disk)?;
        // What counts is the medium.
        target.forget_cache();
        let compare = Compare { disk, source, target: &target, progress, found: Mutex::default() };
        verdict.disks.push(compare.run(&same, request.workers)?);
        source.check_unchanged().map_err(|error| VerifyError::source(&disk.name, error))?;
    }
    Ok(verdict)
}

fn capture_of(record: &ReplicaRecord) -> Result<(PointRef, &DirectFeed), VerifyError> {
    match (&record.state, &record.direct) {
        (State::Clean { point }, Some(direct)) => Ok((*point, direct)),
        (state, _) => {
            let replica = record.replica.clone();
            Err(VerifyError::NotAtAPoint { replica, state: state.word() })
        }
    }
}

/// The source of a disk, and where it is as it was when it was replicated.
fn unchanged<'c>(
    captured: &'c dyn Captured,
    direct: &DirectFeed,
    disk: &DiskRecord,
) -> Result<(&'c dyn Source, Vec<Extent>), VerifyError> {
    let unknown =
        |why: &str| VerifyError::ChangesUnknown { disk: disk.name.clone(), why: why.to_owned() };
    let found = captured.disks().into_iter().find(|(name, _)| *name == &disk.name);
    let source = found.ok_or_else(|| unknown("the machine no longer has it"))?.1;
    if source.size_bytes() != disk.size_bytes {
        return Err(unknown("it has another size now"));
    }
    let known = direct.known();
    let base = known.get(&disk.name).ok_or_else(|| unknown("nothing was noted of it"))?;
    let changed = captured.changed_since(&disk.name, base);
    match changed.map_err(|error| VerifyError::source(&disk.name, error))? {
        Changed::Known(changed) => {
            let whole = Extent::between(0, disk.size_bytes);
            Ok((source, outside(&[whole], &changed.extents)))
        }
        Changed::Unknown(why) => Err(unknown(why.as_deref().unwrap_or("nothing tells"))),
    }
}

struct Compare<'a> {
    disk: &'a DiskRecord,
    source: &'a dyn Source,
    target: &'a Target,
    progress: &'a Progress,
    found: Mutex<(Vec<Extent>, u64)>,
}

impl Compare<'_> {
    fn run(self, same: &[Extent], workers: usize) -> Result<DiskVerdict, VerifyError> {
        in_parallel(
            workers,
            |send| {
                for extent in same {
                    let mut at = extent.start();
                    while at < extent.end() {
                        let end = ((at / PIECE_BYTES + 1) * PIECE_BYTES).min(extent.end());
                        if !send(Extent::between(at, end)) {
                            return Ok(());
                        }
                        at = end;
                    }
                }
                Ok(())
            },
            || Ok((Vec::new(), Vec::new())),
            |buffers, piece| self.piece(buffers, piece),
        )?;
        let (mut differing, mut differing_bytes) =
            self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        differing.sort_unstable();
        // An image has exactly the disk's size; a device may have more.
        let surplus = Extent::between(self.disk.size_bytes, self.target.size());
        if self.target.kind() == TargetKind::Image && !surplus.is_empty() {
            differing_bytes += surplus.len();
            differing.push(surplus);
        }
        Ok(DiskVerdict { disk: self.disk.name.clone(), differing, differing_bytes })
    }

    fn piece(
        &self,
        (content, held): &mut (Vec<u8>, Vec<u8>),
        piece: Extent,
    ) -> Result<(), VerifyError> {
        self.progress.check()?;
        let source = |error| VerifyError::source(&self.disk.name, error);
        content.clear();
        content.resize(piece.len() as usize, 0);
        for data in self.source.data_extents(piece).map_err(source)? {
            let start = (data.start() - piece.start()) as usize;
            let part = &mut content[start..start + data.len() as usize];
            self.source.read_exact_at(part, data.start()).map_err(source)?;
            self.progress.add_read(data.len());
        }
        // A target that is shorter cannot be read to the end: what it lacks counts as different.
        let there = self.target.size().saturating_sub(piece.start()).min(piece.len()) as usize;
        held.clear();
        held.resize(there, 0);
        let read = self.target.read_exact_at(held, piece.start());
        read.map_err(|error| VerifyError::target(&self.disk.name, error))?;
        self.progress.pace(held.len() as u64);
        for run in differing_blocks(piece.start(), held, content) {
            let start = piece.start() + run.start as u64;
            self.differs(Extent::between(start, start + run.len() as u64));
        }
        self.progress.add_done(piece.len());
        Ok(())
    }

    fn differs(&self, extent: Extent) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.1 += extent.len();
        if found.0.len() < DIFFERENCES_MAX {
            push_joined(&mut found.0, extent);
        }
    }
}
