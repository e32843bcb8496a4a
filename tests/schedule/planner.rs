use crate::tools::{Bench, after, task, time, timing, when, window};
use afterimage::catalog::{Pause, RunTrigger};
use afterimage::schedule::{
    DECISIONS_MAX, Decision, Outcome, ScheduledTask, SkipReason, Start, Windows,
};
use afterimage::settings::{MissedPolicy, RetrySettings};
use std::time::{Duration, Instant};

fn dues(starts: &[Start]) -> Vec<String> {
    starts.iter().map(|start| start.due.to_string()).collect()
}

fn pause(subject: &str, until: Option<&str>) -> Pause {
    let since = time("2026-01-01T00:00:00Z");
    let until = until.map(time);
    Pause { subject: subject.to_owned(), note: None, until, since, by: "uid:0".to_owned() }
}

#[test]
fn a_slot_begins_once_when_it_is_due() {
    let mut bench = Bench::new("2026-06-01T10:07:00Z", vec![task("a", "*/15 * * * *")]);
    assert_eq!(bench.until("2026-06-01T10:14:59Z"), []);
    let begun = bench.until("2026-06-01T10:15:00Z");
    assert_eq!(dues(&begun), ["2026-06-01T10:15:00Z"]);
    assert_eq!((begun[0].trigger, begun[0].attempt), (RunTrigger::Schedule, 1));
    bench.ended(&begun[0], Outcome::Completed);
    assert_eq!(bench.until("2026-06-01T10:29:59Z"), []);
    assert_eq!(bench.until("2026-06-01T10:30:00Z").len(), 1);
    assert_eq!(bench.skipped(), []);
}

#[test]
fn after_downtime_the_newest_missed_slot_is_caught_up_once() {
    let mut bench = Bench::new("2026-06-01T00:00:00Z", vec![task("a", "0 * * * *")]);
    // Off for three years.
    bench.now.wall = time("2029-06-01T00:30:00Z");
    bench.boot_id = "b".to_owned();
    bench.restart();
    let begun = bench.tick();
    assert_eq!(dues(&begun), ["2029-06-01T00:00:00Z"]);
    assert_eq!(begun[0].trigger, RunTrigger::CatchUp);
    let covered = SkipReason::CoveredBy(time("2029-06-01T00:00:00Z"));
    assert_eq!(bench.skipped(), [("a".to_owned(), 1096 * 24 - 1, covered)]);
    bench.ended(&begun[0], Outcome::Completed);
    assert_eq!(bench.until("2029-06-01T00:59:59Z"), []);
    assert_eq!(bench.until("2029-06-01T01:00:00Z")[0].trigger, RunTrigger::Schedule);
}

#[test]
fn missed_slots_that_are_not_to_be_run_are_recorded_as_missed() {
    let skipping = ScheduledTask { missed: MissedPolicy::Skip, ..task("a", "*/10 * * * *") };
    let mut bench = Bench::new("2026-06-01T00:00:00Z", vec![skipping]);
    bench.pass(3600 + 61);
    assert_eq!(bench.tick(), []);
    assert_eq!(bench.skipped(), [("a".to_owned(), 6, SkipReason::Missed)]);
    // One that is late by a minute is on time.
    bench.pass(600 - 1);
    let begun = bench.tick();
    assert_eq!(dues(&begun), ["2026-06-01T01:10:00Z"]);
    assert_eq!(begun[0].trigger, RunTrigger::Schedule);
}

#[test]
fn a_slot_is_skipped_while_a_run_of_its_task_waits_or_goes_on() {
    let mut bench = Bench::new("2026-06-01T00:00:30Z", vec![task("a", "* * * * *")]);
    let begun = bench.until("2026-06-01T00:01:00Z");
    assert_eq!(bench.until("2026-06-01T00:03:30Z"), []);
    let skipped = bench.skipped();
    assert_eq!(skipped.len(), 2);
    assert!(skipped.iter().all(|skip| skip.2 == SkipReason::StillRunning));
    bench.ended(&begun[0], Outcome::Completed);
    bench.planner.queued("a");
    assert_eq!(bench.until("2026-06-01T00:04:30Z"), []);
    bench.manual_ended("a", Outcome::Final);
    assert_eq!(bench.until("2026-06-01T00:05:00Z").len(), 1);
}

