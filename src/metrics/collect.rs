//! From facts to families.

use super::MetricsFacts;
use super::family::{Families, Family, Labels};
use super::runs::{last_runs, totals};
use crate::catalog::ObjectiveState;
use crate::report::{DaemonStatus, MachineStatus, ObjectiveLine, ReplicaStatus, RepositoryStatus};
use jiff::Timestamp;

/// All families, but those of the process.
pub(super) fn families(facts: &MetricsFacts) -> Families {
    let status = &facts.status;
    let mut all = Families(vec![
        Family::gauge("afterimage_build_info", "The version that tells")
            .only(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0),
        Family::gauge("afterimage_metrics_timestamp", "When these metrics were made")
            .seconds()
            .only(Vec::new(), seconds(facts.now)),
    ]);
    all.extend(repositories(&status.repositories));
    all.extend(machines(&status.machines));
    all.extend(replicas(&status.replicas, facts.now));
    all.extend(objectives(&facts.objectives));
    all.extend(last_runs(status));
    all.extend(totals(&status.runs));
    all.extend(facts.daemon.iter().flat_map(daemon));
    all
}

pub(super) fn seconds(time: Timestamp) -> f64 {
    time.as_duration().as_secs_f64()
}

pub(super) fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

pub(super) fn label(name: &'static str, value: impl ToString) -> (&'static str, String) {
    (name, value.to_string())
}

/// A family with a sample of each of `items` of which there is a value.
fn of_each<T>(
    family: Family,
    items: &[T],
    labels: impl Fn(&T) -> Labels,
    value: impl Fn(&T) -> Option<f64>,
) -> Family {
    family.with(items.iter().filter_map(|item| Some((labels(item), value(item)?))))
}

fn repositories(all: &[RepositoryStatus]) -> [Family; 7] {
    let labels = |it: &RepositoryStatus| vec![label("repository", &it.repository)];
    let count = |count: Option<usize>| count.map(|count| count as f64);
    [
        of_each(
            Family::gauge("afterimage_repository_up", "Whether it could be opened and listed"),
            all,
            labels,
            |it| Some(flag(it.reachable)),
        ),
        of_each(
            Family::gauge("afterimage_repository_points", "Recovery points that it has"),
            all,
            labels,
            |it| count(it.points),
        ),
        of_each(
            Family::gauge("afterimage_repository_packs", "Packs that it has"),
            all,
            labels,
            |it| count(it.packs),
        ),
        of_each(
            Family::gauge("afterimage_repository_stored", "What its packs take").bytes(),
            all,
            labels,
            |it| it.packs_bytes.map(|bytes| bytes as f64),
        ),
        of_each(
            Family::gauge("afterimage_repository_free", "What is free where it is").bytes(),
            all,
            labels,
            |it| it.free_bytes.map(|bytes| bytes as f64),
        ),
        of_each(
            Family::gauge(
                "afterimage_repository_damages",
                "Packs and points that cannot be read, as far as is known",
            ),
            all,
            labels,
            |it| it.reachable.then_some(it.damages.len() as f64),
        ),
        of_each(
            Family::gauge(
                "afterimage_repository_damaged_points",
                "Points that cannot be restored in full, as far as verifications found",
            ),
            all,
            labels,
            |it| it.reachable.then_some(it.damaged_points as f64),
        ),
    ]
}

fn machines(all: &[MachineStatus]) -> [Family; 2] {
    let labels = |it: &MachineStatus| {
        vec![label("machine", &it.machine), label("repository", &it.repository)]
    };
    [
        of_each(
            Family::gauge("afterimage_machine_points", "Recovery points that it has"),
            all,
            labels,
            |it| it.points.map(|points| points as f64),
        ),
        of_each(
            Family::gauge(
                "afterimage_machine_newest_point_timestamp",
                "The instant that its newest point holds",
            )
            .seconds(),
            all,
            labels,
            |it| it.newest.map(|newest| seconds(newest.time)),
        ),
    ]
}

