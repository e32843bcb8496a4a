//! History goes on after a crash: everything succeeds, and nothing of the crash is left.

use crate::known::{Finding, Known, check, compare_images};
use crate::lab::{Action, FIRST, Lab, REPLICAS, SECOND};
use afterimage::catalog::SecondCatalog;
use afterimage::fsio::FileSystem;
use afterimage::store::Repository;
use afterimage::testing::Random;
use std::path::Path;

/// What runs next, to its end.
pub fn go_on(lab: &mut Lab, known: &mut Known, random: &mut Random) -> Result<(), Finding> {
    run(lab, known, Action::Init)?;
    check_catalogs(lab)?;
    let next = [Action::Backup(0), Action::Replicate(0), Action::Copy, Action::Gc];
    if lab.encrypted && random.chance(30) {
        run(lab, known, Action::Rotate)?;
    }
    // First to the point that there was.
    if known.replicas[0].synced.is_some() && random.chance(50) {
        run(lab, known, Action::Replicate(0))?;
    }
    lab.change(0, random);
    for action in next {
        run(lab, known, action)?;
    }
    if random.chance(50) {
        run(lab, known, Action::Prune(0, 1 + random.below(2) as u32))?;
        run(lab, known, Action::Gc)?;
    }
    run(lab, known, Action::Verify)?;
    run(lab, known, Action::Restore)?;
    compare_images(lab, 0, &lab.machines[0])?;
    check(lab, known)?;
    check_catalogs(lab)?;
    check_leftovers(lab)
}

/// Runs one action without any fault.
pub fn run(lab: &mut Lab, known: &mut Known, action: Action) -> Result<(), Finding> {
    lab.clock += 1;
    known.begin(lab, action);
    let done = lab.act(&lab.fs(), action);
    let done = done.map_err(|error| format!("afterwards, {action:?}: {error}"))?;
    known.note(lab, action, &done);
    Ok(())
}

/// The live catalogs, brought up to date, equal new ones.
pub fn check_catalogs(lab: &Lab) -> Result<(), Finding> {
    let fs = lab.fs();
    let first = lab.repository(&fs).map_err(|error| error.to_string())?;
    let second = lab.second(&fs).map_err(|error| error.to_string())?;
    for repository in [first, second] {
        check_catalog(lab, &repository).map_err(|error| format!("catalog: {error}"))?;
    }
    Ok(())
}

fn check_catalog(lab: &Lab, repository: &Repository) -> crate::lab::Result<()> {
    let live = lab.catalog(repository)?;
    let report = live.sync(repository)?;
    if !report.damages.is_empty() {
        return Err(format!("damage: {:?}", report.damages).into());
    }
    let rebuilt = SecondCatalog::begin(&lab.state_dir(), repository.header().id)?;
    rebuilt.catalog().sync(repository)?;
    let compared = live.compare(rebuilt.catalog())?;
    if !compared.is_equal() {
        return Err(format!("{compared:?}").into());
    }
    match live.contents()? == rebuilt.catalog().contents()? {
        true => Ok(()),
        false => Err("the contents differ".into()),
    }
}

pub fn check_leftovers(lab: &Lab) -> Result<(), Finding> {
    let names = |folder: &Path| -> Result<Vec<String>, Finding> {
        let entries = lab.disk.list(folder).map_err(|error| error.to_string())?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    };
    for root in [FIRST, SECOND] {
        let left = names(&Path::new(root).join("tmp"))?;
        if !left.is_empty() {
            return Err(format!("left in {root}/tmp: {left:?}"));
        }
    }
    for (replica, (name, _)) in REPLICAS.iter().enumerate() {
        let home = Lab::home(replica);
        if lab.disk.content(&home.superblock()).is_some() {
            let left = names(home.folder())?;
            if left != ["lock", "superblock"] {
                return Err(format!("left beside {name}: {left:?}"));
            }
        }
    }
    let left = names(Path::new("/restored"))?;
    match left.iter().find(|name| name.contains("partial")) {
        Some(name) => Err(format!("left where it was restored to: {name}")),
        None => Ok(()),
    }
}
