//! Which points are missing, and what each is built from.

use super::plan::{choose_base, counterpart, plan};
use super::{CopyRequest, TransferError};
use crate::point::Point;
use crate::testing::{machine, point};
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
