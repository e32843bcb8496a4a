//! What is told, when, and how often: also over restarts, and while channels fail.

use crate::common::name;
use crate::http_server::{Answer, HttpServer};
use crate::site::{Site, failed, key, until, well};
use afterimage::notify::{ChannelState, Notifier, TRIED_FOR, WAITING_MAX};
use afterimage::settings::NotifyKind;
use jiff::SignedDuration;
use std::collections::BTreeSet;

fn url(server: &HttpServer) -> String {
    format!("https://localhost:{}/", server.port)
}

fn state(notifier: &Notifier) -> ChannelState {
    notifier.channels().unwrap().remove(0)
}

fn is_idle(notifier: &Notifier) -> bool {
    notifier.channels().unwrap().iter().all(|state| state.record.waiting == 0)
}

#[test]
fn a_condition_is_told_when_it_begins_and_when_it_ends_also_over_restarts() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    for found in [failed("web01"), failed("web01"), well("web02"), well("web01"), well("web01")] {
        let notifier = site.notifier();
        for _ in 0..3 {
            notifier.observe(std::slice::from_ref(&found), site.now).unwrap();
            site.pass(SignedDuration::from_mins(1));
            notifier.tick(site.now).unwrap();
        }
        until("an empty outbox", || is_idle(&notifier));
    }
    assert_eq!(server.titles(), ["backup of web01 failed", "backup of web01 succeeds again"]);
    let [began, ended] = &server.received()[..] else { panic!() };
    assert_eq!(ended.json()["kind"], "ended");
    assert_eq!(ended.json()["condition"]["began"], began.json()["id"]);
    assert_ne!(ended.json()["id"], began.json()["id"]);
    assert_eq!(state(&site.notifier()).record.delivered, 2);
}

#[test]
fn several_of_one_condition_at_once_are_told_in_their_order() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    let notifier = site.notifier();
    let found = [failed("web01"), failed("web02"), well("web01"), failed("web01")];
    notifier.observe(&found, site.now).unwrap();
    until("an empty outbox", || is_idle(&notifier));
    let expected = [
        "backup of web01 failed",
        "backup of web02 failed",
        "backup of web01 succeeds again",
        "backup of web01 failed",
    ];
    assert_eq!(server.titles(), expected);
    let open: Vec<_> = notifier.open().into_iter().map(|condition| condition.key).collect();
    assert_eq!(open, [key("web01"), key("web02")]);
}

#[test]
fn what_fails_is_tried_again_with_growing_waits_and_arrives_once_in_order() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    server.next([Answer::Status(500), Answer::ClosesEarly, Answer::Redirect("/".into())]);
    let mut notifier = site.notifier();
    notifier.observe(&[failed("web01"), failed("web02")], site.now).unwrap();
    for (failures, wait) in [(1, 10), (2, 20), (3, 40)] {
        until("a failure", || state(&notifier).record.failures == failures);
        let next = state(&notifier).record.next.unwrap();
        assert_eq!(next.duration_since(site.now), SignedDuration::from_secs(wait));
        // Neither a restart nor a moment less than the wait brings the next attempt.
        notifier = site.notifier();
        site.pass(SignedDuration::from_secs(wait - 1));
        notifier.tick(site.now).unwrap();
        assert_eq!(server.received().len(), failures as usize);
        site.pass(SignedDuration::from_secs(1));
        notifier.tick(site.now).unwrap();
    }
    until("an empty outbox", || is_idle(&notifier));
    let (one, two) = ("backup of web01 failed", "backup of web02 failed");
    assert_eq!(server.titles(), [one, one, one, one, two]);
    let ids: BTreeSet<String> =
        server.received().iter().map(|received| received.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(state(&notifier).record.last_error, None);
}

