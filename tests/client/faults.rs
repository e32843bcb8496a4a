//! Peers that misbehave: none of them holds the caller for long, or is believed.

use crate::peer::{Asked, Peer, STREAM, json};
use afterimage::client::{Client, ClientError, Followed, Patience, Watcher, Wish};
use afterimage::report::{Event, ExitCode, RunDetail};
use afterimage::units::RunId;
use serde_json::{Value, json as value};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const RUN: &str = "07070707070707070707070707070707";

fn client(peer: &Peer) -> Client {
    let short = Duration::from_millis(300);
    let patience = Patience { answer: short, silence: short, gone: 3 * short, cut_off: short };
    Client::new(peer.socket()).with_patience(patience)
}

fn run() -> RunId {
    RUN.parse().unwrap()
}

/// Sees numbers of events, and wishes what it is told to.
struct Eyes {
    seen: Vec<u64>,
    wish: Wish,
    record: Option<RunDetail>,
}

impl Eyes {
    fn new() -> Self {
        Self { seen: Vec::new(), wish: Wish::GoOn, record: None }
    }
}

impl Watcher for Eyes {
    fn see(&mut self, event: &Event) {
        self.seen.push(event.id);
    }

    fn wish(&mut self) -> Wish {
        self.wish
    }

    fn record(&self, _: RunId) -> Option<RunDetail> {
        self.record.clone()
    }
}

/// The run as its record tells.
fn record(status: &str, exit: Option<u8>) -> Value {
    let mut record = value!({
        "run": RUN, "kind": "backup", "status": status, "machine": "web01", "trigger": "manual",
        "started": "2026-11-22T09:00:00Z", "bytes_read": 1, "bytes_changed": 2, "bytes_new": 3,
        "bytes_stored": 4, "bytes_written": 5,
    });
    if let Some(exit) = exit {
        record["exit"] = exit.into();
        record["ended"] = "2026-11-22T09:00:07Z".into();
        record["duration_s"] = 7.0.into();
        record["reason"] = "the disk is gone".into();
    }
    record
}

/// An event of the run, as it is sent.
fn event(instance: &str, number: u64, what: &Value) -> String {
    let event = value!({"id": number, "time": "2026-11-22T09:00:00Z", "run": RUN, "what": what});
    format!("id: {instance}-{number}\ndata: {event}\n\n")
}

fn reloaded() -> Value {
    value!({"event": "reloaded"})
}

fn ended(exit: u8) -> Value {
    value!({
        "event": "ended", "exit": exit, "error": "stopped on request",
        "summary": {
            "run": RUN, "kind": "backup", "status": "failed", "bytes_read": 0, "bytes_changed": 0,
            "bytes_new": 0, "bytes_stored": 0, "bytes_written": 0, "duration_s": 1.0,
            "started": "2026-11-22T09:00:00Z", "ended": "2026-11-22T09:00:01Z",
        },
    })
}

fn say(mut stream: &UnixStream, text: &str) {
    let _ = stream.write_all(text.as_bytes());
}

#[track_caller]
fn exit_of(followed: Result<Followed, ClientError>) -> ExitCode {
    match followed {
        Ok(Followed::Ended(end)) => end.exit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn where_nobody_listens_there_is_no_daemon() {
    let peer = Peer::new();
    assert!(matches!(client(&peer).status(), Err(ClientError::NoDaemon { .. })));
    // A socket that its process left behind.
    drop(std::os::unix::net::UnixListener::bind(peer.socket()).unwrap());
    assert!(matches!(client(&peer).status(), Err(ClientError::NoDaemon { .. })));
}

#[test]
fn what_is_no_answer_is_not_understood() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned(),
        json(200, &value!({"version": 7})),
        json(500, &value!("no")),
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", "a: b\r\n".repeat(10_000)),
    ] {
        let peer = Peer::new().says(answer.clone());
        let error = client(&peer).status().unwrap_err();
        assert!(matches!(error, ClientError::NotUnderstood { .. }), "{answer:.60}: {error:?}");
    }
}

#[test]
fn half_an_answer_is_none() {
    for answer in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{"] {
        let error = client(&Peer::new().says(answer)).status().unwrap_err();
        assert!(matches!(error, ClientError::Io { .. }), "{answer}: {error:?}");
        assert!(error.is_passing());
    }
}

