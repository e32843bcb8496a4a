//! System calls of the real program that fail, by `strace`.

use super::ended::{self, Ended};
use super::knobs::Knobs;
use super::place::Place;
use super::task::Task;
use super::world::{State, World};
use afterimage::testing::Random;
use std::path::Path;

/// What must come of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The command fails, or warns.
    Told,
    /// The call is made again, and nobody sees anything of it.
    Repeated,
}

const FAULTS: [(&str, &str, Then); 7] = [
    ("fsync", "EIO", Then::Told),
    ("fdatasync", "EIO", Then::Told),
    ("pwrite64", "ENOSPC", Then::Told),
    ("pwrite64", "EIO", Then::Told),
    ("openat", "EMFILE", Then::Told),
    ("read", "EINTR", Then::Repeated),
    ("pread64", "EINTR", Then::Repeated),
];
const TASKS: [Task; 7] = [
    Task::Backup,
    Task::Replicate,
    Task::Prune,
    Task::Gc,
    Task::Restore,
    Task::Copy,
    Task::Rebuild,
];

#[derive(Default)]
struct Count {
    runs: u64,
    injected: u64,
    failed: u64,
}

/// Runs a task whose `when`th call fails. How it ended, and how many calls failed.
fn run_with(
    world: &World,
    args: &[String],
    call: &str,
    inject: Option<&str>,
    log: &Path,
) -> (Ended, String) {
    let mut strace: Vec<String> = ["strace", "-f", "-y", "-qq", "-o"].map(str::to_owned).to_vec();
    strace.extend([log.to_str().unwrap().to_owned(), "-e".into(), format!("trace={call}")]);
    if let Some(inject) = inject {
        strace.extend(["-e".into(), format!("inject={call}:{inject}")]);
    }
    let ended = ended::run(world.command_under(&strace, args));
    (ended, std::fs::read_to_string(log).unwrap())
}

/// How many calls the busiest thread of a task makes.
fn calls_of(world: &mut World, task: Task, call: &str, log: &Path) -> Result<u64, String> {
    let begun = world.begin(task);
    let (ended, log) = run_with(world, &begun.args, call, None, log);
    world.learn(&begun, &ended);
    let mut threads = std::collections::BTreeMap::<&str, u64>::new();
    for line in log.lines().filter(|line| line.contains(call)) {
        *threads.entry(line.split_whitespace().next().unwrap_or_default()).or_default() += 1;
    }
    if ended.is_done() {
        Ok(threads.into_values().max().unwrap_or(0))
    } else {
        Err(format!("{task:?} under strace: {ended:#?}"))
    }
}

fn fail_once(
    world: &mut World,
    task: Task,
    (call, error, then): (&str, &str, Then),
    calls: u64,
    place: &Place,
) -> Result<(bool, bool), String> {
    // More than the busiest thread makes would hit nothing.
    let when = 1 + world.random.below(calls.max(1));
    // Now and then all later ones fail, too: of an interruption that would have no end.
    let all = then == Then::Told && world.random.chance(30);
    let inject = format!("error={error}:when={when}{}", if all { "+" } else { "" });
    let begun = world.begin(task);
    let (ended, log) = run_with(world, &begun.args, call, Some(&inject), &place.path("log"));
    let injected = log.contains("(INJECTED)");
    // The loader of the program does not repeat what is interrupted; nothing of it ran then.
    if ended.code == Some(127) {
        return Ok((false, false));
    }
    world.learn(&begun, &ended);
    // What SQLite does with its files that are not needed later, it does not tell of: the check
    // below finds what it should have told. Of files of the system not all are needed.
    let met: Vec<&str> = log.lines().filter(|line| line.contains("(INJECTED)")).collect();
    let may_matter = |line: &&str| line.contains("/world/") && !line.contains("/world/state");
    let told = !met.iter().any(may_matter)
        || !ended.is_done()
        || ended.has_warnings()
        || !ended.err.is_empty();
    let is_right = match then {
        Then::Told => told,
        Then::Repeated => ended.is_done(),
    };
    if !is_right {
        return Err(format!("{task:?} with {call}:{inject} is not {then:?}: {ended:#?}\n{met:#?}"));
    }
    world.check().map_err(|e| format!("{task:?} with {call}:{inject}: {e}"))?;
    Ok((injected, !ended.is_done()))
}

#[test]
fn a_system_call_that_fails_is_told_or_repeated_and_loses_nothing() {
    let knobs = Knobs::new("AFTERIMAGE_FAULTS", 3);
    let mut random = Random::new(knobs.seed);
    let mut count = Count::default();
    for task in TASKS {
        let place = Place::new();
        let folder = place.path("world");
        std::fs::create_dir(&folder).unwrap();
        let mut world = World::new(folder, random.split(), State::Beside);
        let log = place.path("log");
        for fault in FAULTS {
            let calls = calls_of(&mut world, task, fault.0, &log);
            for _ in knobs.cycles() {
                let done = calls
                    .clone()
                    .and_then(|calls| fail_once(&mut world, task, fault, calls, &place));
                let (injected, failed) = done.unwrap_or_else(|error| {
                    panic!("seed {}: {error}\nkept: {}", knobs.seed, place.keep().display())
                });
                count.runs += 1;
                count.injected += u64::from(injected);
                count.failed += u64::from(failed);
            }
        }
    }
    let Count { runs, injected, failed } = count;
    println!("\ncount: failing system calls: {runs} runs, {injected} met one, {failed} failed");
    assert!(injected * 2 > runs, "strace made only {injected} calls of {runs} runs fail");
}