#[test]
fn a_message_that_nobody_takes_for_a_day_is_given_up_with_a_record() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    server.always(Answer::Status(503));
    let notifier = site.notifier();
    let began = site.now;
    notifier.observe(&[failed("web01")], site.now).unwrap();
    let mut attempts = 1;
    loop {
        until("an attempt", || state(&notifier).record.failures == attempts);
        if state(&notifier).record.waiting == 0 {
            break;
        }
        site.now = state(&notifier).record.next.unwrap();
        notifier.tick(site.now).unwrap();
        attempts += 1;
    }
    let tried = site.now.duration_since(began);
    assert!(tried >= TRIED_FOR && tried < TRIED_FOR + SignedDuration::from_hours(1), "{tried}");
    assert!((40..80).contains(&attempts), "{attempts} attempts");
    let record = state(&notifier).record;
    assert_eq!((record.given_up, record.delivered), (1, 0));
    assert!(record.last_error.unwrap().contains("503"));
    // The next one has its turn, and what was given up stays so.
    server.always(Answer::Status(200));
    notifier.observe(&[well("web01")], site.now).unwrap();
    site.pass(SignedDuration::from_mins(30));
    notifier.tick(site.now).unwrap();
    until("an empty outbox", || is_idle(&notifier));
    assert_eq!(server.titles().last().unwrap(), "backup of web01 succeeds again");
    assert_eq!(state(&notifier).record.delivered, 1);
}

#[test]
fn a_clock_that_was_set_back_does_not_silence_a_channel() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    server.next([Answer::Status(500)]);
    let notifier = site.notifier();
    notifier.observe(&[failed("web01")], site.now).unwrap();
    until("a failure", || state(&notifier).record.failures == 1);
    site.pass(SignedDuration::from_hours(-24 * 365));
    notifier.tick(site.now).unwrap();
    until("an empty outbox", || is_idle(&notifier));
    assert_eq!(server.received().len(), 2);
}

#[test]
fn a_channel_that_hangs_holds_up_neither_others_nor_the_end() {
    let mut site = Site::new();
    let (silent, server) = (HttpServer::start(site.tls()), HttpServer::start(site.tls()));
    site.webhook("a", &url(&silent));
    site.webhook("b", &url(&server));
    silent.always(Answer::Silence);
    let notifier = site.notifier();
    notifier.observe(&[failed("web01")], site.now).unwrap();
    until("both requests", || {
        silent.received().len() == 1 && notifier.channels().unwrap()[1].record.delivered == 1
    });
    let began = std::time::Instant::now();
    drop(notifier);
    assert!(began.elapsed() < site.sender.attempt_max / 2);
    silent.always(Answer::Status(200));
    let notifier = site.notifier();
    until("an empty outbox", || is_idle(&notifier));
    assert_eq!((silent.received().len(), server.received().len()), (2, 1));
}

#[test]
fn an_outbox_that_is_full_drops_the_oldest_and_counts_them() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    server.always(Answer::Status(500));
    let notifier = site.notifier();
    let all: Vec<_> = (0..WAITING_MAX + 7).map(|n| failed(&format!("m{n:04}"))).collect();
    notifier.observe(&all, site.now).unwrap();
    let record = state(&notifier).record;
    assert_eq!((record.waiting, record.dropped), (u64::from(WAITING_MAX), 7));
    until("a failure", || state(&notifier).record.failures == 1);
    assert_eq!(server.titles(), ["backup of m0007 failed"]);
}

#[test]
fn a_channel_is_told_only_what_it_wants() {
    let mut site = Site::new();
    let (server, other) = (HttpServer::start(site.tls()), HttpServer::start(site.tls()));
    site.webhook("a", &url(&server)).on = BTreeSet::from([NotifyKind::Failure]);
    site.webhook("b", &url(&other)).on = BTreeSet::from([NotifyKind::Late, NotifyKind::Recovery]);
    let notifier = site.notifier();
    notifier.observe(&[failed("web01"), well("web01")], site.now).unwrap();
    until("an empty outbox", || is_idle(&notifier));
    assert_eq!(server.titles(), ["backup of web01 failed"]);
    assert!(other.received().is_empty());
}

#[test]
fn a_reload_adds_channels_and_forgets_those_that_are_gone() {
    let mut site = Site::new();
    let (down, server) = (HttpServer::start(site.tls()), HttpServer::start(site.tls()));
    down.always(Answer::Status(500));
    site.webhook("a", &url(&down));
    let notifier = site.notifier();
    notifier.observe(&[failed("web01")], site.now).unwrap();
    until("a failure", || state(&notifier).record.failures == 1);
    site.settings.webhooks.clear();
    site.webhook("b", &url(&server));
    notifier.reload(&site.settings, site.now).unwrap();
    site.pass(SignedDuration::from_hours(1));
    notifier.tick(site.now).unwrap();
    notifier.observe(&[well("web01")], site.now).unwrap();
    until("a message", || server.received().len() == 1 && is_idle(&notifier));
    assert_eq!(down.received().len(), 1);
    let names: Vec<_> =
        notifier.channels().unwrap().into_iter().map(|state| state.channel).collect();
    assert_eq!(names, ["webhook b"]);
    // The address of a channel of the same name may change while it is tried.
    site.settings.webhooks.get_mut(&name("b")).unwrap().url = url(&down).into();
    notifier.reload(&site.settings, site.now).unwrap();
    notifier.observe(&[failed("web01")], site.now).unwrap();
    until("a request", || down.received().len() == 2);
}

