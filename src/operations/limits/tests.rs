use super::*;
use crate::units::RateRule;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Niceness of the calling thread, and its I/O priority as `ionice` calls it.
fn of_this_thread() -> (i32, String) {
    let id = std::fs::read_link("/proc/thread-self").unwrap();
    let id = id.file_name().unwrap().to_str().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap();
    // The name may hold anything, but no field behind it holds a parenthesis.
    let fields = stat.rsplit_once(')').unwrap().1;
    let nice = fields.split_whitespace().nth(16).unwrap().parse().unwrap();
    let output = Command::new("ionice").args(["-p", id]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    (nice, String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn settings(nice: u8, io: IoPriority) -> DaemonSettings {
    DaemonSettings { nice, io, ..DaemonSettings::with_socket(PathBuf::from("/run/socket")) }
}

/// What a thread is after it stood back, a thread that it started, and a process.
fn after_standing_back(settings: &DaemonSettings) -> [(i32, String); 3] {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            stand_back(settings).unwrap();
            let worker = std::thread::spawn(of_this_thread);
            let worker = worker.join().unwrap();
            let nice = Command::new("nice").output().unwrap().stdout;
            let nice = String::from_utf8(nice).unwrap().trim().parse().unwrap();
            let io = Command::new("ionice").output().unwrap().stdout;
            let process = (nice, String::from_utf8(io).unwrap().trim().to_owned());
            [of_this_thread(), worker, process]
        });
        run.join().unwrap()
    })
}

#[test]
fn a_run_stands_back_with_its_threads_and_processes_and_nobody_else_does() {
    let here = of_this_thread();
    let idle = after_standing_back(&settings(19, IoPriority::Idle));
    assert_eq!(idle, std::array::from_fn(|_| (19, "idle".to_owned())));
    let level = after_standing_back(&settings(15, IoPriority::BestEffort(6)));
    assert_eq!(level, std::array::from_fn(|_| (15, "best-effort: prio 6".to_owned())));
    let [as_started, worker, _] = after_standing_back(&settings(0, IoPriority::Normal));
    assert_eq!((&as_started, &worker), (&here, &here));
    assert_eq!(of_this_thread(), here);
}

#[test]
fn an_unknown_level_is_refused() {
    let refused = stand_back(&settings(0, IoPriority::BestEffort(8))).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn limits_hold_from_when_they_are_set_until_they_are_taken_away() {
    let reads = Throttle::default();
    let rules = |bytes_per_s| vec![RateRule { bytes_per_s, at: None }];
    let limits = |read, network| LimitSettings { timezone: "UTC".into(), read, network };
    limit_bandwidth(&limits(rules(1 << 40), rules(1 << 41)), &reads);
    assert_eq!(reads.rate(), NonZeroU64::new(1 << 40));
    assert_eq!(network().rate(), NonZeroU64::new(1 << 41));
    limit_bandwidth(&limits(Vec::new(), Vec::new()), &reads);
    assert_eq!((reads.rate(), network().rate()), (None, None));
    assert_eq!(network().pay(u64::MAX, &|| false), Duration::ZERO);
}
