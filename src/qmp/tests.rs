//! Peers that close, hang, lie and do not end.

use super::{Agent, FreezeStatus, Message, Monitor, QmpError, Version, parse_message};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_millis(300);
/// Nothing may take longer, on a machine that does other things too.
const BOUND: Duration = Duration::from_secs(20);
const GREETING: &str = r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10},"package":""},"capabilities":[]}}"#;

/// A socket at which `peer` serves one client.
fn serve(peer: impl FnOnce(BufReader<UnixStream>) + Send + 'static) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        peer(BufReader::new(stream));
    });
    (folder, path)
}

fn say(stream: &mut BufReader<UnixStream>, text: &str) {
    // The client may be gone already, which is what some tests want.
    let _ = stream.get_mut().write_all(format!("{text}\n").as_bytes());
}

/// The next request; `None` when the client is gone.
fn heard(stream: &mut BufReader<UnixStream>) -> Option<Value> {
    let mut line = Vec::new();
    let read = stream.read_until(b'\n', &mut line).unwrap_or(0);
    let text = line.strip_prefix(&[0xff]).unwrap_or(&line);
    (read > 0).then(|| serde_json::from_slice(text).unwrap())
}

/// Answers the negotiation, then the command by `answers` with its number in place of `ID`.
fn monitor(answers: &'static [&'static str]) -> (TempDir, PathBuf) {
    serve(move |mut stream| {
        say(&mut stream, GREETING);
        for answers in [&[r#"{"return":{},"id":ID}"#][..], answers] {
            let Some(request) = heard(&mut stream) else { return };
            for answer in answers {
                say(&mut stream, &answer.replace("ID", &request["id"].to_string()));
            }
        }
        // Until the client goes.
        let _ = heard(&mut stream);
    })
}

#[test]
fn answers_are_told_from_events_and_from_late_answers() {
    let (_folder, path) = monitor(&[
        r#"{"event":"STOP","timestamp":{"seconds":1,"microseconds":2}}"#,
        r#"{"return":"of a command that was given up","id":1}"#,
        r#"{"event":"JOB_STATUS_CHANGE","data":{"id":"a","status":"running"}}"#,
        r#"{"return":[7],"id":ID}"#,
    ]);
    let mut monitor = Monitor::connect(&path, BOUND).unwrap();
    assert_eq!(monitor.version(), Version { major: 10, minor: 0 });
    assert_eq!(monitor.execute("query-jobs", json!({})).unwrap(), json!([7]));
    let events = monitor.take_events();
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["STOP", "JOB_STATUS_CHANGE"]);
    assert_eq!(events[1].data["id"], "a");
}

