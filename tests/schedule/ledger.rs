use crate::tools::{queued_record, task, time};
use afterimage::catalog::{
    History, Pause, RunTrigger, ScheduledSince, SlotBatch, SlotClaim, SlotFate, SlotSkip,
};
use afterimage::schedule::{Decision, Now, Planner, Start, record};
use afterimage::units::RunId;
use jiff::Timestamp;
use std::time::Duration;

fn start(key: &str, due: &str, attempt: u32) -> Start {
    // Only a planner makes them: one with a single slot that is due.
    let now = Now { wall: time(due) - Duration::from_secs(1), boot: Duration::from_secs(9) };
    let mut planner = Planner::new(now, None, vec![task(key, "* * * * * *")], &Default::default());
    planner.tick(now);
    let now = Now { wall: time(due), boot: Duration::from_secs(10) };
    let decisions = planner.tick(now);
    let Some(Decision::Start(start)) = decisions.first() else { panic!("{decisions:?}") };
    let mut start = start.clone();
    start.attempt = attempt;
    start
}

fn claim(key: &str, due: &str, attempt: u32) -> SlotClaim {
    let record = queued_record(&start(key, due, attempt));
    SlotClaim { task: key.to_owned(), due: time(due), attempt, record }
}

fn skip(key: &str, first: &str, last: &str, count: u64, reason: &str) -> SlotSkip {
    let (task, reason) = (key.to_owned(), reason.to_owned());
    SlotSkip { task, first: time(first), last: time(last), count, reason }
}

fn claims(history: &History, claims: Vec<SlotClaim>) -> Vec<bool> {
    history.write_slots(&SlotBatch { claims, ..SlotBatch::default() }).unwrap()
}

fn skips(history: &History, skips: Vec<SlotSkip>) {
    let batch = SlotBatch { skips, ..SlotBatch::default() };
    assert!(history.write_slots(&batch).unwrap().is_empty());
}

fn since(key: &str, since: &str) -> SlotBatch {
    let schedule = "* * * * *".to_owned();
    let scheduled = vec![ScheduledSince { task: key.to_owned(), schedule, since: time(since) }];
    SlotBatch { scheduled, ..SlotBatch::default() }
}

#[test]
fn a_slot_is_claimed_once_and_none_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    let first = claim("a", "2026-06-01T00:00:00Z", 1);
    assert_eq!(claims(&history, vec![first.clone()]), [true]);
    let again = claim("a", "2026-06-01T00:00:00Z", 1);
    let before = claim("a", "2026-05-01T00:00:00Z", 1);
    let other = claim("b", "2026-05-01T00:00:00Z", 1);
    let refused = [again.record.id, before.record.id];
    assert_eq!(claims(&history, vec![again, before, other.clone()]), [false, false, true]);
    for id in refused {
        assert_eq!(history.run(id).unwrap(), None);
    }
    assert_eq!(history.run(other.record.id).unwrap(), Some(other.record));
    // Nor one that was skipped, alone or among others.
    skips(&history, vec![skip("a", "2026-06-01T01:00:00Z", "2026-06-01T05:00:00Z", 5, "missed")]);
    for due in ["2026-06-01T01:00:00Z", "2026-06-01T03:00:00Z", "2026-06-01T05:00:00Z"] {
        assert_eq!(claims(&history, vec![claim("a", due, 1)]), [false]);
    }
    assert_eq!(claims(&history, vec![claim("a", "2026-06-01T06:00:00Z", 1)]), [true]);
}

#[test]
fn a_retry_is_claimed_once_by_the_attempt_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    let due = "2026-06-01T00:00:00Z";
    assert_eq!(claims(&history, vec![claim("a", due, 2)]), [false]);
    assert_eq!(claims(&history, vec![claim("a", due, 1)]), [true]);
    assert_eq!(claims(&history, vec![claim("a", due, 3)]), [false]);
    let second = claim("a", due, 2);
    assert_eq!(claims(&history, vec![second.clone(), claim("a", due, 2)]), [true, false]);
    let lines = history.slots("a", 9).unwrap();
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0].fate, SlotFate::Run { run: second.record.id, attempt: 2 });
}

#[test]
fn skips_for_the_same_reason_are_one_row_and_another_begins_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    for minute in 10..20 {
        let due = format!("2026-06-01T00:{minute}:00Z");
        let reason = if minute < 15 { "paused" } else { "the run before was still going" };
        skips(&history, vec![skip("a", &due, &due, 1, reason)]);
        // Told twice is told once.
        skips(&history, vec![skip("a", &due, &due, 1, reason)]);
    }
    let lines = history.slots("a", 9).unwrap();
    let told: Vec<_> = lines.iter().map(|it| (it.first.to_string(), it.count)).collect();
    assert_eq!(
        told,
        [("2026-06-01T00:15:00Z".to_owned(), 5), ("2026-06-01T00:10:00Z".to_owned(), 5)]
    );
    assert_eq!(lines[0].fate, SlotFate::Skipped("the run before was still going".to_owned()));
}

#[test]
fn a_thousand_claims_with_their_runs_are_one_transaction_that_is_there_after_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    let one = claim("a", "2026-06-01T00:00:00Z", 1);
    let many: Vec<SlotClaim> = (0..1000)
        .map(|index| {
            let mut it = SlotClaim { task: format!("task {index}"), ..one.clone() };
            it.record.id = RunId::random().unwrap();
            it
        })
        .collect();
    assert!(claims(&history, many.clone()).iter().all(|granted| *granted));
    drop(history);
    let history = History::open(folder.path()).unwrap();
    assert!(claims(&history, many).iter().all(|granted| !granted));
    assert_eq!(history.unfinished().unwrap().len(), 1000);
}

