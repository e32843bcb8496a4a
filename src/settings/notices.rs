//! What is right in the file, but does less in this version than the user may expect.

use super::crosscheck::Drafts;
use super::findings::Findings;
use super::page::{Page, Span};
use super::problem::Problem;
use super::types::Trigger;

/// Most names that one notice lists.
const NAMES_MAX: usize = 5;

/// One notice of each kind, at the first place that it is about.
pub(super) fn collect(drafts: &Drafts, page: &Page<'_>) -> Vec<Problem> {
    let mut scheduled = Kind::default();
    let mut kept = Kind::default();
    for machine in &drafts.machines {
        let name = machine.name.value.as_str();
        if let Some(schedule) = &machine.schedule {
            scheduled.add(name, &schedule.at);
        }
        if let Some(keep) = &machine.keep {
            kept.add(name, &keep.at);
        }
    }
    let mut replicas_scheduled = Kind::default();
    let mut after_backup = Kind::default();
    for replica in &drafts.replicas {
        let name = replica.name.value.as_str();
        let Some(trigger) = &replica.trigger else { continue };
        match trigger.value {
            Trigger::Schedule(_) => replicas_scheduled.add(name, &trigger.at),
            Trigger::AfterBackup => after_backup.add(name, &trigger.at),
            Trigger::Manual => {}
        }
    }

    let mut findings = Findings::new(page);
    scheduled.report(&mut findings, |names, arguments| {
        let message = format!("schedule: this version has no daemon yet; nothing backs up {names}");
        (message, format!("run `afterimage backup now{arguments}` from a timer"))
    });
    kept.report(&mut findings, |names, arguments| {
        let message = format!("keep: this version has no daemon yet; nothing prunes {names}");
        (message, format!("run `afterimage prune{arguments}` from a timer"))
    });
    replicas_scheduled.report(&mut findings, |names, arguments| {
        let message =
            format!("schedule: this version has no daemon yet; nothing replicates {names}");
        (message, format!("run `afterimage replicate now{arguments}` from a timer"))
    });
    after_backup.report(&mut findings, |names, arguments| {
        let message = format!(
            "trigger: this version has no daemon yet; {names} will not follow a backup by itself"
        );
        (message, format!("run `afterimage replicate now{arguments}` after each backup"))
    });
    findings.into_problems().0
}

/// The machines or replicas that one notice is about.
#[derive(Debug, Default)]
struct Kind<'d> {
    names: Vec<&'d str>,
    first: Option<&'d Span>,
}

impl<'d> Kind<'d> {
    fn add(&mut self, name: &'d str, at: &'d Span) {
        self.names.push(name);
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