fn replicas(all: &[ReplicaStatus], now: Timestamp) -> [Family; 5] {
    let labels =
        |it: &ReplicaStatus| vec![label("machine", &it.machine), label("replica", &it.replica)];
    // While it is seeded it holds no point.
    let at = |it: &ReplicaStatus| it.at.filter(|_| it.state != "seeding");
    let lag = move |it: &ReplicaStatus| {
        at(it).map(|at| now.duration_since(at.time).as_secs_f64().max(0.0))
    };
    let with_state = |it: &ReplicaStatus| {
        let mut labels = labels(it);
        labels.push(label("state", &it.state));
        labels
    };
    [
        of_each(
            Family::gauge(
                "afterimage_replica_state",
                "1 for the state that it is in; it has no other state",
            ),
            all,
            with_state,
            |_| Some(1.0),
        ),
        of_each(
            Family::gauge(
                "afterimage_replica_lag",
                "How long ago the instant was that it holds: what would be lost by going over to it",
            )
            .seconds(),
            all,
            labels,
            lag,
        ),
        of_each(
            Family::gauge(
                "afterimage_replica_lag",
                "Bytes that changed in points that it does not have yet",
            )
            .bytes(),
            all,
            labels,
            |it| it.lag_bytes.map(|bytes| bytes as f64),
        ),
        of_each(
            Family::gauge("afterimage_replica_lag_points", "Points that it does not have yet"),
            all,
            labels,
            |it| it.lag_points.map(|points| points as f64),
        ),
        of_each(
            Family::gauge(
                "afterimage_replica_point_timestamp",
                "The instant that the point holds that it is at",
            )
            .seconds(),
            all,
            labels,
            move |it| at(it).map(|at| seconds(at.time)),
        ),
    ]
}

fn objectives(all: &[ObjectiveLine]) -> [Family; 4] {
    let labels = |it: &ObjectiveLine| {
        let mut labels = vec![label("machine", &it.machine)];
        labels.extend(it.replica.as_ref().map(|replica| label("replica", replica)));
        labels
    };
    let mut states = Family::gauge(
        "afterimage_objective_state",
        "1 for the state that the recovery point objective is in, 0 for the others",
    );
    for line in all {
        for state in ObjectiveState::ALL {
            let mut labels = labels(line);
            labels.push(label("state", state.word()));
            states.add(labels, flag(line.state == state));
        }
    }
    [
        states,
        of_each(
            Family::gauge("afterimage_objective_rpo", "How old what could be brought back may get")
                .seconds(),
            all,
            labels,
            |it| Some(it.rpo_s as f64),
        ),
        of_each(
            Family::gauge("afterimage_objective_lag", "How old what could be brought back is")
                .seconds(),
            all,
            labels,
            |it| it.lag_s.map(|lag| lag as f64),
        ),
        of_each(
            Family::gauge(
                "afterimage_objective_compliance",
                "For how much of the last thirty days it was met, as far as that is known",
            )
            .ratio(),
            all,
            labels,
            |it| it.compliance_percent.map(|percent| percent / 100.0),
        ),
    ]
}

fn daemon(status: &DaemonStatus) -> Vec<Family> {
    let only = |family: Family, value: f64| family.only(Vec::new(), value);
    let runs = [("running", status.running), ("queued", status.queued)];
    let runs = runs.map(|(state, count)| (vec![label("state", state)], count as f64));
    let pauses = status.pauses.iter().map(|it| (vec![label("subject", &it.subject)], 1.0));
    vec![
        only(
            Family::gauge("afterimage_daemon_start_timestamp", "When the daemon started").seconds(),
            seconds(status.started),
        ),
        Family::gauge("afterimage_daemon_runs", "Runs that are under way, and that wait")
            .with(runs),
        Family::gauge(
            "afterimage_daemon_paused",
            "1 for each thing of which nothing begins by itself",
        )
        .with(pauses),
        only(
            Family::gauge(
                "afterimage_daemon_clock_doubtful",
                "Whether the clock is not believed: nothing is pruned meanwhile",
            ),
            flag(status.clock_doubt.is_some()),
        ),
        only(
            Family::gauge(
                "afterimage_daemon_settings_reload_success",
                "Whether the settings file was right when it was last read",
            ),
            flag(status.reload_error.is_none()),
        ),
        only(
            Family::gauge(
                "afterimage_daemon_settings_loaded_timestamp",
                "When the settings were read that are in force",
            )
            .seconds(),
            seconds(status.settings_loaded),
        ),
        only(
            Family::gauge(
                "afterimage_daemon_problems",
                "What the daemon could not do, such as writing the history",
            ),
            status.problems.len() as f64,
        ),
    ]
}
