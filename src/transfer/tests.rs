//! Which points are missing, what each is built from, and whether new packs are believed.

use super::plan::{choose_base, counterpart, plan};
use super::sink::AuditingSink;
use super::{CopyRequest, Side, TransferError};
use crate::catalog::Catalog;
use crate::chunk::CutParameters;
use crate::fsio::RealFileSystem;
use crate::point::Point;
use crate::progress::Progress;
use crate::store::{Codec, InitOptions, PackRecord, PackSink, Repository, StoreError};
use crate::testing::{machine, noise, point};
use crate::units::{MachineId, Name, PointId, RunId};

/// The points `numbers` of one machine, as a repository has them whose ids begin with `mark`.
fn points(mark: u8, numbers: &[u8]) -> Vec<Point> {
    let disks: [Name; 1] = ["root".parse().unwrap()];
    let of =
        |number: &u8| point(mark + number, u64::from(*number), 1000 + i64::from(*number), &disks);
    numbers.iter().map(of).collect()
}

fn request(machine: &Name, only: Option<PointId>) -> CopyRequest<'_> {
    CopyRequest { machine, only, run: RunId([0; 16]), workers: 1 }
}

fn numbers(points: &[Point]) -> Vec<u64> {
    points.iter().map(|point| point.manifest.sequence.0).collect()
}

#[test]
fn only_what_is_missing_is_copied_the_oldest_first() {
    let machine = machine();
    let (theirs, ours) = (points(0, &[5, 1, 4, 2, 3]), points(100, &[2, 4, 9]));
    let all = plan(&theirs, &ours, &request(&machine, None)).unwrap();
    assert_eq!(numbers(&all.missing), [1, 3, 5]);
    assert_eq!((all.already, all.pairs.len()), (2, 2));
    assert_eq!(counterpart(&all.pairs, PointId([4; 32])), Some(PointId([104; 32])));
    assert_eq!(counterpart(&all.pairs, PointId([3; 32])), None);

    let one = plan(&theirs, &ours, &request(&machine, Some(PointId([3; 32])))).unwrap();
    assert_eq!((numbers(&one.missing), one.already), (vec![3], 0));
    let none = plan(&theirs, &ours, &request(&machine, Some(PointId([4; 32])))).unwrap();
    assert_eq!((numbers(&none.missing), none.already), (vec![], 1));
    let gone = plan(&theirs, &ours, &request(&machine, Some(PointId([7; 32]))));
    assert!(matches!(gone, Err(TransferError::PointGone { .. })), "{gone:?}");
}

#[test]
fn a_point_is_built_from_the_last_one_before_it_or_the_first_after_it() {
    let machine = machine();
    let (theirs, ours) = (points(0, &[1, 2, 3, 4, 5, 6]), points(100, &[2, 4, 6]));
    let plan = plan(&theirs, &ours, &request(&machine, None)).unwrap();
    let bases: Vec<_> = plan
        .missing
        .iter()
        .map(|point| choose_base(&plan.pairs, point).unwrap().0.manifest.sequence.0)
        .collect();
    assert_eq!(bases, [2, 2, 4]);
    assert!(choose_base(&[], &plan.missing[0]).is_none());
}

#[test]
fn another_machine_of_the_same_name_and_another_history_are_refused() {
    let machine = machine();
    let theirs = points(0, &[1, 2]);
    let mut ours = points(100, &[1]);
    ours[0].manifest.machine_id = MachineId([9; 16]);
    let refused = plan(&theirs, &ours, &request(&machine, None));
    assert!(matches!(refused, Err(TransferError::OtherMachine { .. })), "{refused:?}");

    let mut ours = points(100, &[2]);
    ours[0].manifest.time = jiff::Timestamp::UNIX_EPOCH;
    let refused = plan(&theirs, &ours, &request(&machine, None));
    assert!(matches!(refused, Err(TransferError::Diverged { .. })), "{refused:?}");
    // A point before they went apart can still be had.
    let one = plan(&theirs, &ours, &request(&machine, Some(theirs[0].id))).unwrap();
    assert_eq!(numbers(&one.missing), [1]);

    let mut ours = points(100, &[2]);
    ours[0].manifest.disks[0].size_bytes += 1;
    let refused = plan(&theirs, &ours, &request(&machine, None));
    assert!(matches!(refused, Err(TransferError::Diverged { .. })), "{refused:?}");
}

/// What was written and reads back otherwise is known to the next run, which would find the pack
/// by itself and believe it.
#[test]
fn a_pack_that_reads_back_otherwise_is_an_error_and_is_not_relied_on() {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (fs, root) = (RealFileSystem::shared(), folder.path().join("repository"));
    let cut = CutParameters::with_average(16 * 1024).unwrap();
    let now = jiff::Timestamp::UNIX_EPOCH;
    Repository::init(&fs, &root, &InitOptions { cut, secret: None, recovery_key: None, now })
        .unwrap();
    let repository = Repository::open(&fs, &root, None, 1).unwrap();
    let catalog = Catalog::open(&folder.path().join("state"), repository.header().id).unwrap();
    let to = Side { repository: &repository, catalog: &catalog };
    let progress = Progress::default();
    let sink = AuditingSink::new(to, &progress);

    let collected = Collected::default();
    let writer = repository.writer(&collected, RunId([1; 16])).unwrap();
    let (good, content) = (repository.keys().namer(), [noise(1, 3000), noise(2, 3000)]);
    let mut codec = Codec::new(1).unwrap();
    for chunk in &content {
        writer.put_chunk(good.chunk(chunk), chunk, &mut codec).unwrap();
    }
    writer.flush().unwrap();
    let record = collected.0.lock().unwrap().pop().unwrap();
    let names = content.map(|chunk| good.chunk(&chunk).into());
    let path = repository.layout().pack(record.name);
    let whole = std::fs::read(&path).unwrap();
    let mut bad = whole.clone();
    bad[64] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    assert!(matches!(sink.pack_written(&record), Err(StoreError::Damaged(_))));
    catalog.sync(&repository).unwrap();
    assert_eq!(catalog.contains(&names).unwrap(), [false, false]);
    assert_eq!(progress.counts().stored, 0);

    std::fs::write(&path, &whole).unwrap();
    catalog.clear_damaged(record.name).unwrap();
    sink.pack_written(&record).unwrap();
    assert_eq!(catalog.contains(&names).unwrap(), [true, true]);
    assert_eq!(progress.counts().stored, record.bytes);
}

/// Remembers the packs that it is told of.
#[derive(Default)]
struct Collected(std::sync::Mutex<Vec<PackRecord>>);

impl PackSink for Collected {
    fn pack_written(&self, record: &PackRecord) -> Result<(), StoreError> {
        self.0.lock().unwrap().push(record.clone());
        Ok(())
    }
}
