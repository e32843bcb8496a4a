//! From what is known of everything to the facts about each objective.

use super::judge::{Coming, Feed, Judgement, ObjectiveFacts, expected, judge};
use crate::catalog::{
    Compliance, ObjectiveInterval, ObjectiveState, ObjectiveSubject, RunFacts, RunKind, RunStatus,
};
use crate::operations::StatusReport;
use crate::report::{
    DueLine, LastRun, LiveRun, MachineStatus, ObjectiveLine, ReplicaStatus, RepositoryStatus,
};
use crate::settings::{ReplicaMode, ReplicaSettings, Settings, Trigger};
use crate::units::Name;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// What only a daemon knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LiveFacts {
    /// What runs next by itself; of what waits for a retry, the retry.
    pub due: Vec<DueLine>,
    /// Runs that wait or are under way.
    pub live: Vec<LiveRun>,
    /// Why the clock is not believed.
    pub clock_doubt: Option<String>,
    /// The repositories, as it saw them lately.
    pub repositories: Vec<RepositoryStatus>,
}

/// What was noted of objectives before.
pub(in crate::operations) struct Noted<'n> {
    pub open: &'n BTreeMap<ObjectiveSubject, ObjectiveInterval>,
    pub compliance: &'n BTreeMap<ObjectiveSubject, Compliance>,
    /// Since when there are those of which nothing was noted; `None`: it is not known.
    pub first_seen: Option<Timestamp>,
}

/// A kind of runs, and the machine or replica that they are of.
type Key<'n> = (&'static str, &'n str, &'n str);

fn key<'n>(kind: RunKind, machine: Option<&'n Name>, replica: Option<&'n Name>) -> Key<'n> {
    let word = match kind {
        RunKind::Backup => "backup",
        RunKind::Replicate => "replicate",
        _ => "",
    };
    // A replica has one machine, which not everybody names.
    match replica {
        Some(replica) => (word, "", replica.as_str()),
        None => (word, machine.map_or("", Name::as_str), ""),
    }
}

/// All that is known, to be looked up.
struct Known<'k> {
    settings: &'k Settings,
    runs: BTreeMap<Key<'k>, &'k RunFacts>,
    due: BTreeMap<Key<'k>, &'k DueLine>,
    live: BTreeMap<Key<'k>, &'k LiveRun>,
    machines: BTreeMap<&'k Name, &'k MachineStatus>,
    clock_doubt: Option<&'k String>,
    open: &'k BTreeMap<ObjectiveSubject, ObjectiveInterval>,
    /// Since when there are objectives of which nothing was noted yet.
    first_seen: Option<Timestamp>,
    now: Timestamp,
}

impl<'k> Known<'k> {
    fn new(
        settings: &'k Settings,
        report: &'k StatusReport,
        live: &'k LiveFacts,
        noted: &Noted<'k>,
        now: Timestamp,
    ) -> Self {
        let runs = report.runs.iter().filter(|it| it.repository.is_none());
        let runs = runs.map(|it| (key(it.kind, it.machine.as_ref(), it.replica.as_ref()), it));
        let due = live.due.iter();
        let due = due.map(|it| (key(it.kind, it.machine.as_ref(), it.replica.as_ref()), it));
        // Where one waits behind another, the one under way counts.
        let waiting = live.live.iter().filter(|it| it.status == RunStatus::Queued);
        let under_way = live.live.iter().filter(|it| it.status != RunStatus::Queued);
        let live_runs = waiting.chain(under_way);
        let live_runs =
            live_runs.map(|it| (key(it.kind, it.machine.as_ref(), it.replica.as_ref()), it));
        Self {
            settings,
            runs: runs.collect(),
            due: due.collect(),
            live: live_runs.collect(),
            machines: report.machines.iter().map(|it| (&it.machine, it)).collect(),
            clock_doubt: live.clock_doubt.as_ref(),
            open: noted.open,
            first_seen: noted.first_seen,
            now,
        }
    }

    fn counts_from(&self, subject: &ObjectiveSubject) -> Option<Timestamp> {
        self.open.get(subject).map(|open| open.from).or(self.first_seen)
    }

    /// What all facts have in common.
    fn facts(
        &self,
        rpo: Duration,
        subject: &ObjectiveSubject,
        key: Key<'_>,
        command: String,
        last: Option<&LastRun>,
    ) -> ObjectiveFacts {
        let runs = self.runs.get(&key);
        // Without a daemon, what the history says of runs of other processes.
        let live = last.filter(|last| last.status == RunStatus::Running && !last.cut_off);
        ObjectiveFacts {
            rpo,
            newest: None,
            problem: self.clock_doubt.cloned(),
            counts_from: self.counts_from(subject),
            command,
            durations: runs.map(|runs| runs.durations()).unwrap_or_default(),
            failures: runs.map_or(0, |runs| runs.failures),
            failure: runs.and_then(|runs| failure(runs)),
            coming: self.coming(&key, live),
            feed: None,
        }
    }

    fn coming(&self, key: &Key<'_>, last: Option<&LastRun>) -> Coming {
        if let Some(live) = self.live.get(key) {
            return match live.status {
                RunStatus::Queued => Coming::Waits,
                _ => Coming::UnderWay(live.since),
            };
        }
        if let (Some(last), true) = (last, self.due.is_empty()) {
            return Coming::UnderWay(last.started);
        }
        match self.due.get(key) {
            Some(DueLine { held: Some(why), .. }) => Coming::Held(why.clone()),
            Some(DueLine { next: Some(next), .. }) => Coming::Due(*next),
            Some(DueLine { schedule: None, .. }) => Coming::Follows,
            _ => Coming::Unknown,
        }
    }

