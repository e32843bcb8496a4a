//! Returning the space that no point needs, beside everything else that goes on.
//!
//! ```text
//! idle       --mark, rewrite what is needed of sparse packs-->  condemned
//! condemned  --all older work is done, mark anew, rescue------>  confirmed
//! confirmed  --all older work is done, unlink----------------->  idle
//! ```
//!
//! The state is a list in the repository ([`crate::store::CondemnedList`]), so that an interrupted
//! collection is taken up where it was. Whoever begins after a list was published treats what lies
//! in its packs as unknown; whoever began before is waited for, by the locks that leases hold. No
//! clock decides anything. See `docs/locking.md` for why nothing that is needed can go.

mod error;
mod filter;
mod mark;
mod remove;
mod rewrite;
mod survey;

pub use error::GcError;

use crate::catalog::Catalog;
use crate::fsio::{FileLock, LockHolder, LockMode};
use crate::progress::Progress;
use crate::store::{CondemnedList, CurrentList, Damage, Repository, Stage, StoreError};
use crate::units::{CollectionEpoch, PackName, RunId};
use mark::Marking;
use std::collections::BTreeSet;
use survey::{Limits, PackUse};

/// Objects in the packs of one round; their names take 16 bytes each.
const ROUND_OBJECTS_MAX: u64 = 2 * 1024 * 1024;
/// Rounds of one collection. Each needs all older work to be done, so that few are the rule.
const ROUNDS_MAX: u32 = 64;

