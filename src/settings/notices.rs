//! What is right in the file, but does less than the user may expect.

use std::collections::{BTreeMap, BTreeSet};

use super::crosscheck::Drafts;
use super::findings::Findings;
use super::machine::MachineDraft;
use super::notify::NotifyKind;
use super::page::{NOWHERE, Page, Span};
use super::problem::Problem;
use super::slots::{self, Slots};
use super::types::{Schedule, Trigger};
use crate::units::{Name, format_duration};

/// Most names that one notice lists.
const NAMES_MAX: usize = 5;

/// One notice of each kind, at the first place that it is about.
pub(super) fn collect(drafts: &Drafts, page: &Page<'_>) -> Vec<Problem> {
    let mut findings = Findings::new(page);
    let mut slots = Slots::new();
    let machines: BTreeMap<&Name, &MachineDraft> =
        drafts.machines.iter().map(|machine| (&machine.name.value, machine)).collect();
    pruning(drafts, &mut findings);
    triggers(drafts, &machines, &mut findings);
    objectives(drafts, &machines, &mut slots, &mut findings);
    timing(drafts, &mut slots, &mut findings);
    telling(drafts, &mut findings);
    findings.into_problems().0
}

/// What prunes nothing, and what prunes without giving back space.
fn pruning(drafts: &Drafts, findings: &mut Findings<'_>) {
    let pruned: BTreeMap<&Name, bool> = drafts
        .repositories
        .iter()
        .map(|repository| (&repository.name.value, repository.upkeep.prune.is_some()))
        .collect();
    let mut unpruned = Kind::default();
    let mut keeping: BTreeSet<&Name> = BTreeSet::new();
    for machine in &drafts.machines {
        let (Some(keep), Some(repository)) = (&machine.keep, &machine.repository) else { continue };
        keeping.insert(&repository.value);
        if pruned.get(&repository.value) == Some(&false) {
            unpruned.add(machine.name.value.as_str(), &keep.at);
        }
    }
    unpruned.report(findings, |names, arguments| {
        let message = format!("keep: nothing prunes {names} by itself");
        let hint = format!(
            "give the repository a time, prune = \"0 1 * * *\", or run `afterimage prune{arguments}`"
        );
        (message, hint)
    });
    let mut useless = Kind::default();
    let mut uncollected = Kind::default();
    for repository in &drafts.repositories {
        let Some(prune) = &repository.upkeep.prune else { continue };
        let name = repository.name.value.as_str();
        if !keeping.contains(&repository.name.value) {
            useless.add(name, &prune.at);
        } else if repository.upkeep.gc.is_none() {
            uncollected.add(name, &prune.at);
        }
    }
    useless.report(findings, |names, _| {
        let message = format!("prune: no machine of {names} has `keep`, so that all points stay");
        (message, "say which of a machine's points stay: keep = { daily = 7 }".to_owned())
    });
    uncollected.report(findings, |names, arguments| {
        let message = format!("prune: nothing gives back the space in {names} by itself");
        let hint = format!("add a time, gc = \"30 1 * * *\", or run `afterimage gc{arguments}`");
        (message, hint)
    });
}

/// Replicas that wait for backups that nothing makes.
fn triggers(
    drafts: &Drafts,
    machines: &BTreeMap<&Name, &MachineDraft>,
    findings: &mut Findings<'_>,
) {
    let mut waiting = Kind::default();
    for replica in &drafts.replicas {
        let (Some(trigger), Some(machine)) = (&replica.trigger, &replica.machine) else { continue };
        let followed = machines.get(&machine.value);
        let has_backups = followed.is_none_or(|machine| machine.schedule.is_some());
        if trigger.value == Trigger::AfterBackup && !has_backups {
            waiting.add(replica.name.value.as_str(), &trigger.at);
        }
    }
    waiting.report(findings, |names, _| {
        let message = format!("trigger: {names} will only follow backups that are made by hand");
        (message, "give the machine a `schedule`, or the replica one instead".to_owned())
    });
}

/// Objectives that cannot be met.
fn objectives(
    drafts: &Drafts,
    machines: &BTreeMap<&Name, &MachineDraft>,
    slots: &mut Slots,
    findings: &mut Findings<'_>,
) {
    let scheduled = |name: &Name| machines.get(name)?.schedule.as_ref().map(|one| &one.value);
    let of_machines = drafts.machines.iter().filter_map(|machine| {
        let rpo = machine.rpo.as_ref()?;
        Some((&machine.name.value, rpo, scheduled(&machine.name.value), &machine.timing))
    });
    let of_replicas = drafts.replicas.iter().filter_map(|replica| {
        let rpo = replica.rpo.as_ref()?;
        let schedule: Option<&Schedule> = match &replica.trigger.as_ref()?.value {
            Trigger::Schedule(schedule) => Some(schedule),
            Trigger::AfterBackup => scheduled(&replica.machine.as_ref()?.value),
            Trigger::Manual => None,
        };
        Some((&replica.name.value, rpo, schedule, &replica.timing))
    });
    let (mut by_hand, mut rare, mut closed) = (Kind::default(), Kind::default(), Kind::default());
    for (name, rpo, schedule, timing) in of_machines.chain(of_replicas) {
        let name = name.as_str();
        let Some(schedule) = schedule else {
            by_hand.add(name, &rpo.at);
            continue;
        };
        if slots.pauses_longer_than(schedule, rpo.value) {
            rare.add(name, &rpo.at);
        } else if slots::longest_closed(&timing.settings.allowed) > rpo.value {
            closed.add(name, &rpo.at);
        }
    }
    by_hand.report(findings, |names, _| {
        let message = format!("rpo: nothing runs by itself that keeps {names} within it");
        (message, "add a `schedule`".to_owned())
    });
    rare.report(findings, |names, _| {
        let message = format!("rpo: {names} will miss it: the schedule pauses for longer");
        (message, "let the schedule run more often, or allow more with `rpo`".to_owned())
    });
    closed.report(findings, |names, _| {
        let message = format!("rpo: {names} will miss it: `allowed` leaves out more of the day");
        (message, "allow more of the day, or more with `rpo`".to_owned())
    });
}

