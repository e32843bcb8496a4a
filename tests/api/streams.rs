//! Events as they happen.

use crate::client::{self, request};
use crate::stand_in::{INSTANCE, RING, StandIn};
use crate::world::{LOOPBACK, World};
use afterimage::api::Limits;
use afterimage::catalog::Scope;
use afterimage::daemon::DaemonHandle;
use afterimage::operations::Task;
use afterimage::report::EventKind;
use afterimage::units::RunId;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

/// One event as it came.
#[derive(Debug, Default)]
struct Received {
    id: Option<String>,
    event: String,
    data: Value,
}

struct Stream<R>(BufReader<R>);

impl<R: std::io::Read> Stream<R> {
    /// The next event; `None`: the stream is over.
    fn next(&mut self) -> Option<Received> {
        let mut received = Received::default();
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            match line.split_once(": ") {
                Some(("id", id)) => received.id = Some(id.to_owned()),
                Some(("event", event)) => received.event = event.to_owned(),
                Some(("data", data)) => received.data = serde_json::from_str(data).unwrap(),
                _ if line.is_empty() && !received.event.is_empty() => return Some(received),
                // Sizes of pieces, comments, and the head.
                _ => {}
            }
        }
    }
}

fn open(
    world: &World,
    path: &str,
    token: Option<&str>,
    last: Option<&str>,
) -> Stream<Box<dyn std::io::Read>> {
    let mut text = request("GET", path, token, None);
    if let Some(last) = last {
        text = text.replace("\r\n\r\n", &format!("\r\nLast-Event-ID: {last}\r\n\r\n"));
    }
    let stream: Box<dyn std::io::Read> = if token.is_some() {
        let mut stream = client::tcp(world.address);
        stream.write_all(text.as_bytes()).unwrap();
        Box::new(stream)
    } else {
        let mut stream = client::unix(&world.socket);
        stream.write_all(text.as_bytes()).unwrap();
        Box::new(stream)
    };
    let mut stream = Stream(BufReader::new(stream));
    // The first thing that is sent says that the stream has begun.
    let mut line = String::new();
    while !line.starts_with("retry:") {
        line.clear();
        assert!(stream.0.read_line(&mut line).unwrap() > 0, "it never began");
    }
    stream
}

fn task(machine: &str) -> Task {
    serde_json::from_str(&format!(r#"{{"task":"backup","machine":"{machine}"}}"#)).unwrap()
}

fn progress(world: &World, run: RunId, machine: &str) -> u64 {
    let live = StandIn::live_run(run, &task(machine), &world.daemon.settings());
    world.daemon.happen(Some(run), Some(machine), EventKind::Progress(live))
}

#[test]
fn events_come_with_ids_from_which_a_stream_goes_on() {
    let world = World::new();
    let run = world.daemon.submit(task("web01"), "test").unwrap();
    let mut first = open(&world, "/v1/events", None, None);
    let one = progress(&world, run, "web01");
    let received = first.next().unwrap();
    assert_eq!(received.event, "progress");
    assert_eq!(received.id.as_deref(), Some(format!("{INSTANCE}-{one}").as_str()));
    assert_eq!(received.data["run"], run.to_string());
    drop(first);
    let two = progress(&world, run, "web01");
    let mut again = open(&world, "/v1/events", None, received.id.as_deref());
    assert_eq!(again.next().unwrap().data["id"], two);
    world.daemon.happen(None, None, EventKind::Reloaded);
    assert_eq!(again.next().unwrap().event, "reloaded");
}

#[test]
fn a_gap_is_told() {
    let world = World::new();
    let run = world.daemon.submit(task("web01"), "test").unwrap();
    for _ in 0..RING + 50 {
        progress(&world, run, "web01");
    }
    let mut old = open(&world, "/v1/events", None, Some(&format!("{INSTANCE}-3")));
    assert_eq!(old.next().unwrap().event, "gap");
    assert_eq!(old.next().unwrap().data["id"], 52, "the oldest that is kept");
    for last in ["0badf00d-3", &format!("{INSTANCE}-99999")] {
        let mut other = open(&world, "/v1/events", None, Some(last));
        let gap = other.next().unwrap();
        assert_eq!(gap.event, "gap");
        assert!(gap.data["reason"].as_str().unwrap().contains("anew"), "{gap:?}");
        assert_eq!(other.next().unwrap().data["id"], 52);
    }
}

#[test]
fn the_stream_of_a_run_begins_with_what_was_and_ends_with_it() {
    let world = World::new();
    let other = world.daemon.submit(task("web02"), "test").unwrap();
    let run = world.daemon.submit(task("web01"), "test").unwrap();
    let path = format!("/v1/runs/{run}/events");
    let mut stream = open(&world, &path, None, None);
    assert_eq!(stream.next().unwrap().event, "started");
    progress(&world, other, "web02");
    progress(&world, run, "web01");
    world.daemon.end(other);
    world.daemon.end(run);
    assert_eq!(stream.next().unwrap().event, "progress");
    let end = stream.next().unwrap();
    assert_eq!((end.event.as_str(), &end.data["exit"]), ("ended", &Value::from(0)));
    assert!(stream.next().is_none(), "nothing comes after the end");
    // Whoever comes late gets the same, as long as it is kept.
    let mut late = open(&world, &path, None, None);
    let events: Vec<_> = std::iter::from_fn(|| late.next()).map(|it| it.event).collect();
    assert_eq!(events, ["started", "progress", "ended"]);
    for _ in 0..RING {
        progress(&world, other, "web02");
    }
    let mut later = open(&world, &path, None, None);
    assert_eq!(later.next().unwrap().event, "gap");
    assert!(later.next().is_none());
}

#[test]
fn a_token_for_a_machine_hears_of_no_other() {
    let world = World::new();
    let token = world.token("web01-only", &[Scope::Read], Some(&["web01"]));
    let mut stream = open(&world, "/v1/events", Some(&token), None);
    let (one, two) = (RunId([1; 16]), RunId([2; 16]));
    progress(&world, two, "web02");
    world.daemon.happen(None, None, EventKind::Reloaded);
    progress(&world, one, "web01");
    assert_eq!(stream.next().unwrap().data["run"], one.to_string());
}

#[test]
fn streams_are_bounded_and_end_with_the_server() {
    let limits = Limits { streams: 3, ..Limits::default() };
    let mut world = World::with(LOOPBACK, limits);
    let mut open_ones: Vec<_> = (0..3).map(|_| open(&world, "/v1/events", None, None)).collect();
    assert_eq!(world.local("GET", "/v1/events", None).status, 503);
    drop(open_ones.pop());
    // The server sees the end of a stream when it happens to look.
    let is_free = || world.local("GET", "/v1/runs/0000/events", None).status == 404;
    assert!(is_free());
    world.stop(Duration::from_secs(20));
    for mut stream in open_ones {
        assert!(stream.next().is_none());
    }
}
