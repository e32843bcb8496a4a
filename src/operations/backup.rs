//! Backing a machine up.

use super::error::known;
use super::reasons::DefinitionNameReason;
use super::run::{About, Done, RunResult, execute, now};
use super::{OperationError, capture, damage, open};
use crate::backup::{BackupRequest, ChangeHints, DiskRead, backup};
use crate::catalog::{History, RunKind};
use crate::progress::Progress;
use crate::report::PointAt;
use crate::retain::lock_until;
use crate::settings::{DiskSettings, MachineSettings, Settings};
use crate::source::{HandedOver, Untold};
use crate::units::{Name, RunId, format_bytes};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Backs a machine up. When this returns a summary, the point is durable.
///
/// # Errors
/// No error leaves a point behind.
pub fn backup_machine(
    settings: &Settings,
    machine: &Name,
    reading: Reading,
    progress: &Progress,
) -> RunResult {
    let about = About::machine(RunKind::Backup, machine);
    execute(settings, about, progress, |run| run_backup(settings, machine, reading, run, progress))
}

/// How much of its disks a backup reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// What may have changed, as far as that is known.
    Changes,
    /// Everything, whatever is known.
    Full,
}

fn run_backup(
    settings: &Settings,
    machine: &Name,
    reading: Reading,
    run: RunId,
    progress: &Progress,
) -> Result<Done, OperationError> {
    let (machine, place) = known(settings, "machine", &settings.machines, machine.as_str())?;
    let definition = definition(place)?;
    let open = open::open_repository(settings, &place.repository)?;
    let now = now();
    let id = open.repository.header().id;
    // Without what it knows everything is read; whoever keeps the run's record tells what is wrong.
    let history = History::open(&settings.state_dir).ok();
    let tracking = history.as_ref().map(|history| history.tracking(machine)).transpose();
    let hints = ChangeHints {
        lists: lists(place),
        sources: history.as_ref().and_then(|history| history.sources(id, machine).ok()?),
        // Without what is known of them, no source is believed.
        read_everything: reading == Reading::Full || tracking.is_err(),
        tracking: tracking.ok().flatten().unwrap_or_default(),
        full_read_every: place.full_read_every,
    };
    let capturer = capture::capturer(settings, place, None, run)?;
    let request = BackupRequest {
        machine,
        capturer: capturer.as_ref(),
        hints,
        definition,
        lock_until: lock_until(now, place.lock_days),
        now,
        run,
        workers: open::workers(settings),
        history: history.as_ref(),
    };
    let result = backup(&open.repository, &open.catalog, &request, progress)
        .map_err(|error| damage::with_points(&open, error.into()))?;
    let mut done = Done::completed(PointAt::from(&result.point));
    done.warnings = result.damages.iter().map(|found| damage::describe(&open, found)).collect();
    let in_full = result.disks.iter().filter_map(in_full);
    done.warnings.extend(in_full);
    let found = result.disks.iter().filter(|read| read.untold.bytes > 0);
    done.warnings.extend(found.map(|read| untold(machine, &read.disk, &read.untold)));
    done.warnings.extend(result.notes);
    Ok(done)
}

/// The lists of changed extents that the settings name.
fn lists(machine: &MachineSettings) -> BTreeMap<Name, HandedOver> {
    let disks = machine.disks.iter();
    let list = |disk: &DiskSettings| {
        Some((disk.name.clone(), HandedOver::File(disk.source.file()?.changed.clone()?)))
    };
    disks.filter_map(list).collect()
}

fn in_full(read: &DiskRead) -> Option<String> {
    let reason = read.in_full_because.as_ref()?;
    Some(format!("disk {} was read in full: {reason}", read.disk))
}

/// Ranges that a warning lists one by one.
const RANGES_LISTED_MAX: usize = 10;

/// That a source told too little, in words.
pub(super) fn untold(machine: &Name, disk: &Name, untold: &Untold) -> String {
    let ranges = untold.extents.iter().take(RANGES_LISTED_MAX);
    let ranges: Vec<String> =
        ranges.map(|range| format!("{}-{}", range.start(), range.end())).collect();
    let more = if untold.extents.len() > RANGES_LISTED_MAX { ", and more" } else { "" };
    format!(
        "disk {disk}: {} changed in bytes {}{more} although nothing told of it; what was \
         made since the last full read may lack such changes. From now on the disk is read in full, \
         until `afterimage backup now {machine} --trust-changes`",
        format_bytes(untold.bytes),
        ranges.join(", ")
    )
}

/// Believes again what is told of the changes of a machine's disks. Returns the disks of which it
/// was not believed.
///
/// # Errors
/// When the history fails, or the settings do not know the machine.
pub fn trust_changes(settings: &Settings, machine: &Name) -> Result<Vec<Name>, OperationError> {
    let (machine, _) = known(settings, "machine", &settings.machines, machine.as_str())?;
    Ok(History::open(&settings.state_dir)?.trust(machine)?)
}

/// Whether the files of every definition can travel under their own names.
pub fn check_definitions(settings: &Settings) -> Vec<OperationError> {
    settings.machines.values().filter_map(|machine| definition(machine).err()).collect()
}

/// The files of the definition under their own names.
fn definition(machine: &MachineSettings) -> Result<Vec<(Name, PathBuf)>, OperationError> {
    let mut seen = BTreeSet::new();
    let mut files = Vec::with_capacity(machine.definition.len());
    for path in &machine.definition {
        let error = |reason| OperationError::DefinitionName {
            machine: machine.name.clone(),
            path: path.clone(),
            reason,
        };
        let text = path.file_name().unwrap_or_default().to_string_lossy();
        let name: Name = text.parse().map_err(|e| error(DefinitionNameReason::Invalid(e)))?;
        if !seen.insert(name.clone()) {
            return Err(error(DefinitionNameReason::Twice));
        }
        files.push((name, path.clone()));
    }
    Ok(files)
}