#[test]
fn an_answer_without_end_fills_no_memory_and_takes_no_time() {
    let peer = Peer::new();
    peer.serve(|_, stream| {
        say(&stream, "HTTP/1.1 200 OK\r\n\r\n");
        let piece = " ".repeat(1 << 16);
        while (&stream).write_all(piece.as_bytes()).is_ok() {}
    });
    let patient = Patience { answer: Duration::from_secs(60), ..Patience::default() };
    let error = client(&peer).with_patience(patient).status().unwrap_err();
    assert!(matches!(error, ClientError::NotUnderstood { .. }), "{error:?}");
}

#[test]
fn one_that_is_slow_or_says_nothing_is_given_up() {
    for pause in [20, 100_000] {
        let peer = Peer::new();
        peer.serve(move |_, stream| {
            for byte in json(200, &value!({"version": "1".repeat(1000)})).bytes() {
                if (&stream).write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(pause));
            }
        });
        let began = Instant::now();
        let error = client(&peer).status().unwrap_err();
        assert!(matches!(error, ClientError::Silent { .. }), "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn a_refusal_says_why_and_with_which_exit_code() {
    let report = value!({
        "type": "about:blank", "title": "Service Unavailable", "status": 503, "exit": 11,
        "detail": "the queue is full; try again later",
    });
    let peer = Peer::new().says(json(503, &report));
    match client(&peer).cancel(run()).unwrap_err() {
        ClientError::Refused(report) => {
            assert_eq!(report.code, ExitCode::Busy);
            assert_eq!(report.message, "the queue is full; try again later");
        }
        other => panic!("{other:?}"),
    }
    let peer = Peer::new().says(json(403, &value!({"detail": "no"})));
    assert!(matches!(client(&peer).status(), Err(ClientError::Forbidden { .. })));
}

/// Answers `GET …/events` with `events`, and the run itself with `detail`.
fn serve_run(
    peer: &Peer,
    events: impl Fn(&Asked, &UnixStream) + Send + Sync + 'static,
    detail: impl Fn() -> Value + Send + Sync + 'static,
) {
    peer.serve(move |asked, stream| match asked.line.as_str() {
        line if line.ends_with("/events") => {
            say(&stream, STREAM);
            events(asked, &stream);
        }
        line if line.ends_with("/cancel") => say(&stream, "HTTP/1.1 204 x\r\n\r\n"),
        _ => say(&stream, &json(200, &detail())),
    });
}

#[test]
fn a_lost_connection_is_made_anew_and_nothing_is_seen_twice() {
    let peer = Peer::new();
    serve_run(
        &peer,
        |asked, stream| match asked.after.as_deref() {
            None => {
                say(stream, &event("a", 1, &reloaded()));
                say(stream, &event("a", 2, &reloaded()));
                // Cut in the middle of the third.
                say(stream, &event("a", 3, &reloaded())[..20]);
            }
            Some(after) => {
                assert_eq!(after, "a-2");
                // More than was asked for.
                for number in 1..=3 {
                    say(stream, &event("a", number, &reloaded()));
                }
                say(stream, &event("a", 4, &ended(130)));
            }
        },
        || record("running", None),
    );
    let mut eyes = Eyes::new();
    assert_eq!(exit_of(client(&peer).follow(run(), &mut eyes)), ExitCode::Interrupted);
    assert_eq!(eyes.seen, [1, 2, 3, 4]);
}

#[test]
fn after_a_gap_the_record_says_how_the_run_ended() {
    let peer = Peer::new();
    serve_run(
        &peer,
        |_, stream| say(stream, "event: gap\ndata: {}\n\n"),
        || record("incomplete", Some(3)),
    );
    let mut eyes = Eyes::new();
    let Followed::Ended(end) = client(&peer).follow(run(), &mut eyes).unwrap() else { panic!() };
    assert_eq!((end.exit, end.error), (ExitCode::Incomplete, None));
    assert_eq!(end.summary.counts.stored, 4);
    assert_eq!(end.summary.machine.unwrap().as_str(), "web01");
}

#[test]
fn a_daemon_that_is_started_anew_in_the_middle_still_tells_the_exit_code() {
    let peer = Peer::new();
    serve_run(
        &peer,
        |_, stream| say(stream, &event("a", 7, &reloaded())),
        || record("running", None),
    );
    let socket = peer.socket();
    std::thread::scope(|scope| {
        let following = scope.spawn(|| {
            let mut eyes = Eyes::new();
            let followed = client(&peer).follow(run(), &mut eyes);
            (exit_of(followed), eyes.seen)
        });
        while peer.asked().is_empty() {
            std::thread::yield_now();
        }
        std::fs::remove_file(&socket).unwrap();
        // The one that comes after it counts its events from 1, and has the record.
        serve_run(
            &peer,
            |_, stream| say(stream, "event: gap\ndata: {}\n\n"),
            || record("failed", Some(12)),
        );
        let (exit, seen) = following.join().unwrap();
        assert_eq!(exit, ExitCode::WrongKey);
        assert!(seen.is_empty() || seen == [7], "{seen:?}");
    });
}

#[test]
fn a_daemon_that_stays_away_is_waited_for_no_longer_than_the_limit() {
    let peer = Peer::new();
    let began = Instant::now();
    let mut eyes = Eyes::new();
    let error = client(&peer).follow(run(), &mut eyes).unwrap_err();
    assert!(matches!(error, ClientError::NoDaemon { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(20));
    // Unless the history knows already.
    eyes.record = Some(serde_json::from_value(record("failed", Some(1))).unwrap());
    assert_eq!(exit_of(client(&peer).follow(run(), &mut eyes)), ExitCode::Failed);
}

#[test]
fn a_run_that_was_cut_off_and_stays_so_has_failed() {
    let peer = Peer::new();
    serve_run(
        &peer,
        |_, _| {},
        || {
            let mut record = record("running", None);
            record["cut_off"] = true.into();
            record
        },
    );
    let mut eyes = Eyes::new();
    let Followed::Ended(end) = client(&peer).follow(run(), &mut eyes).unwrap() else { panic!() };
    assert_eq!(end.exit, ExitCode::Failed);
    assert!(end.error.unwrap().contains("the daemon ended before the run 070707070707 did"));
}

#[test]
fn the_wish_to_stop_is_told_once_and_the_end_is_waited_for() {
    let peer = Peer::new();
    static CANCELLED: AtomicBool = AtomicBool::new(false);
    peer.serve(|asked, stream| match asked.line.as_str() {
        line if line.ends_with("/events") => {
            say(&stream, STREAM);
            while !CANCELLED.load(Ordering::Relaxed) {
                say(&stream, ": alive\n\n");
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(200));
            say(&stream, &event("a", 1, &ended(130)));
        }
        _ => {
            CANCELLED.store(true, Ordering::Relaxed);
            say(&stream, "HTTP/1.1 204 x\r\n\r\n");
        }
    });
    let mut eyes = Eyes { wish: Wish::Stop, ..Eyes::new() };
    assert_eq!(exit_of(client(&peer).follow(run(), &mut eyes)), ExitCode::Interrupted);
    let cancel = format!("POST /v1/runs/{RUN}/cancel");
    assert_eq!(peer.lines().iter().filter(|line| **line == cancel).count(), 1);
}

#[test]
fn whoever_leaves_is_not_held_by_a_stream_without_end() {
    let peer = Peer::new();
    static SENT: AtomicUsize = AtomicUsize::new(0);
    serve_run(
        &peer,
        |_, stream| {
            let mut number = 0;
            let mut stream = stream;
            while stream.write_all(event("a", number, &reloaded()).as_bytes()).is_ok() {
                number += 1;
                SENT.fetch_add(1, Ordering::Relaxed);
            }
        },
        || record("running", None),
    );
    struct Leaver(usize);
    impl Watcher for Leaver {
        fn see(&mut self, _: &Event) {
            self.0 += 1;
        }
        fn wish(&mut self) -> Wish {
            if self.0 > 100 { Wish::Leave } else { Wish::GoOn }
        }
        fn record(&self, _: RunId) -> Option<RunDetail> {
            None
        }
    }
    let followed = client(&peer).follow(run(), &mut Leaver(0)).unwrap();
    assert!(matches!(followed, Followed::Left));
    assert!(SENT.load(Ordering::Relaxed) > 100);
}

#[test]
fn a_stream_of_nonsense_is_not_understood() {
    for nonsense in [
        "data: {}\n\n".to_owned(),
        "id: a-1\ndata: nonsense\n\n".to_owned(),
        format!("data: {}", "x".repeat(9 << 20)),
    ] {
        let peer = Peer::new();
        serve_run(&peer, move |_, stream| say(stream, &nonsense), || record("running", None));
        let error = client(&peer).follow(run(), &mut Eyes::new()).unwrap_err();
        assert!(matches!(error, ClientError::NotUnderstood { .. }), "{error:?}");
    }
}
