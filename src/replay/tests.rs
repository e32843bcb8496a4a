//! What is done with a replica, for every state that it can be in.

use super::plan::{Observed, Plan, PlanConflict, plan};
use crate::destination::{
    DiskRecord, IdentityChange, JournalRef, PointRef, ReplicaRecord, State, TargetIdentity,
    TargetKind,
};
use crate::point::Point;
use crate::testing::{machine, point};
use crate::units::{Epoch, JournalDigest, Name, ReplicaId, RepositoryId};
use std::path::PathBuf;

const REPOSITORY: RepositoryId = RepositoryId([0; 16]);

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn path(disk: &str) -> PathBuf {
    PathBuf::from(format!("/srv/{disk}.raw"))
}

fn reference(point: &Point) -> PointRef {
    super::update::point_ref(point)
}

fn record(state: State, disks: &[&str]) -> ReplicaRecord {
    let disk = |disk: &&str| DiskRecord {
        name: name(disk),
        size_bytes: 4096,
        path: path(disk),
        identity: Some(TargetIdentity {
            path: path(disk),
            kind: TargetKind::Image,
            device: 1,
            inode: 2,
            size_bytes: 4096,
            mtime_ns: 3,
            ctime_ns: 4,
            raw_device: 0,
            activity: None,
        }),
    };
    ReplicaRecord {
        replica: name("standby"),
        replica_id: ReplicaId([5; 16]),
        repository: REPOSITORY,
        machine: machine(),
        epoch: Epoch(0),
        state,
        disks: disks.iter().map(disk).collect(),
        direct: None,
    }
}

/// Disks of the settings.
fn disks(names: &[&str]) -> Vec<(Name, PathBuf)> {
    names.iter().map(|disk| (name(disk), path(disk))).collect()
}

fn applying(from: PointRef, to: PointRef) -> State {
    let journal = JournalRef { file: name("journal"), bytes: 1, sha256: JournalDigest([0; 32]) };
    State::Applying { from, to, journal }
}

fn summary(planned: Result<Plan, PlanConflict>) -> &'static str {
    match planned {
        Ok(Plan::Skip { .. }) => "skip",
        Ok(Plan::Seed) => "seed",
        Ok(Plan::Repair { .. }) => "repair",
        Ok(Plan::Replay { .. }) => "replay",
        Err(PlanConflict::Promoted { .. }) => "promoted",
        Err(PlanConflict::Occupied { .. }) => "occupied",
        Err(PlanConflict::Foreign { .. }) => "foreign",
        Err(PlanConflict::OtherOwner { .. }) => "other owner",
        Err(PlanConflict::DiskWithoutTarget { .. }) => "no target",
    }
}

#[test]
fn each_state_of_a_replica_has_its_plan() {
    let root = [name("root")];
    let (old, new) = (point(1, 4, 100, &root), point(2, 5, 200, &root));
    let clean = |at: &Point| State::Clean { point: reference(at) };
    let promoted = State::Promoted { point: reference(&old) };
    let half = applying(reference(&old), reference(&new));
    let occupied = [path("root")];
    let changed = IdentityChange::missing(path("root"));
    let configured = disks(&["root"]);
    let observed = |record| Observed {
        record,
        disks: &configured,
        occupied: &[],
        unfinished: None,
        changed: None,
        foreign: None,
        adopt: false,
    };
    let check = |expected: &str, observed: Observed<'_>, sync_point: Option<&Point>| {
        let planned = plan(&observed, &machine(), REPOSITORY, sync_point, &new);
        assert_eq!(summary(planned), expected, "{observed:?}, {sync_point:?}");
    };
    let at_old = record(clean(&old), &["root"]);
    let seeding = record(State::Seeding { to: reference(&old) }, &["root"]);
    let promoted = record(promoted, &["root"]);
    let half = record(half, &["root"]);

    check("seed", observed(None), None);
    check("occupied", Observed { occupied: &occupied, ..observed(None) }, None);
    let adopt = Observed { occupied: &occupied, adopt: true, ..observed(None) };
    check("repair", adopt, None);

    check("replay", observed(Some(&at_old)), Some(&old));
    check("repair", observed(Some(&at_old)), None);
    check("repair", Observed { changed: Some(&changed), ..observed(Some(&at_old)) }, Some(&old));
    check("occupied", Observed { occupied: &occupied, ..observed(Some(&at_old)) }, Some(&old));
    let foreign = Observed { foreign: Some(&occupied[0]), ..observed(Some(&at_old)) };
    check("foreign", foreign, Some(&old));
    check("foreign", Observed { foreign: Some(&occupied[0]), ..observed(Some(&seeding)) }, None);
    let adopt = Observed { changed: Some(&changed), adopt: true, ..foreign };
    check("repair", adopt, Some(&old));
    let moved = [(name("root"), PathBuf::from("/elsewhere"))];
    check("repair", Observed { disks: &moved, ..observed(Some(&at_old)) }, Some(&old));
    check("no target", Observed { disks: &[], ..observed(Some(&at_old)) }, Some(&old));
    let others = record(clean(&old), &["root", "data"]);
    check("repair", observed(Some(&others)), Some(&old));

    check("repair", observed(Some(&seeding)), None);
    check("repair", Observed { unfinished: Some("lost"), ..observed(Some(&half)) }, None);
    check("promoted", observed(Some(&promoted)), Some(&old));
    // A promoted replica is left alone whatever else is the matter with it.
    let all = Observed { changed: Some(&changed), occupied: &occupied, ..observed(None) };
    check("promoted", Observed { record: Some(&promoted), ..all }, None);

    let (mut machine_differs, mut repository_differs) = (at_old.clone(), at_old.clone());
    machine_differs.machine = name("db01");
    repository_differs.repository = RepositoryId([9; 16]);
    check("other owner", observed(Some(&machine_differs)), Some(&old));
    check("other owner", observed(Some(&repository_differs)), Some(&old));
}

#[test]
fn only_what_is_newer_is_replicated() {
    let root = [name("root")];
    let configured = disks(&["root"]);
    let at = point(1, 5, 500, &root);
    let record = record(State::Clean { point: reference(&at) }, &["root"]);
    let observed = Observed {
        record: Some(&record),
        disks: &configured,
        occupied: &[],
        unfinished: None,
        changed: None,
        foreign: None,
        adopt: false,
    };
    // The newest point by id, number and time; and whether the sync point is still there.
    for (id, sequence, seconds, has_sync_point, expected) in [
        (1, 5, 500, true, "skip"),
        (2, 6, 600, true, "replay"),
        // The clock went back.
        (2, 6, 400, true, "replay"),
        (2, 6, 600, false, "repair"),
        // Newer points were removed: no replica goes back by itself.
        (2, 4, 400, false, "skip"),
        // They were, and others made since, with their numbers.
        (2, 5, 600, false, "repair"),
        (2, 4, 600, false, "repair"),
    ] {
        let newest = point(id, sequence, seconds, &root);
        let sync_point = has_sync_point.then_some(&at);
        let planned = plan(&observed, &machine(), REPOSITORY, sync_point, &newest);
        assert_eq!(summary(planned), expected, "#{sequence} at {seconds} s");
    }
}