/// How to collect.
#[derive(Debug, Clone)]
pub struct GcRequest {
    /// Packs of which less than this is needed are rewritten, in percent, 0 to 100.
    pub fill_percent: u8,
    /// The time now, for the record.
    pub now: jiff::Timestamp,
    /// The run.
    pub run: RunId,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcOutcome {
    /// Points whose needs were marked.
    pub points: u64,
    /// Packs that were removed.
    pub removed_packs: u64,
    /// Bytes of their files, of which what is needed was written anew.
    pub freed_bytes: u64,
    /// Packs whose needed part was written anew.
    pub rewritten_packs: u64,
    /// Bytes of that part.
    pub rewritten_bytes: u64,
    /// Packs that were condemned and turned out to be needed by a point made meanwhile.
    pub rescued_packs: u64,
    /// Packs that are condemned and wait for older work to end.
    pub pending_packs: u64,
    /// Bytes of the objects that points need.
    pub live_bytes: u64,
    /// Bytes of objects in packs that stay, which no point needs.
    pub dead_bytes: u64,
    /// Whether more could go, for which there was no room to write it anew.
    pub short_of_room: bool,
    /// Why packs are kept although they are sparse.
    pub damages: Vec<Damage>,
}

/// Returns the space of packs that no point needs, and writes what is needed of sparse packs anew.
///
/// # Errors
/// Nothing that a point needs was removed. [`GcError::Unreadable`] when anything cannot be read.
pub fn collect(
    repository: &Repository,
    catalog: &Catalog,
    request: &GcRequest,
    progress: &Progress,
) -> Result<GcOutcome, GcError> {
    let _alone = lock(repository)?;
    let mut outcome = GcOutcome::default();
    let run = |outcome: &mut GcOutcome| {
        progress.step("remove packs");
        remove::remove(repository, catalog, request, outcome, progress)
    };
    if repository.condemned()?.stage() != Stage::Idle && !run(&mut outcome)? {
        return pending(repository, outcome);
    }
    for _ in 0..ROUNDS_MAX {
        let more = condemn(repository, catalog, request, &mut outcome, progress)?;
        if repository.condemned()?.stage() == Stage::Idle {
            break;
        }
        if !run(&mut outcome)? {
            return pending(repository, outcome);
        }
        if !more {
            break;
        }
    }
    Ok(outcome)
}

fn lock(repository: &Repository) -> Result<FileLock, GcError> {
    let holder = LockHolder::this_process("garbage collection");
    let path = repository.layout().root().join("locks/gc.lock");
    Ok(FileLock::try_take(repository.file_system().as_ref(), &path, LockMode::Exclusive, &holder)?)
}

fn pending(repository: &Repository, mut outcome: GcOutcome) -> Result<GcOutcome, GcError> {
    outcome.pending_packs = repository.condemned()?.packs().len() as u64;
    Ok(outcome)
}

/// Marks, and condemns the packs that are worth it. Gives back whether another round would find
/// more.
fn condemn(
    repository: &Repository,
    catalog: &Catalog,
    request: &GcRequest,
    outcome: &mut GcOutcome,
    progress: &Progress,
) -> Result<bool, GcError> {
    let _lease = repository.lock_shared("garbage collection")?;
    let current = repository.condemned()?;
    let busy_since_ns = repository.oldest_writer_ns()?;
    let marking = Marking::begin(repository, catalog)?;
    let salt = RunId::random().map_err(StoreError::Random)?.0;
    let salt = salt.iter().fold(0_u64, |salt, byte| salt.rotate_left(8) ^ u64::from(*byte));
    progress.step("mark what is needed");
    let (mut packs, live) = survey::survey(&marking, catalog, salt, progress)?;
    leave_fresh(repository, busy_since_ns, &mut packs)?;
    let limits = limits(repository, request)?;
    let (chosen, more) = survey::choose(&packs, limits);
    outcome.points = marking.points() as u64;
    let names: Vec<PackName> = chosen.iter().map(|pack| pack.pack.name).collect();
    progress.step("write sparse packs anew");
    let rewritten = rewrite::rewrite(repository, catalog, &names, &live, request, progress)?;
    account(outcome, &packs, &rewritten.packs);
    let is_rewritten =
        |pack: &&PackUse| pack.live_bytes > 0 && rewritten.packs.contains(&pack.pack.name);
    for pack in chosen.iter().filter(is_rewritten) {
        outcome.rewritten_packs += 1;
        outcome.rewritten_bytes += pack.live_bytes;
    }
    outcome.short_of_room = more && chosen.is_empty();
    outcome.damages.extend(rewritten.damages);
    if !rewritten.packs.is_empty() {
        publish(repository, request, Stage::Condemned, rewritten.packs, &current)?;
    }
    Ok(more && !chosen.is_empty())
}

/// Leaves out packs that a writer may have made which is still at work: no point refers to them yet.
/// Were they condemned, they would be rescued, but until then other backups would store the same
/// again. A clock that lies does no more harm than that.
fn leave_fresh(
    repository: &Repository,
    busy_since_ns: Option<i128>,
    packs: &mut Vec<PackUse>,
) -> Result<(), GcError> {
    let Some(since_ns) = busy_since_ns else { return Ok(()) };
    let mut older = Vec::with_capacity(packs.len());
    for pack in packs.drain(..) {
        let path = repository.layout().pack(pack.pack.name);
        let stat = repository.file_system().stat(&path).map_err(StoreError::from)?;
        if stat.is_some_and(|stat| stat.mtime_ns < since_ns) {
            older.push(pack);
        }
    }
    *packs = older;
    Ok(())
}

/// Half of the free space may be filled before anything is given back.
fn limits(repository: &Repository, request: &GcRequest) -> Result<Limits, GcError> {
    let free = repository.file_system().free_bytes(repository.layout().root());
    Ok(Limits {
        fill_percent: request.fill_percent,
        rewrite_bytes_max: free.map_err(StoreError::from)? / 2,
        objects_max: ROUND_OBJECTS_MAX,
    })
}

fn account(outcome: &mut GcOutcome, packs: &[PackUse], going: &BTreeSet<PackName>) {
    outcome.live_bytes = packs.iter().map(|pack| pack.live_bytes).sum();
    let stay = packs.iter().filter(|pack| !going.contains(&pack.pack.name));
    outcome.dead_bytes = stay.map(|pack| pack.object_bytes - pack.live_bytes).sum();
}

fn publish(
    repository: &Repository,
    request: &GcRequest,
    stage: Stage,
    packs: BTreeSet<PackName>,
    replaces: &CurrentList,
) -> Result<(), GcError> {
    let list = CondemnedList {
        epoch: CollectionEpoch(replaces.epoch().0 + 1),
        stage,
        packs,
        time: request.now,
        run: request.run,
        host: LockHolder::this_process("").host,
    };
    let session = repository.begin_writing(request.run)?;
    Ok(repository.publish_condemned(&session, &list, replaces)?)
}