    fn of_machine(&self, status: &MachineStatus, rpo: Duration) -> ObjectiveFacts {
        let machine = &status.machine;
        let subject = ObjectiveSubject { machine: machine.clone(), replica: None };
        let command = format!("afterimage backup now {machine}");
        let key = key(RunKind::Backup, Some(machine), None);
        let mut facts = self.facts(rpo, &subject, key, command, status.last_run.as_ref());
        facts.newest = status.newest.map(|newest| newest.time);
        if status.points.is_none() && facts.problem.is_none() {
            // Where it cannot be asked, what the last backup said still counts against it.
            let last = self.runs.get(&key).and_then(|runs| last_instant(runs));
            facts.newest = last;
            if last.is_none_or(|last| self.now.duration_since(last).unsigned_abs() <= rpo) {
                facts.problem = Some(format!(
                    "the repository {} cannot be read; see `afterimage status`",
                    status.repository
                ));
            }
        }
        facts
    }

    fn of_replica(
        &self,
        status: &ReplicaStatus,
        replica: &ReplicaSettings,
        rpo: Duration,
    ) -> ObjectiveFacts {
        let name = &status.replica;
        let subject = subject_of(status);
        let command = format!("afterimage replicate now {name}");
        let key = key(RunKind::Replicate, Some(&status.machine), Some(name));
        let mut facts = self.facts(rpo, &subject, key, command, status.last_run.as_ref());
        if replica.trigger == Trigger::AfterBackup && facts.coming == Coming::Unknown {
            facts.coming = Coming::Follows;
        }
        let seeded = !matches!(status.state.as_str(), "seeding" | "never seeded");
        facts.newest = status.at.filter(|_| seeded).map(|at| at.time);
        if facts.problem.is_none() {
            facts.problem = status.problem.clone().or_else(|| {
                (status.state == "promoted").then(|| "it is promoted: a guest uses it".to_owned())
            });
        }
        if replica.mode == ReplicaMode::Backup {
            facts.feed = Some(Feed {
                has_newer: status.lag_points != Some(0) || facts.newest.is_none(),
                next: self.next_point(&status.machine),
            });
        }
        facts
    }

    /// When the next point of a machine is expected.
    fn next_point(&self, machine: &Name) -> Option<Timestamp> {
        let status = self.machines.get(machine)?;
        // The objective does not matter to what is expected.
        expected(&self.of_machine(status, Duration::ZERO), self.now)
    }
}

/// Why the last run failed, if it did.
fn failure(runs: &RunFacts) -> Option<String> {
    let failed = matches!(runs.status, RunStatus::Failed | RunStatus::Incomplete);
    (failed && runs.failures > 0).then(|| runs.reason.clone()).flatten()
}

/// About when the last run began that did all.
fn last_instant(runs: &RunFacts) -> Option<Timestamp> {
    let took = runs.durations().first().copied().unwrap_or_default();
    runs.success?.checked_sub(took).ok()
}

fn subject_of(status: &ReplicaStatus) -> ObjectiveSubject {
    let machine = status.machine.clone();
    ObjectiveSubject { machine, replica: Some(status.replica.clone()) }
}

/// What is told of all objectives, machines first, in the order of their names.
pub(in crate::operations) fn objective_lines(
    settings: &Settings,
    report: &StatusReport,
    live: &LiveFacts,
    noted: &Noted<'_>,
    now: Timestamp,
) -> Vec<ObjectiveLine> {
    let known = Known::new(settings, report, live, noted, now);
    let machines = report.machines.iter().filter_map(|status| {
        let rpo = known.settings.machines.get(&status.machine)?.rpo?;
        let subject = ObjectiveSubject { machine: status.machine.clone(), replica: None };
        let judged = judge(&known.of_machine(status, rpo), now);
        Some(line(subject, rpo, judged, None, noted, now))
    });
    let replicas = report.replicas.iter().filter_map(|status| {
        let replica = known.settings.replicas.get(&status.replica)?;
        let rpo = replica.rpo?;
        let judged = judge(&known.of_replica(status, replica, rpo), now);
        let bytes = status.lag_bytes;
        Some(line(subject_of(status), rpo, judged, bytes, noted, now))
    });
    machines.chain(replicas).collect()
}

fn line(
    subject: ObjectiveSubject,
    rpo: Duration,
    judged: Judgement,
    lag_bytes: Option<u64>,
    noted: &Noted<'_>,
    now: Timestamp,
) -> ObjectiveLine {
    let Judgement { state, lag, reason, .. } = judged;
    let same = noted.open.get(&subject).filter(|open| open.state == state);
    let percent = noted.compliance.get(&subject).and_then(Compliance::percent);
    ObjectiveLine {
        machine: subject.machine,
        replica: subject.replica,
        rpo_s: rpo.as_secs(),
        state,
        since: same.map_or(now, |open| open.from),
        lag_s: lag.map(|lag| lag.as_secs()),
        lag_bytes: lag_bytes.filter(|_| state != ObjectiveState::Unknown),
        reason,
        compliance_percent: percent,
    }
}
