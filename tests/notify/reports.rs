//! The daily report: once a day, whatever the clock does.

use crate::http_server::HttpServer;
use crate::site::{Site, failed, until};
use afterimage::catalog::{RunKind, RunOrigin, RunOutcome, RunRecord, RunStatus};
use afterimage::notify::{Due, REPORT_LINES_MAX, StoreLine, due};
use afterimage::progress::Counts;
use afterimage::settings::ReportSettings;
use afterimage::units::RunId;
use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};

const SEVEN: u16 = 7 * 60;

fn at(minute: u16, timezone: &str) -> ReportSettings {
    ReportSettings { minute, timezone: timezone.into() }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The days that are reported while the clock shows these instants, one after the other.
fn days(settings: &ReportSettings, last: Date, instants: &[&str]) -> Vec<Date> {
    let mut last = Some(last);
    let mut days = Vec::new();
    for now in instants {
        match due(settings, last, time(now)).unwrap() {
            Due::No => {}
            Due::Mark(day) => last = Some(day),
            Due::Report(day, _) => {
                days.push(day);
                last = Some(day);
            }
        }
    }
    days
}

#[test]
fn a_report_is_due_once_a_day_and_late_after_downtime() {
    let seven = at(SEVEN, "UTC");
    let instants = [
        "2026-11-27T06:59:59Z",
        "2026-11-27T07:00:00Z",
        "2026-11-27T07:00:01Z",
        "2026-11-27T23:59:59Z",
        "2026-11-28T06:00:00Z",
        "2026-12-03T05:00:00Z",
        "2026-12-03T12:00:00Z",
        "2026-12-03T13:00:00Z",
    ];
    let expected = [date(2026, 11, 27), date(2026, 12, 2), date(2026, 12, 3)];
    assert_eq!(days(&seven, date(2026, 11, 26), &instants), expected);
    // At the first start nobody waits for one.
    let first = due(&seven, None, time("2026-11-27T12:00:00Z")).unwrap();
    assert_eq!(first, Due::Mark(date(2026, 11, 27)));
    let first = due(&seven, None, time("2026-11-27T06:00:00Z")).unwrap();
    assert_eq!(first, Due::Mark(date(2026, 11, 26)));
}

#[test]
fn a_report_covers_what_no_other_did_but_not_years() {
    let seven = at(SEVEN, "UTC");
    let now = time("2026-11-28T09:00:00Z");
    for (last, from) in [
        (date(2026, 11, 27), "2026-11-27T07:00:00Z"),
        (date(2026, 11, 25), "2026-11-25T07:00:00Z"),
        (date(2020, 1, 1), "2026-11-21T07:00:00Z"),
    ] {
        let Due::Report(day, span) = due(&seven, Some(last), now).unwrap() else { panic!() };
        let to = time("2026-11-28T07:00:00Z");
        assert_eq!((day, span.from, span.to), (date(2026, 11, 28), time(from), to));
    }
}

#[test]
fn a_clock_that_jumps_makes_no_second_report_of_a_day_and_no_silence() {
    let seven = at(SEVEN, "UTC");
    let back = ["2026-11-28T07:00:00Z", "2026-11-28T05:00:00Z", "2026-11-28T07:00:00Z"];
    assert_eq!(days(&seven, date(2026, 11, 27), &back), [date(2026, 11, 28)]);
    let years = [
        "2026-11-28T07:00:00Z",
        "2031-01-01T08:00:00Z",
        "2026-11-28T06:00:00Z",
        "2026-11-28T07:00:00Z",
        "2026-11-29T07:00:00Z",
    ];
    let expected = [date(2026, 11, 28), date(2031, 1, 1), date(2026, 11, 29)];
    assert_eq!(days(&seven, date(2026, 11, 27), &years), expected);
}

#[test]
fn a_report_in_an_hour_that_is_skipped_or_comes_twice_is_made_once() {
    let half_past_two = at(2 * 60 + 30, "Europe/Berlin");
    let spring = [
        "2026-03-28T23:30:00Z",
        "2026-03-29T00:59:59Z",
        "2026-03-29T01:30:00Z",
        "2026-03-29T02:30:00Z",
    ];
    assert_eq!(days(&half_past_two, date(2026, 3, 28), &spring), [date(2026, 3, 29)]);
    let autumn = ["2026-10-25T00:29:59Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"];
    assert_eq!(days(&half_past_two, date(2026, 10, 24), &autumn), [date(2026, 10, 25)]);
    assert!(due(&at(0, "Mars/Olympus"), None, time("2026-11-28T07:00:00Z")).is_err());
}

fn run(number: u8, kind: RunKind, status: RunStatus, ended: &str) -> RunRecord {
    let outcome = RunOutcome {
        ended: Some(time(ended)),
        counts: Counts { read: 3 << 30, stored: 1 << 20, ..Counts::default() },
        reason: (status == RunStatus::Failed).then(|| "no room\nat all".to_owned()),
        ..RunOutcome::open(status)
    };
    RunRecord {
        id: RunId([number; 16]),
        kind,
        repository: None,
        machine: Some("web01".parse().unwrap()),
        replica: None,
        started: time(ended) - SignedDuration::from_hours(2),
        origin: RunOrigin::default(),
        outcome,
    }
}

fn stores() -> Vec<StoreLine> {
    vec![StoreLine {
        repository: "main".into(),
        points: 12,
        stored_bytes: 5 << 30,
        data_bytes: 60 << 30,
    }]
}

#[test]
fn a_report_is_told_once_in_words_and_in_numbers() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &format!("https://localhost:{}/", server.port));
    site.settings.report = Some(at(SEVEN, "UTC"));
    for _ in 0..3 {
        assert!(!site.notifier().report(stores(), site.now).unwrap());
    }
    let (backup, verify) = (RunKind::Backup, RunKind::Verify);
    let (completed, failed_status) = (RunStatus::Completed, RunStatus::Failed);
    for run in [
        run(1, backup, completed, "2026-11-28T06:59:59.9Z"),
        run(2, backup, completed, "2026-11-28T07:00:00.5Z"),
        run(3, backup, failed_status, "2026-11-28T22:00:00Z"),
        run(4, verify, completed, "2026-11-29T06:59:59.9Z"),
        run(5, verify, completed, "2026-11-29T07:00:00Z"),
        RunRecord {
            outcome: RunOutcome::open(RunStatus::Running),
            ..run(6, backup, completed, "2026-11-28T22:00:00Z")
        },
    ] {
        site.history().put(&run).unwrap();
    }
    let notifier = site.notifier();
    notifier.observe(&[failed("db01")], site.now).unwrap();
    site.pass(SignedDuration::from_hours(24));
    assert!(notifier.report_due(site.now).unwrap().is_some());
    assert!(notifier.report(stores(), site.now).unwrap());
    assert!(!notifier.report(stores(), site.now).unwrap());
    until("an empty outbox", || notifier.channels().unwrap()[0].record.waiting == 0);
    drop(notifier);
    assert!(!site.notifier().report(stores(), site.now).unwrap());
    let received = server.received();
    let json = received.last().unwrap().json();
    assert_eq!(received.len(), 2);
    assert_eq!(json["kind"], "report");
    assert_eq!(json["title"], "daily report: 3 runs, 1 failed; 1 thing is wrong");
    assert_eq!(json["report"]["runs"][0]["completed"], 1);
    assert_eq!(json["report"]["runs"][0]["failed"], 1);
    assert_eq!(json["report"]["from"], "2026-11-28T07:00:00Z");
    let expected = "\
From 2026-11-28T07:00:00Z to 2026-11-29T07:00:00Z.