#[test]
fn a_refusal_is_told_in_the_words_of_qemu() {
    let (_folder, path) = monitor(&[r#"{"error":{"class":"GenericError","desc":"No"},"id":ID}"#]);
    let error = Monitor::connect(&path, BOUND).unwrap().execute("quit", json!({})).unwrap_err();
    assert_eq!(error.refusal(), Some("No"));
    assert!(error.to_string().contains("quit was refused: No (GenericError)"), "{error}");
}

#[test]
fn a_peer_that_is_no_monitor_is_told_in_bounded_time() {
    let cases: [(&[&str], &str); 7] = [
        (&["hello"], "does not answer as a QEMU monitor does"),
        (&[r#"{"return":{},"id":4711}"#], "no answer to query-jobs"),
        (&[r#"{"return":{}}"#], "no answer to query-jobs"),
        (&[r#"{"id":ID}"#], "neither an answer nor an event"),
        (&[GREETING], "no answer to query-jobs"),
        (&["[1]"], "invalid type"),
        (&[r#"{"event":"STOP"}"#], "no answer to query-jobs within"),
    ];
    for (answers, expected) in cases {
        let (_folder, path) = monitor(answers);
        let began = Instant::now();
        let mut monitor = Monitor::connect(&path, BOUND).unwrap();
        let error = monitor.execute_within("query-jobs", json!({}), LIMIT).unwrap_err();
        assert!(error.to_string().contains(expected), "{answers:?}: {error}");
        assert!(began.elapsed() < BOUND);
    }
}

#[test]
fn a_monitor_that_closes_is_told() {
    let (_folder, path) = serve(|mut stream| {
        say(&mut stream, GREETING);
        heard(&mut stream);
    });
    let error = Monitor::connect(&path, BOUND).unwrap_err();
    assert!(matches!(error, QmpError::Closed { .. }), "{error}");
}

#[test]
fn a_line_that_does_not_end_is_given_up() {
    let (_folder, path) = serve(|mut stream| {
        let piece = vec![b'x'; 1 << 20];
        while stream.get_mut().write_all(&piece).is_ok() {}
    });
    let error = Monitor::connect(&path, BOUND).unwrap_err();
    assert!(error.to_string().contains("a line of more than"), "{error}");
}

#[test]
fn a_socket_that_serves_another_program_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let error = Monitor::connect(&path, LIMIT).unwrap_err();
    assert!(matches!(error, QmpError::Busy { .. }), "{error}");
}

#[test]
fn a_machine_that_is_off_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let absent = Monitor::connect(&path, LIMIT).unwrap_err();
    drop(UnixListener::bind(&path).unwrap());
    let left = Monitor::connect(&path, LIMIT).unwrap_err();
    for error in [absent, left] {
        assert!(matches!(error, QmpError::NotRunning { .. }), "{error}");
    }
}

/// Answers each synchronisation and gives what comes after it to `answer`.
fn agent(answer: impl Fn(&str, &mut BufReader<UnixStream>) + Send + 'static) -> (TempDir, PathBuf) {
    serve(move |mut stream| {
        while let Some(request) = heard(&mut stream) {
            match request["execute"].as_str().unwrap() {
                "guest-sync-delimited" => {
                    let _ = stream.get_mut().write_all(&[0xff]);
                    let number = request["arguments"]["id"].to_string();
                    say(&mut stream, &format!(r#"{{"return":{number}}}"#));
                }
                command => answer(command, &mut stream),
            }
        }
    })
}

#[test]
fn an_agent_freezes_and_thaws() {
    let (_folder, path) = agent(|command, stream| match command {
        "guest-fsfreeze-status" => say(stream, r#"{"return":"frozen"}"#),
        "guest-fsfreeze-freeze" => say(stream, r#"{"return":3}"#),
        _ => say(stream, r#"{"error":{"class":"GenericError","desc":"cannot thaw"}}"#),
    });
    let mut agent = Agent::connect(&path, LIMIT).unwrap();
    assert_eq!(agent.freeze(BOUND).unwrap(), 3);
    assert_eq!(agent.freeze_status(BOUND).unwrap(), FreezeStatus::Frozen);
    assert_eq!(agent.thaw(BOUND).unwrap_err().refusal(), Some("cannot thaw"));
}

#[test]
fn late_answers_of_an_agent_are_dropped() {
    let (_folder, path) = agent(|command, stream| match command {
        // Too late: it comes before the answer to the next synchronisation.
        "guest-fsfreeze-freeze" => {
            std::thread::sleep(LIMIT * 2);
            say(stream, r#"{"return":99}"#);
        }
        _ => say(stream, r#"{"return":1}"#),
    });
    let mut agent = Agent::connect(&path, LIMIT).unwrap();
    let late = agent.freeze(LIMIT).unwrap_err();
    assert!(matches!(late, QmpError::TimedOut { .. }), "{late}");
    assert_eq!(agent.thaw(BOUND).unwrap(), 1);
}

#[test]
fn an_agent_that_answers_something_else_is_told() {
    for answer in [r#"{"return":{}}"#, r#"{"return":-1}"#, "{}", "frozen", r#"{"event":"X"}"#] {
        let (_folder, path) = agent(move |_, stream| say(stream, answer));
        let error = Agent::connect(&path, LIMIT).unwrap().freeze(BOUND).unwrap_err();
        assert!(matches!(error, QmpError::Garbage { .. }), "{answer}: {error}");
    }
}

#[test]
fn an_agent_that_sends_lines_for_ever_is_given_up() {
    let (_folder, path) =
        serve(|mut stream| while stream.get_mut().write_all(b"{\"return\":1}\n").is_ok() {});
    let error = Agent::connect(&path, LIMIT).unwrap().freeze(BOUND).unwrap_err();
    assert!(error.to_string().contains("1000 lines"), "{error}");
}

#[test]
fn foreign_text_is_shown_without_control_characters() {
    let line = format!(r#"{{"error":{{"desc":"\u001b[31m{}"}}}}"#, "x".repeat(1000));
    let Ok(Message::Refused { reason, .. }) = parse_message(line.as_bytes()) else { panic!() };
    assert!(!reason.contains('\u{1b}') && reason.chars().count() == 121, "{reason}");
}
