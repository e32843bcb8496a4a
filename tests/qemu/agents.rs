//! Agents that do not do what they should. The guest must not stay frozen, and the point is made all
//! the same.

use super::lab::Lab;
use afterimage::point::Consistency;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Generous: no agent may hold a backup up for longer.
const BOUND: Duration = Duration::from_secs(60);

/// Serves the agent's socket of a machine that has no guest; gives back the commands that came.
/// `answer`: what it does with a command, after it has answered the synchronisation.
fn agent(
    lab: &mut Lab,
    mut answer: impl FnMut(&str, &mut UnixStream) + Send + 'static,
) -> Arc<Mutex<Vec<String>>> {
    let path = lab.machine.agent();
    let listener = UnixListener::bind(&path).unwrap();
    lab.qemu.agent = Some(path);
    lab.qemu.freeze_limit = Duration::from_secs(2);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let commands = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut answers = stream.try_clone().unwrap();
            let mut requests = BufReader::new(stream);
            let mut line = Vec::new();
            while requests.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = line.strip_prefix(&[0xff]).unwrap_or(&line).to_owned();
                line.clear();
                // The first line of a last word is empty.
                let Ok(request) = serde_json::from_slice::<Value>(&text) else { continue };
                match request["execute"].as_str().unwrap() {
                    "guest-sync-delimited" => {
                        let number = &request["arguments"]["id"];
                        let _ = answers.write_all(&[0xff]);
                        say(&mut answers, &format!(r#"{{"return":{number}}}"#));
                    }
                    command => {
                        commands.lock().unwrap().push(command.to_owned());
                        answer(command, &mut answers);
                    }
                }
            }
        }
    });
    seen
}

fn say(stream: &mut UnixStream, text: &str) {
    let _ = stream.write_all(format!("{text}\n").as_bytes());
}

/// Backs up with such an agent; gives back the note that says why the point is only
/// crash-consistent, and the commands.
#[track_caller]
fn told(answer: impl FnMut(&str, &mut UnixStream) + Send + 'static) -> (String, Vec<String>) {
    let mut lab = Lab::paused();
    lab.machine.write("root", 7, 0, 65536);
    let seen = agent(&mut lab, answer);
    let began = Instant::now();
    let made = lab.backup();
    assert!(began.elapsed() < BOUND);
    assert_eq!(made.point.manifest.consistency, Consistency::CrashConsistent);
    assert_eq!(made.notes.len(), 1, "{:?}", made.notes);
    assert_eq!(lab.world.restored(&made.point, "root")[..65536], [7; 65536]);
    let seen = seen.lock().unwrap().clone();
    (made.notes[0].clone(), seen)
}

#[test]
fn an_agent_that_never_answers_is_not_asked_to_freeze() {
    let (note, seen) = told(|_, _| {});
    assert!(note.contains("no answer to guest-fsfreeze-status"), "{note}");
    assert_eq!(seen, ["guest-fsfreeze-status"]);
}

#[test]
fn a_guest_whose_agent_does_not_answer_the_freeze_is_thawed() {
    let (note, seen) = told(|command, stream| match command {
        "guest-fsfreeze-status" => say(stream, r#"{"return":"thawed"}"#),
        "guest-fsfreeze-thaw" => say(stream, r#"{"return":2}"#),
        _ => {}
    });
    assert!(note.contains("no answer to guest-fsfreeze-freeze"), "{note}");
    assert!(seen.contains(&"guest-fsfreeze-thaw".to_owned()), "{seen:?}");
}

#[test]
fn a_guest_whose_agent_answers_late_is_thawed() {
    let (note, seen) = told(|command, stream| match command {
        "guest-fsfreeze-status" => say(stream, r#"{"return":"thawed"}"#),
        "guest-fsfreeze-freeze" => {
            std::thread::sleep(Duration::from_secs(3));
            say(stream, r#"{"return":2}"#);
        }
        _ => say(stream, r#"{"return":2}"#),
    });
    assert!(note.contains("no answer to guest-fsfreeze-freeze"), "{note}");
    assert_eq!(seen.last().map(String::as_str), Some("guest-fsfreeze-thaw"));
}

#[test]
fn a_guest_whose_agent_answers_something_else_is_thawed() {
    let (note, seen) = told(|command, stream| match command {
        "guest-fsfreeze-status" => say(stream, r#"{"return":"thawed"}"#),
        "guest-fsfreeze-freeze" => say(stream, r#"{"return":"certainly"}"#),
        _ => say(stream, r#"{"return":2}"#),
    });
    assert!(note.contains("guest-fsfreeze-freeze gave \"certainly\""), "{note}");
    assert_eq!(seen.last().map(String::as_str), Some("guest-fsfreeze-thaw"));
}

#[test]
fn a_guest_that_was_thawed_before_its_time_is_not_called_consistent() {
    let (note, _) = told(|command, stream| match command {
        "guest-fsfreeze-status" => say(stream, r#"{"return":"thawed"}"#),
        "guest-fsfreeze-freeze" => say(stream, r#"{"return":2}"#),
        _ => say(stream, r#"{"return":0}"#),
    });
    assert!(note.contains("thawed before its disks were captured"), "{note}");
}

#[test]
fn a_guest_that_somebody_else_froze_is_left_alone() {
    let (note, seen) = told(|_, stream| say(stream, r#"{"return":"frozen"}"#));
    assert!(note.contains("frozen by somebody else"), "{note}");
    assert_eq!(seen, ["guest-fsfreeze-status"]);
}

#[test]
fn a_guest_that_could_not_be_thawed_is_thawed_by_the_next_run() {
    let mut lab = Lab::paused();
    let mut status = "thawed";
    let seen = agent(&mut lab, move |command, stream| match command {
        "guest-fsfreeze-status" => say(stream, &format!(r#"{{"return":"{status}"}}"#)),
        "guest-fsfreeze-freeze" => {
            status = "frozen";
            say(stream, r#"{"return":2}"#);
        }
        _ => say(stream, r#"{"error":{"class":"GenericError","desc":"no"}}"#),
    });
    let made = lab.backup();
    assert!(made.notes[0].contains("may still be frozen"), "{:?}", made.notes);
    let frozen = |lab: &Lab| lab.machine.marked().iter().any(|it| it.ends_with("-frozen"));
    seen.lock().unwrap().clear();
    std::fs::remove_file(lab.machine.agent()).unwrap();
    let seen = agent(&mut lab, |command, stream| match command {
        "guest-fsfreeze-status" => say(stream, r#"{"return":"frozen"}"#),
        _ => say(stream, r#"{"return":2}"#),
    });
    assert!(frozen(&lab), "nothing says that the guest may be frozen");
    lab.backup();
    assert_eq!(seen.lock().unwrap()[..2], ["guest-fsfreeze-status", "guest-fsfreeze-thaw"]);
    assert!(!frozen(&lab));
}