#[test]
fn a_slot_outside_of_its_window_runs_once_when_that_opens_or_is_skipped() {
    let allowed = Windows::new(&[window(22, 6)], "UTC").unwrap();
    let waits = ScheduledTask { allowed: allowed.clone(), ..task("waits", "*/15 * * * *") };
    let skips =
        ScheduledTask { allowed, missed: MissedPolicy::Skip, ..task("skips", "30 12 * * *") };
    let mut bench = Bench::new("2026-06-01T12:10:00Z", vec![waits, skips]);
    assert_eq!(bench.until("2026-06-01T21:59:59Z"), []);
    assert_eq!(bench.skipped(), [("skips".to_owned(), 1, SkipReason::NotAllowed)]);
    bench.restart();
    let begun = bench.until("2026-06-01T22:00:00Z");
    assert_eq!(dues(&begun), ["2026-06-01T22:00:00Z"]);
    assert_eq!(bench.skipped()[0].1, 39);
    // A slot of the day alone waits for the night, once.
    let allowed = Windows::new(&[window(22, 6)], "UTC").unwrap();
    let daily = ScheduledTask { allowed, ..task("daily", "30 12 * * *") };
    let mut bench = Bench::new("2026-06-01T12:10:00Z", vec![daily]);
    let begun = bench.until("2026-06-02T12:00:00Z");
    assert_eq!(dues(&begun), ["2026-06-01T12:30:00Z"]);
    assert_eq!(begun[0].trigger, RunTrigger::CatchUp);
}

#[test]
fn what_is_paused_is_skipped_and_not_caught_up() {
    let mut held = task("a", "* * * * *");
    held.subjects = vec!["machine web01".to_owned()];
    let mut bench = Bench::new("2026-06-01T00:00:30Z", vec![held, task("b", "* * * * *")]);
    bench.planner.set_pauses(&[pause("machine web01", Some("2026-06-01T00:03:30Z"))]);
    let begun = bench.until("2026-06-01T00:01:30Z");
    assert_eq!(begun.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["b"]);
    let subject = "machine web01".to_owned();
    assert_eq!(bench.skipped(), [("a".to_owned(), 1, SkipReason::Paused { subject })]);
    bench.restart();
    bench.planner.set_pauses(&[pause("machine web01", Some("2026-06-01T00:03:30Z"))]);
    let begun = bench.until("2026-06-01T00:04:00Z");
    assert_eq!(begun.iter().filter(|it| it.key == "a").count(), 1);
    begun.iter().for_each(|start| bench.ended(start, Outcome::Completed));
    bench.planner.set_pauses(&[pause("all", None)]);
    assert_eq!(bench.until("2026-06-01T00:10:00Z"), []);
    assert_eq!(bench.planner.upcoming()[0].paused.as_deref(), Some("all"));
}

#[test]
fn a_failed_run_is_tried_again_later_and_later_until_a_newer_slot_comes() {
    let mut bench = Bench::new("2026-06-01T00:30:00Z", vec![task("a", "0 */6 * * *")]);
    let mut start = bench.until("2026-06-01T06:00:00Z").remove(0);
    for (attempt, least_s, most_s) in [(2, 45, 60), (3, 90, 120), (4, 180, 240)] {
        let failed = bench.now.wall;
        bench.ended(&start, Outcome::Retryable);
        assert!(bench.planner.upcoming()[0].is_retry);
        start = bench.next("2026-06-01T11:59:00Z").remove(0);
        assert_eq!((start.attempt, start.trigger), (attempt, RunTrigger::Retry));
        assert_eq!(dues(std::slice::from_ref(&start)), ["2026-06-01T06:00:00Z"]);
        let waited = bench.now.wall.as_second() - failed.as_second();
        assert!((least_s..=most_s + 1).contains(&waited), "{attempt}: {waited}");
    }
    // It was tried often enough.
    bench.ended(&start, Outcome::Retryable);
    let begun = bench.until("2026-06-01T12:00:00Z");
    assert_eq!(dues(&begun), ["2026-06-01T12:00:00Z"]);
    // A newer slot comes before the next try.
    let retry = RetrySettings {
        wait: Duration::from_secs(36_000),
        wait_max: Duration::from_secs(36_000),
        ..RetrySettings::default()
    };
    bench.tasks[0].retry = retry;
    bench.planner.reload(bench.now, bench.tasks.clone());
    bench.ended(&begun[0], Outcome::Retryable);
    let begun = bench.until("2026-06-02T05:00:00Z");
    assert_eq!(dues(&begun), ["2026-06-01T18:00:00Z"]);
    // What cannot be mended by trying again is not tried again.
    bench.ended(&begun[0], Outcome::Final);
    assert_eq!(dues(&bench.until("2026-06-02T06:00:00Z")), ["2026-06-02T06:00:00Z"]);
}

