//! Reads `[machine.NAME]`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::findings::{Findings, quoted, ticked};
use super::named::{self, Context, DiskWords, DisksDraft};
use super::reader::{Field, Located, TableReader};
use super::timing::{self, TimingDraft};
use super::types::{
    DiskSettings, HookSettings, LibvirtSettings, MachineSettings, Schedule, SourceSettings,
};
use super::{DEFINITION_FILES_MAX, LOCK_DAYS_MAX, PRUNE_MAX_PERCENT_DEFAULT, source, values};
use crate::units::{Keep, Name};

const WORDS: DiskWords = DiskWords {
    place_key: "source",
    place_hint: "say where it is read, such as source = { image = \"/srv/vm/web01.raw\" }",
    disk_hint: "begin each disk with [[machine.NAME.disk]], in two pairs of brackets",
};

/// A machine as far as it could be read.
#[derive(Debug)]
pub(super) struct MachineDraft {
    pub(super) name: Located<Name>,
    pub(super) repository: Option<Located<Name>>,
    pub(super) schedule: Option<Located<Schedule>>,
    pub(super) timing: TimingDraft,
    pub(super) rpo: Option<Located<Duration>>,
    pub(super) keep: Option<Located<Keep>>,
    pub(super) disks: DisksDraft<SourceSettings>,
    timezone: String,
    lock_days: u32,
    prune_max_percent: u8,
    definition: Vec<PathBuf>,
    libvirt: Option<LibvirtSettings>,
    full_read_every: Option<Duration>,
    hooks: Option<HookSettings>,
}

impl MachineDraft {
    /// The settings; `None` when something is wrong.
    pub(super) fn into_settings(self) -> Option<MachineSettings> {
        let disks =
            self.disks.disks.into_iter().map(|disk| {
                Some(DiskSettings { name: disk.name?.value, source: disk.place?.value })
            });
        Some(MachineSettings {
            name: self.name.value,
            repository: self.repository?.value,
            schedule: self.schedule.map(|schedule| schedule.value),
            timing: self.timing.settings,
            rpo: self.rpo.map(|rpo| rpo.value),
            timezone: self.timezone,
            keep: self.keep.map(|keep| keep.value),
            lock_days: self.lock_days,
            prune_max_percent: self.prune_max_percent,
            definition: self.definition,
            disks: disks.collect::<Option<_>>()?,
            libvirt: self.libvirt,
            full_read_every: self.full_read_every,
            hooks: self.hooks,
        })
    }
}

pub(super) fn read(
    name: Located<Name>,
    mut reader: TableReader<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> MachineDraft {
    let hint = "say where its backups go, such as repository = \"main\"";
    let repository = named::reference(&mut reader, "repository", hint, findings);
    let timezone = context.zone(&mut reader, findings);
    let schedule = context.schedule(&mut reader, "schedule", &timezone, findings);
    let timing = timing::read(&mut reader, &timezone, context, findings);
    let rpo = timing::rpo(&mut reader, findings);
    let keep = reader.field("keep").and_then(|field| {
        let value = keep(&field, findings)?;
        Some(Located { value, at: field.key_at })
    });
    let mut number = |key: &'static str, allowed, default| match reader.field(key) {
        // Where it is wrong there are findings, and the default is never used.
        Some(field) => field.whole_number(allowed, findings).unwrap_or(default),
        None => default,
    };
    let lock_days = number("lock_days", 0..=LOCK_DAYS_MAX, 0);
    let percent = u32::from(PRUNE_MAX_PERCENT_DEFAULT);
    let percent = number("prune_max_percent", 1..=100, percent);
    let prune_max_percent = u8::try_from(percent).unwrap_or(PRUNE_MAX_PERCENT_DEFAULT);
    let definition = reader
        .field("definition")
        .map(|field| definition(&field, context.folder, findings))
        .unwrap_or_default();
    let full_read_every =
        reader.field("full_read_every").and_then(|field| values::duration(&field, findings));
    let hooks = reader.field("hooks").and_then(|field| hooks(&field, findings));
    let libvirt = reader.field("source");
    let is_whole = libvirt.is_some();
    let libvirt = libvirt.and_then(|field| source::of_machine(&field, context, findings));
    let disks = if is_whole {
        found_by_itself(&mut reader, findings)
    } else {
        named::disks(&mut reader, &WORDS, findings, |field, findings| {
            source::of_disk(field, context, findings)
        })
    };
    let sources: Vec<_> = disks.disks.iter().filter_map(|disk| disk.place.as_ref()).collect();
    source::check_together(&sources, findings);
    reader.finish(findings);
    MachineDraft {
        name,
        repository,
        schedule,
        timing,
        rpo,
        keep,
        disks,
        timezone,
        lock_days,
        prune_max_percent,
        definition,
        libvirt,
        full_read_every,
        hooks,
    }
}