Wrong now:
  2026-11-28T08:00:00Z  backup of db01 failed: the disk /dev/vda cannot be read

Runs:
  backup: 1 completed, 0 skipped, 0 incomplete, 1 failed; 6.00 GiB read, 2.00 MiB stored, 0 B written
  verify: 1 completed, 0 skipped, 0 incomplete, 0 failed; 3.00 GiB read, 1.00 MiB stored, 0 B written

Failed:
  2026-11-28T22:00:00Z  backup of web01: no room\\nat all

Verified:
  2026-11-29T06:59:59Z  verify of web01: all is well

Repositories:
  main: 12 points, 5.00 GiB for 60.0 GiB
";
    assert_eq!(json["text"], expected);
}

#[test]
fn a_report_of_a_bad_day_ends() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &format!("https://localhost:{}/", server.port));
    site.settings.report = Some(at(SEVEN, "UTC"));
    let notifier = site.notifier();
    assert_eq!(notifier.report_due(site.now).unwrap(), None);
    for number in 0..60 {
        let mut record = run(number, RunKind::Backup, RunStatus::Failed, "2026-11-28T22:00:00Z");
        record.outcome.reason = Some("x".repeat(100_000));
        site.history().put(&record).unwrap();
    }
    site.pass(SignedDuration::from_hours(24));
    assert!(notifier.report(Vec::new(), site.now).unwrap());
    until("a report", || !server.received().is_empty());
    let received = server.received().remove(0);
    assert!(received.body.len() < 64 << 10, "{} bytes", received.body.len());
    let json = received.json();
    assert_eq!(json["report"]["failures"].as_array().unwrap().len(), REPORT_LINES_MAX);
    assert_eq!(json["report"]["runs"][0]["failed"], 60);
    assert_eq!(json["report"]["left_out"], true);
}
