//! Reads `[replica.NAME]`.

use std::path::PathBuf;
use std::time::Duration;

use super::findings::{Findings, quoted};
use super::named::{self, Context, DiskWords, DisksDraft};
use super::reader::{Field, Located, TableReader};
use super::source;
use super::timing::{self, TimingDraft};
use super::types::{
    PlaceKind, ReplicaDiskSettings, ReplicaMode, ReplicaSettings, Schedule, Trigger,
};
use super::values;
use crate::units::Name;

/// Modes of the design that are still to come.
const LATER_MODES: [&str; 1] = ["continuous"];

const WORDS: DiskWords = DiskWords {
    place_key: "target",
    place_hint: "say where it is written, such as target = { image = \"/srv/standby/web01.raw\" }",
    disk_hint: "begin each disk with [[replica.NAME.disk]], in two pairs of brackets",
};

/// Where a disk of a replica is written.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) path: PathBuf,
    kind: PlaceKind,
}

/// A replica as far as it could be read.
#[derive(Debug)]
pub(super) struct ReplicaDraft {
    pub(super) name: Located<Name>,
    pub(super) machine: Option<Located<Name>>,
    /// The trigger and where it stands; of the default one, where the replica begins.
    pub(super) trigger: Option<Located<Trigger>>,
    pub(super) timing: TimingDraft,
    pub(super) rpo: Option<Located<Duration>>,
    pub(super) verify: Option<Located<Schedule>>,
    pub(super) disks: DisksDraft<Target>,
    pub(super) journal_dir: Option<Located<PathBuf>>,
    mode: ReplicaMode,
}

impl ReplicaDraft {
    /// The settings; `None` when something is wrong.
    pub(super) fn into_settings(self) -> Option<ReplicaSettings> {
        let disks = self.disks.disks.into_iter().map(|disk| {
            let target = disk.place?.value;
            let name = disk.name?.value;
            Some(ReplicaDiskSettings { name, target: target.path, target_kind: target.kind })
        });
        Some(ReplicaSettings {
            name: self.name.value,
            machine: self.machine?.value,
            trigger: self.trigger?.value,
            timing: self.timing.settings,
            rpo: self.rpo.map(|rpo| rpo.value),
            verify: self.verify.map(|verify| verify.value),
            mode: self.mode,
            disks: disks.collect::<Option<_>>()?,
            journal_dir: self.journal_dir.map(|dir| dir.value),
        })
    }
}

pub(super) fn read(
    name: Located<Name>,
    mut reader: TableReader<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> ReplicaDraft {
    let hint = "say which machine it follows, such as machine = \"web01\"";
    let machine = named::reference(&mut reader, "machine", hint, findings);
    let zone = context.zone(&mut reader, findings);
    let trigger = trigger(&mut reader, &zone, context, findings);
    let timing = timing::read(&mut reader, &zone, context, findings);
    let rpo = timing::rpo(&mut reader, findings);
    let verify = context.schedule(&mut reader, "verify", &zone, findings);
    // Where it is wrong there are findings, and the default is never used.
    let mode = reader.field("mode").and_then(|field| mode(&field, findings));
    let mode = mode.unwrap_or(ReplicaMode::Backup);
    let journal_dir = reader
        .field("journal_dir")
        .and_then(|field| values::path(&field, context.folder, findings));
    let disks = named::disks(&mut reader, &WORDS, findings, |field, findings| {
        target(field, context, findings)
    });
    reader.finish(findings);
    ReplicaDraft { name, machine, trigger, timing, rpo, verify, disks, journal_dir, mode }
}

fn target(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<Located<Target>> {
    let reader = named::place_table(field, findings)?;
    let is_file = reader.has("image").or_else(|| reader.has("device")).is_some();
    if reader.has("nbd").is_some() && !is_file {
        return export(reader, findings);
    }
    let place = named::place(field, &[], context, findings)?;
    place.reader.finish(findings);
    let value = Target { path: place.path.value, kind: place.kind };
    Some(Located { value, at: place.path.at })
}

fn export(mut reader: TableReader<'_>, findings: &mut Findings<'_>) -> Option<Located<Target>> {
    let field = reader.field("nbd")?;
    let address = source::nbd_address(&field, findings);
    reader.finish(findings);
    let address = address?;
    if address.is_tls() {
        let message = values::unsupported("TLS to a target");
        let hint = "write to a unix socket or to localhost, and let a tunnel lead on from there";
        findings.wrong_hint(&field.at, message, hint);
        return None;
    }
    let value = Target { path: PathBuf::from(address.to_string()), kind: PlaceKind::Export };
    Some(Located { value, at: field.at })
}

fn trigger(
    reader: &mut TableReader<'_>,
    zone: &str,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<Located<Trigger>> {
    let trigger_field = reader.field("trigger");
    let schedule_at = reader.has("schedule");
    let schedule = context.schedule(reader, "schedule", zone, findings);
    match (trigger_field, schedule_at) {
        (Some(_), Some(at)) => {
            let message = format!("{} has both a `trigger` and a `schedule`", reader.what);
            findings.wrong_hint(&at, message, "leave out one of the two");
            None
        }
        (Some(field), None) => {
            if field.as_str().is_some_and(looks_like_schedule) {
                let message = "a `trigger` is a word, not a time";
                findings.wrong_hint(&field.at, message, "write schedule = \"…\" instead of it");
                return None;
            }
            let words = [("after-backup", Trigger::AfterBackup), ("manual", Trigger::Manual)];
            let value = values::choice(&field, &words, findings)?;
            Some(Located { value, at: field.key_at })
        }
        (None, Some(_)) => schedule
            .map(|schedule| Located { value: Trigger::Schedule(schedule.value), at: schedule.at }),
        (None, None) => Some(Located { value: Trigger::AfterBackup, at: reader.at.clone() }),
    }
}

fn looks_like_schedule(text: &str) -> bool {
    text.starts_with('@') || text.split_whitespace().count() >= 5
}

fn mode(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<ReplicaMode> {
    match field.as_str() {
        Some(mode) if LATER_MODES.contains(&mode) => {
            let message = values::unsupported(&format!("the mode {}", quoted(mode)));
            findings.wrong_hint(&field.at, message, "write mode = \"backup\", or leave it out");
            None
        }
        _ => {
            let modes = [("backup", ReplicaMode::Backup), ("direct", ReplicaMode::Direct)];
            values::choice(field, &modes, findings)
        }
    }
}