/// Times that do not fit a schedule, or have none.
fn timing(drafts: &Drafts, slots: &mut Slots, findings: &mut Findings<'_>) {
    let all = slots::timed(drafts);
    let (mut outside, mut jittery, mut idle) = (Kind::default(), Kind::default(), Kind::default());
    let mut shortest = None;
    for one in &all {
        let settings = &one.timing.settings;
        if let Some(at) = &one.timing.allowed_at
            && !slots::falls_into(one.schedule, &settings.allowed)
        {
            outside.add(one.name, at);
        }
        if let Some(at) = &one.timing.jitter_at
            && let Some(pause) = slots.shortest_pause(one.schedule)
            && settings.jitter >= pause
        {
            jittery.add(one.name, at);
            shortest.get_or_insert(pause);
        }
    }
    for machine in drafts.machines.iter().filter(|machine| machine.schedule.is_none()) {
        if let Some(at) = &machine.timing.first_at {
            idle.add(machine.name.value.as_str(), at);
        }
    }
    for repository in &drafts.repositories {
        if let (None, Some(at)) =
            (repository.upkeep.schedules().next(), &repository.upkeep.timing.first_at)
        {
            idle.add(repository.name.value.as_str(), at);
        }
    }
    outside.report(findings, |names, _| {
        let message = format!("allowed: it has no time of the schedule of {names}");
        (
            message,
            "each missed time runs when the allowed time begins; change one of the two".to_owned(),
        )
    });
    jittery.report(findings, |names, _| {
        let pause = format_duration(shortest.unwrap_or_default());
        let message = format!("jitter: {names} may still wait when the next time is due");
        (message, format!("make it shorter than the {pause} between two times"))
    });
    idle.report(findings, |names, _| {
        let message = format!("this has no effect: {names} has no schedule");
        (message, "add a schedule, or leave it out".to_owned())
    });
}

/// Messages that nobody gets, and files that nobody reads.
fn telling(drafts: &Drafts, findings: &mut Findings<'_>) {
    let notify = &drafts.notify;
    let wants = |kinds: &BTreeSet<NotifyKind>| kinds.contains(&NotifyKind::Report);
    if let Some(report) = &notify.report
        && !notify.receivers().any(|on| wants(&on.kinds))
    {
        let hint = "add [notify.mail.NAME] or [notify.webhook.NAME], or \"report\" to their `on`";
        findings.wrong_hint(&report.at, "report: nobody gets it", hint);
    }
    if notify.report.is_none() {
        // Those that do not say get all that there is.
        let named = notify.receivers().find(|on| on.at != NOWHERE && wants(&on.kinds));
        if let Some(on) = named {
            let hint = "say when: in [notify], report = \"07:00\"";
            findings.wrong_hint(&on.at, "on: no daily report is made", hint);
        }
    }
    let daemon = &drafts.daemon;
    if let (Some(file), Some(at)) = (&daemon.settings.metrics_file, &daemon.metrics_file_at)
        && file.extension().is_none_or(|ending| ending != "prom")
    {
        let message = "metrics_file: Prometheus's node exporter reads only files that end in .prom";
        findings.wrong_hint(at, message, "give it that ending if it is the one that reads it");
    }
}

/// The parts of the file that one notice is about.
#[derive(Debug, Default)]
struct Kind<'d> {
    names: Vec<&'d str>,
    first: Option<&'d Span>,
}

impl<'d> Kind<'d> {
    fn add(&mut self, name: &'d str, at: &'d Span) {
        if self.names.last() != Some(&name) {
            self.names.push(name);
        }
        self.first.get_or_insert(at);
    }

    /// `text` makes message and hint from the names, as prose and as arguments of a
    /// command, each with a space before it.
    fn report(&self, findings: &mut Findings<'_>, text: impl Fn(&str, &str) -> (String, String)) {
        let Some(first) = self.first else { return };
        let shown = &self.names[..self.names.len().min(NAMES_MAX)];
        let mut prose = shown.join(", ");
        let mut arguments: String = shown.iter().map(|name| format!(" {name}")).collect();
        if self.names.len() > shown.len() {
            prose += &format!(" and {} others", self.names.len() - shown.len());
            // Without names, the command takes all.
            arguments = String::new();
        }
        let (message, hint) = text(&prose, &arguments);
        findings.wrong_hint(first, message, hint);
    }
}