/// The disks of a machine whose source names them.
fn found_by_itself(
    reader: &mut TableReader<'_>,
    findings: &mut Findings<'_>,
) -> DisksDraft<SourceSettings> {
    if let Some(field) = reader.field("disk") {
        let message = format!("{} has a `source` of its own, which names its disks", reader.what);
        findings.wrong_hint(&field.key_at, message, "leave out `source`, or all of its disks");
    }
    DisksDraft { disks: Vec::new(), complete: false }
}

const HOOK_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

fn hooks(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<HookSettings> {
    let example = "hooks = { before = \"…\", after = \"…\" }";
    let mut reader = field.table("`hooks`".to_owned(), example, findings)?;
    let (before, after) = (reader.field("before"), reader.field("after"));
    let is_empty = before.is_none() && after.is_none();
    let before = before.map(|field| source::text(&field, example, findings));
    let after = after.map(|field| source::text(&field, example, findings));
    let timeout = reader.field("timeout").and_then(|field| values::duration(&field, findings));
    let consistent = reader.field("consistent").and_then(|field| field.boolean(findings));
    let unknown = reader.has_unknown();
    reader.finish(findings);
    if is_empty && !unknown {
        findings.wrong_hint(
            &field.at,
            "`hooks` names no command",
            format!("for example: {example}"),
        );
    }
    Some(HookSettings {
        before: before.flatten(),
        after: after.flatten(),
        timeout: timeout.unwrap_or(HOOK_TIMEOUT_DEFAULT),
        consistent: consistent.unwrap_or(false),
    })
}

fn keep(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Keep> {
    let example = "keep = { last = 3, hourly = 24, daily = 7, weekly = 4, monthly = 12 }";
    let mut reader = field.table("`keep`".to_owned(), example, findings)?;
    let mut valid = true;
    let mut count = |key: &'static str, reader: &mut TableReader<'_>| match reader.field(key) {
        Some(field) => field.whole_number(0..=u32::MAX, findings).unwrap_or_else(|| {
            valid = false;
            0
        }),
        None => 0,
    };
    let mut keep = Keep {
        last: count("last", &mut reader),
        hourly: count("hourly", &mut reader),
        daily: count("daily", &mut reader),
        weekly: count("weekly", &mut reader),
        monthly: count("monthly", &mut reader),
        yearly: count("yearly", &mut reader),
        within: None,
    };
    if let Some(field) = reader.field("within") {
        keep.within = values::duration(&field, findings);
        valid &= keep.within.is_some();
    }
    let unknown = reader.has_unknown();
    reader.finish(findings);
    if valid && !unknown && keep == Keep::default() {
        findings.wrong_hint(&field.at, "`keep` would keep no point at all", example);
        return None;
    }
    Some(keep)
}

fn definition(field: &Field<'_>, folder: &Path, findings: &mut Findings<'_>) -> Vec<PathBuf> {
    let example = "definition = \"web01.xml\", or definition = [\"web01.xml\", \"web01_VARS.fd\"]";
    let files = match (field.as_str(), field.elements()) {
        (Some(_), _) => vec![values::path(field, folder, findings)],
        (None, Some(elements)) => {
            if elements.len() > DEFINITION_FILES_MAX {
                let count = elements.len();
                let key = ticked(field.key);
                let message = format!("{key} names {count} files; {DEFINITION_FILES_MAX} can be");
                findings.wrong(&field.at, message);
                return Vec::new();
            }
            elements.iter().map(|element| values::path(element, folder, findings)).collect()
        }
        (None, None) => {
            field.wrong_type("a path or a list of paths", example, findings);
            return Vec::new();
        }
    };
    let mut seen = BTreeSet::new();
    let mut paths = Vec::new();
    for file in files.into_iter().flatten() {
        if !seen.insert(values::normalised(&file.value)) {
            let given = file.value.file_name().unwrap_or_default().to_string_lossy();
            let message = format!("{} is named twice in `definition`", quoted(&given));
            findings.wrong(&file.at, message);
        }
        paths.push(file.value);
    }
    paths
}