#[test]
fn a_retry_survives_a_restart_and_ends_with_a_run_that_a_person_began() {
    let mut bench = Bench::new("2026-06-01T00:30:00Z", vec![task("a", "0 */6 * * *")]);
    let start = bench.until("2026-06-01T06:00:00Z").remove(0);
    bench.restart();
    bench.planner.restore_failed("a", start.due, 1, bench.now);
    let again = bench.until("2026-06-01T06:05:00Z");
    assert_eq!((again[0].due, again[0].attempt), (start.due, 2));
    bench.ended(&again[0], Outcome::Retryable);
    bench.planner.queued("a");
    bench.manual_ended("a", Outcome::Completed);
    assert_eq!(bench.until("2026-06-01T11:59:00Z"), []);
    // Only of the last slot.
    bench.planner.restore_failed("a", time("2026-06-01T05:00:00Z"), 1, bench.now);
    assert!(!bench.planner.upcoming()[0].is_retry);
}

#[test]
fn replicas_follow_each_backup_and_several_backups_lead_to_one_run() {
    let tasks =
        vec![task("backup", "*/10 * * * *"), after("one", "backup"), after("two", "backup")];
    let mut bench = Bench::new("2026-06-01T00:05:00Z", tasks);
    let backup = bench.until("2026-06-01T00:10:00Z");
    bench.pass(5);
    bench.ended(&backup[0], Outcome::Completed);
    let mut followers = bench.tick();
    followers.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(dues(&followers), ["2026-06-01T00:10:05Z"; 2]);
    assert!(followers.iter().all(|it| it.trigger == RunTrigger::AfterBackup));
    // One goes on for long: two more backups lead to one more run of it, when it has ended.
    bench.ended(&followers[1], Outcome::Completed);
    for instant in ["2026-06-01T00:20:00Z", "2026-06-01T00:30:00Z"] {
        let backup = bench.until(instant);
        bench.ended(&backup[0], Outcome::Completed);
        let begun = bench.tick();
        assert_eq!(begun.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["two"]);
        bench.ended(&begun[0], Outcome::Completed);
    }
    bench.ended(&followers[0], Outcome::Completed);
    let begun = bench.tick();
    assert_eq!(begun.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["one"]);
    bench.ended(&begun[0], Outcome::Completed);
    assert_eq!(bench.until("2026-06-01T00:39:00Z"), []);
    // A failed backup leads to none; one of before a restart does when it is told.
    let backup = bench.until("2026-06-01T00:40:00Z");
    bench.ended(&backup[0], Outcome::Final);
    assert_eq!(bench.tick(), []);
    bench.restart();
    bench.planner.trigger_after("backup", bench.now);
    assert_eq!(bench.tick().len(), 2);
}

#[test]
fn new_settings_leave_alone_what_did_not_change() {
    let tasks =
        vec![task("same", "0 * * * *"), task("new", "0 * * * *"), task("gone", "0 * * * *")];
    let mut bench = Bench::new("2026-06-01T00:30:00Z", tasks);
    let begun = bench.until("2026-06-01T01:00:00Z");
    assert_eq!(begun.len(), 3);
    bench.ended(&begun[1], Outcome::Completed);
    bench.pass(3600 + 1800);
    bench.tasks = vec![task("same", "0 * * * *"), task("new", "15 * * * *")];
    bench.planner.reload(bench.now, bench.tasks.clone());
    assert_eq!(bench.tick(), []);
    let mut skipped = bench.skipped();
    skipped.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(skipped[0], ("gone".to_owned(), 1, SkipReason::Rescheduled));
    assert_eq!(skipped[1], ("new".to_owned(), 1, SkipReason::Rescheduled));
    assert_eq!(skipped[2], ("same".to_owned(), 1, SkipReason::StillRunning));
    assert!(!bench.ledger_knows("gone"));
    let begun = bench.until("2026-06-01T03:20:00Z");
    assert_eq!(dues(&begun), ["2026-06-01T03:15:00Z"]);
    // Also when the settings changed while nothing ran.
    bench.tasks = vec![task("new", "17 * * * *")];
    bench.restart();
    let begun = bench.until("2026-06-01T04:20:00Z");
    assert_eq!(dues(&begun), ["2026-06-01T04:17:00Z"]);
}

