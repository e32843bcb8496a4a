//! What runs and objectives say of conditions.

use crate::common::name;
use afterimage::catalog::{RunStatus, RunTrigger};
use afterimage::notify::{ConditionKey, Observation, Severity, of_clock, of_objective, of_run};
use afterimage::operations::{FailedRun, OperationError, RunResult, Task, VerifyScope};
use afterimage::report::{Action, ObjectiveLine, ObjectiveState, Summary};

fn summary(status: RunStatus) -> Summary {
    let now = "2026-11-28T08:00:00Z".parse().unwrap();
    Summary::new(Action::Backup, status, now)
}

fn done() -> RunResult {
    Ok(summary(RunStatus::Completed))
}

fn failed(error: OperationError) -> RunResult {
    Err(Box::new(FailedRun { error, summary: summary(RunStatus::Failed) }))
}

fn damage() -> OperationError {
    OperationError::DamageFound { repository: name("main"), count: 1, points: "none".into() }
}

fn unknown() -> OperationError {
    OperationError::UnknownZone { zone: "Mars".into() }
}

/// Which conditions are wrong and which are well.
fn said(found: &[Observation]) -> Vec<(ConditionKey, bool)> {
    found.iter().map(|it| (it.key.clone(), it.wrong.is_some())).collect()
}

#[test]
fn only_the_last_failure_of_what_began_by_itself_is_told_and_any_success_ends_it() {
    let task = Task::Backup { machine: name("web01"), full_read: false, trust_changes: false };
    let key = ConditionKey::RunFailed { task: "backup of web01".into() };
    let scheduled = RunTrigger::Schedule;
    let told = of_run(&task, scheduled, &failed(unknown()), false);
    assert_eq!(said(&told), [(key.clone(), true)]);
    assert!(of_run(&task, scheduled, &failed(unknown()), true).is_empty());
    assert!(of_run(&task, RunTrigger::Manual, &failed(unknown()), false).is_empty());
    for status in [RunStatus::Completed, RunStatus::Skipped] {
        let told = of_run(&task, RunTrigger::Manual, &Ok(summary(status)), false);
        assert_eq!(said(&told), [(key.clone(), false)]);
    }
    let told = of_run(&task, scheduled, &Ok(summary(RunStatus::Incomplete)), false);
    assert_eq!(said(&told), [(key, true)]);
}

#[test]
fn damage_is_told_whoever_looked_and_ends_only_when_all_was_read_or_repaired() {
    let verify = |scope| Task::VerifyRepository { repository: name("main"), scope };
    let repair = |dry_run| Task::Repair { repository: name("main"), from: Vec::new(), dry_run };
    let key = ConditionKey::Damage { repository: name("main") };
    let about = |task: &Task, result: &RunResult| {
        let found = of_run(task, RunTrigger::Manual, result, false);
        said(&found).into_iter().find(|(it, _)| *it == key).map(|(_, is_wrong)| is_wrong)
    };
    let sample = verify(VerifyScope::Sample(1));
    for task in [&sample, &verify(VerifyScope::All), &verify(VerifyScope::NoKey)] {
        assert_eq!(about(task, &failed(damage())), Some(true));
    }
    assert_eq!(about(&sample, &done()), None);
    assert_eq!(about(&verify(VerifyScope::NoKey), &done()), None);
    assert_eq!(about(&verify(VerifyScope::All), &done()), Some(false));
    assert_eq!(about(&repair(false), &done()), Some(false));
    assert_eq!(about(&repair(true), &done()), None);
    assert_eq!(about(&repair(false), &failed(unknown())), None);
}

#[test]
fn a_replica_that_differs_is_told_until_it_was_compared_again() {
    let key = ConditionKey::Differs { replica: name("standby") };
    let replica = name("standby");
    let error =
        OperationError::Differs { replica, at: "point #1".into(), ranges: "disk root".into() };
    let verify = Task::VerifyReplica { replica: name("standby") };
    let about = |task: &Task, result: &RunResult| {
        let found = of_run(task, RunTrigger::Schedule, result, false);
        said(&found).into_iter().find(|(it, _)| *it == key).map(|(_, is_wrong)| is_wrong)
    };
    assert_eq!(about(&verify, &failed(error)), Some(true));
    assert_eq!(about(&verify, &done()), Some(false));
    let replicate = |adopt| Task::Replicate { replica: name("standby"), adopt };
    assert_eq!(about(&replicate(false), &done()), None);
    assert_eq!(about(&replicate(true), &done()), Some(false));
}

#[test]
fn objectives_and_the_clock_say_how_bad_it_is() {
    let mut line = ObjectiveLine {
        machine: name("web01"),
        replica: Some(name("standby")),
        rpo_s: 3600,
        state: ObjectiveState::Met,
        since: "2026-11-28T08:00:00Z".parse().unwrap(),
        lag_s: Some(4000),
        lag_bytes: None,
        reason: None,
        compliance_percent: None,
    };
    let mut severity = |state| {
        line.state = state;
        let found = of_objective(&line)?;
        assert_eq!(found.key, ConditionKey::Late { subject: "replica standby".into() });
        Some(found.wrong.map(|wrong| wrong.severity))
    };
    assert_eq!(severity(ObjectiveState::Met), Some(None));
    assert_eq!(severity(ObjectiveState::AtRisk), Some(Some(Severity::Warning)));
    assert_eq!(severity(ObjectiveState::Missed), Some(Some(Severity::Error)));
    assert_eq!(severity(ObjectiveState::Unknown), None);
    assert!(of_clock(Some("it jumped")).wrong.is_some() && of_clock(None).wrong.is_none());
}
