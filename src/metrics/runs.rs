//! Families of runs.

use super::collect::{flag, label, seconds};
use super::family::{Family, Labels};
use crate::catalog::{RunFacts, RunStatus};
use crate::operations::StatusReport;
use crate::units::Name;
use std::collections::{BTreeMap, HashSet};

/// A number of what is known of runs.
type Pick = fn(&RunFacts) -> u64;

/// The families of the last runs of machines, of replicas or of repositories.
struct Scope {
    labels: fn(&RunFacts) -> Option<Labels>,
    success: Family,
    started: Family,
    status: Family,
    duration: Family,
    failures: Family,
}

macro_rules! scope {
    ($what:literal, $labels:expr) => {
        Scope {
            labels: $labels,
            success: Family::gauge(
                concat!("afterimage_", $what, "_last_success_timestamp"),
                "When a run last ended that did all, or had nothing to do",
            )
            .seconds(),
            started: Family::gauge(
                concat!("afterimage_", $what, "_last_run_timestamp"),
                "When the last run began",
            )
            .seconds(),
            status: Family::gauge(
                concat!("afterimage_", $what, "_last_run_success"),
                "Whether the last run that ended did all, or had nothing to do",
            ),
            duration: Family::gauge(
                concat!("afterimage_", $what, "_last_run_duration"),
                "How long the last run took, where it ended",
            )
            .seconds(),
            failures: Family::gauge(
                concat!("afterimage_", $what, "_failed_runs"),
                "Runs in a row that did not do all, up to the last one that ended",
            ),
        }
    };
}

impl Scope {
    fn add(&mut self, facts: &RunFacts) {
        let Some(mut labels) = (self.labels)(facts) else { return };
        labels.push(label("kind", facts.kind.word()));
        let tell = |family: &mut Family, value: Option<f64>| {
            if let Some(value) = value {
                family.add(labels.clone(), value);
            }
        };
        let ended = facts.completed + facts.skipped + facts.failed + facts.incomplete;
        tell(&mut self.success, facts.success.map(seconds));
        tell(&mut self.started, Some(seconds(facts.started)));
        tell(&mut self.status, (ended > 0).then_some(flag(facts.failures == 0)));
        tell(&mut self.duration, facts.duration().map(|duration| duration.as_secs_f64()));
        tell(&mut self.failures, Some(f64::from(facts.failures)));
    }

    fn families(self) -> [Family; 5] {
        [self.success, self.started, self.status, self.duration, self.failures]
    }
}

/// The last runs of everything that the settings name.
pub(super) fn last_runs(status: &StatusReport) -> Vec<Family> {
    let known = Known::new(status);
    let mut of_replicas = scope!("replica", |it| {
        let machine = it.machine.as_ref().map(|machine| label("machine", machine));
        Some(machine.into_iter().chain([label("replica", it.replica.as_ref()?)]).collect())
    });
    let mut of_machines =
        scope!("machine", |it| Some(vec![label("machine", it.machine.as_ref()?)]));
    let mut of_repositories =
        scope!("repository", |it| Some(vec![label("repository", it.repository.as_ref()?)]));
    for facts in status.runs.iter().filter(|facts| known.has(facts)) {
        match (&facts.replica, &facts.machine) {
            (Some(_), _) => of_replicas.add(facts),
            (None, Some(_)) => of_machines.add(facts),
            (None, None) => of_repositories.add(facts),
        }
    }
    let all = [of_replicas, of_machines, of_repositories];
    all.into_iter().flat_map(Scope::families).collect()
}

/// Names of the settings: what is no longer there is told of no more.
struct Known<'k> {
    repositories: HashSet<&'k str>,
    machines: HashSet<&'k str>,
    replicas: HashSet<&'k str>,
}

impl<'k> Known<'k> {
    fn new(status: &'k StatusReport) -> Self {
        Self {
            repositories: status.repositories.iter().map(|it| it.repository.as_str()).collect(),
            machines: status.machines.iter().map(|it| it.machine.as_str()).collect(),
            replicas: status.replicas.iter().map(|it| it.replica.as_str()).collect(),
        }
    }

    fn has(&self, facts: &RunFacts) -> bool {
        let has = |names: &HashSet<&str>, name: Option<&Name>| {
            name.is_none_or(|name| names.contains(name.as_str()))
        };
        has(&self.repositories, facts.repository.as_ref())
            && has(&self.machines, facts.machine.as_ref())
            && has(&self.replicas, facts.replica.as_ref())
    }
}

/// What all runs of a kind did, since the history began.
pub(super) fn totals(all: &[RunFacts]) -> Vec<Family> {
    let mut runs =
        Family::counter("afterimage_runs", "Runs that ended, by what they did and how they ended");
    let mut took =
        Family::counter("afterimage_run_duration", "How long runs took that ended").seconds();
    let mut bytes = [
        Family::counter(
            "afterimage_run_read",
            "What runs read from sources, replicas and repositories",
        ),
        Family::counter("afterimage_run_changed", "What runs found to differ from before"),
        Family::counter("afterimage_run_new", "What runs found that was never stored before"),
        Family::counter("afterimage_run_stored", "What runs added to repositories, compressed"),
        Family::counter("afterimage_run_written", "What runs wrote to targets"),
    ]
    .map(Family::bytes);
    let mut by_kind: BTreeMap<String, Vec<&RunFacts>> = BTreeMap::new();
    for facts in all {
        by_kind.entry(facts.kind.word()).or_default().push(facts);
    }
    for (kind, facts) in by_kind {
        let sum = |pick: Pick| facts.iter().map(|it| pick(it)).fold(0, u64::saturating_add) as f64;
        let counts: [(RunStatus, Pick); 4] = [
            (RunStatus::Completed, |it| it.completed),
            (RunStatus::Skipped, |it| it.skipped),
            (RunStatus::Incomplete, |it| it.incomplete),
            (RunStatus::Failed, |it| it.failed),
        ];
        for (status, pick) in counts {
            runs.add(vec![label("kind", &kind), label("status", status.word())], sum(pick));
        }
        took.add(vec![label("kind", &kind)], sum(|it| it.total_ms) / 1000.0);
        let moved: [Pick; 5] = [
            |it| it.total.read,
            |it| it.total.changed,
            |it| it.total.new,
            |it| it.total.stored,
            |it| it.total.written,
        ];
        for (family, pick) in bytes.iter_mut().zip(moved) {
            family.add(vec![label("kind", &kind)], sum(pick));
        }
    }
    [runs, took].into_iter().chain(bytes).collect()
}