#[test]
fn facts_are_what_a_planner_goes_on_from() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    history.write_slots(&since("a", "2026-05-01T00:00:00Z")).unwrap();
    history.write_slots(&since("b", "2026-05-01T00:00:00Z")).unwrap();
    claims(&history, vec![claim("a", "2026-06-01T00:00:00Z", 1)]);
    claims(&history, vec![claim("a", "2026-06-01T00:00:00Z", 2)]);
    skips(&history, vec![skip("a", "2026-06-01T01:00:00Z", "2026-06-01T05:00:00Z", 5, "missed")]);
    let facts = history.slot_facts().unwrap();
    let a = &facts.tasks["a"];
    assert_eq!(a.highest, Some(time("2026-06-01T05:00:00Z")));
    assert_eq!(a.claimed, Some((time("2026-06-01T00:00:00Z"), 2)));
    assert_eq!(facts.tasks["b"].highest, None);
    // Without a mark of the clock, runs tell how late it was.
    assert_eq!((facts.clock, facts.latest), (None, Some(time("2026-06-01T00:00:00Z"))));
    let gone = SlotBatch {
        gone: vec!["b".to_owned()],
        clock: Some("{}".to_owned()),
        ..SlotBatch::default()
    };
    history.write_slots(&gone).unwrap();
    let facts = history.slot_facts().unwrap();
    assert_eq!((facts.tasks.len(), facts.clock.as_deref(), facts.latest), (1, Some("{}"), None));
}

#[test]
fn a_future_that_did_not_come_is_set_aside_and_can_be_claimed_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    history.write_slots(&since("a", "2030-01-01T00:00:00Z")).unwrap();
    claims(&history, vec![claim("a", "2026-06-01T00:00:00Z", 1)]);
    skips(
        &history,
        vec![skip("a", "2026-06-01T01:00:00Z", "2030-06-01T05:00:00Z", 5, "the clock jumped")],
    );
    claims(&history, vec![claim("a", "2030-06-01T06:00:00Z", 1)]);
    let after = time("2026-06-03T00:00:00Z");
    for _ in 0..2 {
        let aside = SlotBatch { aside_after: Some(after), noted: after, ..SlotBatch::default() };
        history.write_slots(&aside).unwrap();
        let facts = history.slot_facts().unwrap();
        assert_eq!(facts.tasks["a"].highest, Some(after));
        assert_eq!(facts.tasks["a"].since, after);
        assert_eq!(claims(&history, vec![claim("a", "2026-06-02T00:00:00Z", 1)]), [false]);
        assert_eq!(claims(&history, vec![claim("a", "2030-06-01T06:00:00Z", 1)]), [true]);
    }
}

#[test]
fn old_slots_go_but_never_the_highest_of_a_task() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    for day in 10..20 {
        claims(&history, vec![claim("a", &format!("2026-06-{day}T00:00:00Z"), 1)]);
        claims(&history, vec![claim("b", &format!("2026-06-{day}T00:00:00Z"), 1)]);
    }
    skips(&history, vec![skip("a", "2026-06-20T00:00:00Z", "2026-06-20T00:00:00Z", 1, "paused")]);
    assert_eq!(history.prune_slots(time("2026-06-15T00:00:00Z")).unwrap(), 10);
    assert_eq!(history.prune_slots(time("2027-01-01T00:00:00Z")).unwrap(), 8);
    // Of one the last run and the last skip, of the other the last run.
    assert_eq!(history.slots("a", 9).unwrap().len(), 2);
    assert_eq!(history.slots("b", 9).unwrap().len(), 1);
    assert_eq!(claims(&history, vec![claim("b", "2026-06-19T00:00:00Z", 1)]), [false]);
}

#[test]
fn pauses_are_kept_until_they_are_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    let mut pause = Pause {
        subject: "machine web01".to_owned(),
        note: Some("moving racks".to_owned()),
        until: Some(time("2026-07-01T00:00:00Z")),
        since: time("2026-06-01T00:00:00Z"),
        by: "uid:0".to_owned(),
    };
    history.put_pause(&pause).unwrap();
    pause.until = None;
    history.put_pause(&pause).unwrap();
    assert_eq!(History::open(folder.path()).unwrap().pauses().unwrap(), [pause]);
    assert!(history.remove_pause("machine web01").unwrap());
    assert!(!history.remove_pause("machine web01").unwrap());
    assert_eq!(history.pauses().unwrap(), []);
}

#[test]
fn decisions_are_written_whole_and_a_taken_slot_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path()).unwrap();
    let now = time("2026-06-01T00:00:00Z");
    assert!(record(&history, now, &[], queued_record).unwrap().granted.is_empty());
    let due = |key: &str| start(key, "2026-06-01T00:00:00Z", 1);
    let decisions =
        [Decision::Start(due("a")), Decision::Start(due("a")), Decision::Start(due("b"))];
    let recorded = record(&history, now, &decisions, queued_record).unwrap();
    let granted: Vec<_> = recorded.granted.iter().map(|(start, _)| start.key.as_str()).collect();
    assert_eq!((granted, recorded.refused.len()), (vec!["a", "b"], 1));
    for (start, record) in recorded.granted {
        let kept = history.run(record.id).unwrap().unwrap();
        assert_eq!(kept.origin.due, Some(start.due));
        assert_eq!(kept.origin.trigger, RunTrigger::Schedule);
    }
    assert_eq!(history.latest_instant().unwrap(), Some::<Timestamp>(now));
}