#[test]
fn what_could_not_be_written_is_decided_again() {
    let tasks = vec![task("a", "0 * * * *"), task("b", "0 * * * *"), after("c", "a")];
    let mut bench = Bench::new("2026-06-01T00:30:00Z", tasks);
    bench.planner.queued("b");
    bench.pass(1800);
    let decisions = bench.planner.tick(bench.now);
    assert_eq!(decisions.len(), 3, "{decisions:?}");
    bench.planner.undo(&decisions);
    bench.pass(1);
    let begun = bench.tick();
    assert_eq!(dues(&begun), ["2026-06-01T01:00:00Z"]);
    assert_eq!(bench.skipped(), [("b".to_owned(), 1, SkipReason::StillRunning)]);
    bench.ended(&begun[0], Outcome::Retryable);
    bench.pass(60);
    let decisions = bench.planner.tick(bench.now);
    assert!(matches!(&decisions[0], Decision::Start(start) if start.attempt == 2));
    bench.planner.undo(&decisions);
    bench.pass(1);
    let begun = bench.tick();
    assert_eq!(begun[0].attempt, 2);
    bench.ended(&begun[0], Outcome::Completed);
    let decisions = bench.planner.tick(bench.now);
    bench.planner.undo(&decisions);
    bench.pass(1);
    assert_eq!(bench.tick()[0].key, "c");
}

#[test]
fn a_delay_is_the_same_each_time_and_ends_before_the_next_slot() {
    let jittered = |key: &str| ScheduledTask {
        jitter: Duration::from_secs(3600),
        ..task(key, "*/10 * * * *")
    };
    let keys: Vec<String> = (0..40).map(|index| format!("task {index}")).collect();
    let tasks: Vec<ScheduledTask> = keys.iter().map(|key| jittered(key)).collect();
    let mut bench = Bench::new("2026-06-01T00:05:00Z", tasks);
    let mut offsets = Vec::new();
    for _ in 0..2 {
        let begun = bench.until("2026-06-01T00:19:59Z");
        assert_eq!(begun.len(), keys.len());
        assert!(begun.iter().all(|start| start.due == time("2026-06-01T00:10:00Z")));
        let begun_at: Vec<_> = keys
            .iter()
            .map(|key| bench.begun_at(begun.iter().find(|it| it.key == *key).unwrap()))
            .collect();
        offsets.push(begun_at);
        bench = Bench::new("2026-06-01T00:05:00Z", bench.tasks.clone());
    }
    assert_eq!(offsets[0], offsets[1]);
    offsets[0].sort_unstable();
    offsets[0].dedup();
    assert!(offsets[0].len() > 20, "{} of 40 differ", offsets[0].len());
    assert!(*offsets[0].last().unwrap() <= time("2026-06-01T00:15:00Z"));
}

#[test]
fn three_thousand_tasks_cost_nothing_while_nothing_is_due() {
    let zones = ["Europe/Berlin", "America/New_York", "UTC"];
    let tasks: Vec<ScheduledTask> = (0..3000)
        .map(|index| {
            let when = when("0 2 * * *", zones[index % 3]);
            ScheduledTask::new(format!("task {index}"), when, &timing("UTC")).unwrap()
        })
        .collect();
    let mut bench = Bench::new("2026-06-01T12:00:00Z", tasks);
    let started = Instant::now();
    for _ in 0..100_000 {
        bench.now.wall += Duration::from_millis(10);
        bench.now.boot += Duration::from_millis(10);
        assert!(bench.planner.tick(bench.now).len() <= 1);
    }
    // Some microseconds each, on a busy machine.
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // All that is due at once is decided in portions.
    bench.pass(2 * 86_400);
    let mut begun = 0;
    let mut ticks = 0;
    while begun < 3000 {
        let now = bench.tick().len();
        assert!(now > 0 && now <= DECISIONS_MAX);
        begun += now;
        ticks += 1;
    }
    assert!((3..10).contains(&ticks), "{ticks}");
    assert_eq!(bench.skips.iter().map(|skip| skip.count).sum::<u64>(), 3000);
}
