//! How well objectives are met, and were.

use crate::site::{Site, minutes, name};
use afterimage::catalog::{History, ObjectiveSubject};
use afterimage::operations::{LiveFacts, ObjectiveBook, StatusReport, status_live};
use afterimage::report::{DueLine, ObjectiveLine, ObjectiveState};
use jiff::Timestamp;

use ObjectiveState::{AtRisk, Met, Missed, Unknown};

fn objective(report: &StatusReport, index: usize) -> &ObjectiveLine {
    report.machines[index].objective.as_ref().unwrap()
}

fn due(next: Timestamp) -> DueLine {
    DueLine {
        work: "backup of web01".to_owned(),
        kind: afterimage::catalog::RunKind::Backup,
        machine: Some(name("web01")),
        replica: None,
        repository: None,
        schedule: Some("0 * * * *".to_owned()),
        next: Some(next),
        held: None,
    }
}

#[test]
fn status_tells_what_is_met_at_risk_and_missed() {
    let site = Site::new(&["db01", "web01"]);
    let made = site.back_up("web01");
    site.replicate("web01-copy");
    let at = |after| site.status(made.saturating_add(minutes(after)).unwrap());
    let states = |after| {
        let report = at(after);
        let machine = objective(&report, 1).state;
        (machine, report.replicas[1].objective.as_ref().unwrap().state)
    };
    assert_eq!(states(10), (Met, Met));
    assert_eq!(states(49), (AtRisk, Met));
    assert_eq!(states(61), (Missed, Met));
    assert_eq!(states(121), (Missed, Missed));
    assert_eq!(states(-10), (Unknown, Unknown));
    let report = at(61);
    let line = objective(&report, 1);
    assert_eq!((line.lag_s, line.rpo_s), (Some(3660), 3600));
    let reason = line.reason.as_deref().unwrap();
    assert!(reason.ends_with("run `afterimage backup now web01`"), "{reason}");
    // What was never backed up is missed as long as nobody knows since when it should be.
    assert_eq!(objective(&report, 0).state, Missed);
    let late = report.late();
    assert!(late.iter().any(|it| it.starts_with("machine web01 is late: ")), "{late:?}");
    assert_eq!(late.len(), 3, "{late:?}");
}

#[test]
fn bytes_of_points_that_a_replica_does_not_have_are_told() {
    let site = Site::new(&["web01"]);
    site.back_up("web01");
    site.replicate("web01-copy");
    std::fs::write(site.folder.path().join("web01.img"), [9_u8; 65_536]).unwrap();
    site.back_up("web01");
    let now = Timestamp::now();
    let replica = &site.status(now).replicas[0];
    assert_eq!((replica.lag_points, replica.lag_bytes), (Some(1), Some(65_536)));
    site.replicate("web01-copy");
    let replica = &site.status(now).replicas[0];
    assert_eq!((replica.lag_points, replica.lag_bytes), (Some(0), Some(0)));
}

#[test]
fn what_the_daemon_knows_makes_a_risk_or_takes_it_away() {
    let site = Site::new(&["web01"]);
    let made = site.back_up("web01");
    let after = |after| made.saturating_add(minutes(after)).unwrap();
    let state = |now, live: &LiveFacts| objective(&status_live(&site.settings, now, live), 0).state;
    let early = LiveFacts { due: vec![due(after(55))], ..LiveFacts::default() };
    assert_eq!(state(after(50), &early), Met);
    let late = LiveFacts { due: vec![due(after(65))], ..LiveFacts::default() };
    assert_eq!(state(after(1), &late), AtRisk);
    let doubt = LiveFacts { clock_doubt: Some("it jumped".to_owned()), ..early };
    assert_eq!(state(after(999_999), &doubt), Unknown);
}

/// Judges each minute from one to another after a point was made.
fn watch(
    book: &mut ObjectiveBook,
    site: &Site,
    made: Timestamp,
    minutes_after: std::ops::RangeInclusive<i64>,
) -> Vec<(i64, ObjectiveState, ObjectiveState)> {
    let history = History::open(&site.settings.state_dir).unwrap();
    let report = site.status(made);
    let mut changes = Vec::new();
    for minute in minutes_after {
        let now = made.saturating_add(minutes(minute)).unwrap();
        book.evaluate(&history, &site.settings, &report, &LiveFacts::default(), now).unwrap();
        let changed = book.changed().iter().filter(|(_, line)| line.replica.is_none());
        changes.extend(changed.map(|(before, line)| (minute, *before, line.state)));
    }
    changes
}

#[test]
fn each_change_is_told_once_also_by_a_book_that_is_opened_anew() {
    let site = Site::new(&["web01"]);
    let made = site.back_up("web01");
    let history = History::open(&site.settings.state_dir).unwrap();
    let mut book = ObjectiveBook::open(&history).unwrap();
    let changes = watch(&mut book, &site, made, 0..=50);
    assert_eq!(changes, [(49, Met, AtRisk)]);
    let mut book = ObjectiveBook::open(&history).unwrap();
    let changes = watch(&mut book, &site, made, 51..=70);
    assert_eq!(changes, [(61, AtRisk, Missed)]);
    let since = book.lines()[0].since;
    assert_eq!(since.duration_since(made).as_mins(), 60);
}

#[test]
fn time_in_which_nobody_looked_counts_as_what_it_was() {
    let site = Site::new(&["web01"]);
    let made = site.back_up("web01");
    let history = History::open(&site.settings.state_dir).unwrap();
    let mut book = ObjectiveBook::open(&history).unwrap();
    watch(&mut book, &site, made, 0..=10);
    // Nothing ran for hours: it was met until the point was an hour old.
    let mut book = ObjectiveBook::open(&history).unwrap();
    watch(&mut book, &site, made, 240..=240);
    let subject = ObjectiveSubject { machine: name("web01"), replica: None };
    let end = made.saturating_add(minutes(240)).unwrap();
    let of = history.compliance(made, end).unwrap()[&subject];
    // Whole seconds and milliseconds are told and kept.
    assert!(of.met_ms.abs_diff(60 * 60_000) < 1500, "{of:?}");
    assert!(of.missed_ms.abs_diff(180 * 60_000) < 1500, "{of:?}");
    assert_eq!(of.unknown_ms, 0);
    let percent = book.lines()[0].compliance_percent.unwrap();
    assert!((percent - 25.0).abs() < 0.1, "{percent}");
    // A clock that is not believed tells nothing.
    let report = site.status(made);
    let doubt = LiveFacts { clock_doubt: Some("it jumped".to_owned()), ..LiveFacts::default() };
    let later = made.saturating_add(minutes(2400)).unwrap();
    let lines = book.evaluate(&history, &site.settings, &report, &doubt, later).unwrap();
    assert_eq!(lines[0].state, Unknown);
    let of = history.compliance(end, later).unwrap()[&subject];
    assert_eq!((of.met_ms, of.missed_ms), (0, 0));
}