#[test]
fn conditions_of_what_is_gone_end_without_a_word() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    let notifier = site.notifier();
    notifier.observe(&[failed("web01"), failed("web02")], site.now).unwrap();
    notifier.forget(|it| *it != key("web01"), site.now).unwrap();
    until("an empty outbox", || is_idle(&notifier));
    drop(notifier);
    let notifier = site.notifier();
    assert_eq!(notifier.open().len(), 1);
    notifier.observe(&[well("web01"), failed("web02")], site.now).unwrap();
    until("an empty outbox", || is_idle(&notifier));
    assert_eq!(server.received().len(), 2);
}

#[test]
fn a_condition_that_comes_and_goes_is_told_of_as_unsteady_and_then_when_it_stays() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    let mut notifier = site.notifier();
    for _ in 0..50 {
        notifier.observe(&[failed("web01")], site.now).unwrap();
        site.pass(SignedDuration::from_mins(1));
        notifier.observe(&[well("web01")], site.now).unwrap();
        notifier.tick(site.now).unwrap();
        site.pass(SignedDuration::from_mins(1));
    }
    until("an empty outbox", || is_idle(&notifier));
    assert_eq!(server.received().len(), 7);
    assert!(server.received()[6].json()["text"].as_str().unwrap().contains("comes and goes"));
    notifier = site.notifier();
    site.pass(SignedDuration::from_hours(1));
    notifier.tick(site.now).unwrap();
    until("the end", || server.received().len() == 8);
    assert_eq!(server.titles().last().unwrap(), "backup of web01 succeeds again");
    // What was forgotten in the end takes no room.
    site.pass(SignedDuration::from_hours(7));
    notifier.tick(site.now).unwrap();
    until("an empty outbox", || is_idle(&notifier));
    drop(notifier);
    assert!(site.history().conditions().unwrap().is_empty());
}

#[test]
fn no_secret_shows_in_what_is_printed_for_debugging() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &url(&server));
    let notifier = site.notifier();
    assert_eq!(notifier.test(None, site.now).unwrap()[0].problem, None);
    notifier.observe(&[failed("web01")], site.now).unwrap();
    assert!(!format!("{notifier:?}").contains("hush-hush"));
    drop(notifier);
    for entry in std::fs::read_dir(site.folder.path()).unwrap() {
        let path = entry.unwrap().path();
        let is_state = path.file_name().unwrap().to_string_lossy().starts_with("history");
        let holds = |text: &[u8]| {
            is_state && std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text)
        };
        assert!(!holds(b"hush-hush"), "{}", path.display());
    }
}

#[test]
fn a_test_says_of_each_channel_whether_it_went_and_may_be_of_one_only() {
    let mut site = Site::new();
    let (server, down) = (HttpServer::start(site.tls()), HttpServer::start(site.tls()));
    down.always(Answer::Status(500));
    site.webhook("a", &url(&server));
    site.webhook("b", &url(&down)).on = BTreeSet::from([NotifyKind::Report]);
    let notifier = site.notifier();
    let lines = notifier.test(None, site.now).unwrap();
    assert_eq!((lines[0].channel.as_str(), &lines[0].problem), ("webhook a", &None));
    assert!(lines[1].problem.as_ref().unwrap().contains("500"));
    for name in ["a", "webhook a"] {
        assert_eq!(notifier.test(Some(name), site.now).unwrap().len(), 1);
    }
    let error = notifier.test(Some("mail a"), site.now).unwrap_err();
    assert!(error.to_string().contains("no channel mail a"), "{error}");
    assert_eq!((server.received().len(), down.received().len()), (3, 1));
    assert_eq!(server.received()[0].json()["kind"], "test");
    // What is tested is not kept.
    assert_eq!(state(&notifier).record.delivered, 0);
}
