//! A thousand machines and their replicas under one daemon: is every due time kept, and what does
//! that cost? `cargo bench --bench fleet [-- --machines N --times T --every SECONDS --runs R]`;
//! `--smoke` for a short one.
//!
//! Each machine has one disk of 64 KiB, of which a block changes before each due time; backups and
//! replications are due at the same times. First the daemon is left alone with schedules that are far
//! away: what it costs when nothing is to be done.

#[path = "../../tests/fleet/site.rs"]
#[allow(dead_code)]
mod site;

use afterimage::catalog::{RunStatus, SlotFate};
use jiff::Timestamp;
use site::{Daemon, Plan, Site, fates};
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

struct Options {
    machines: usize,
    times: u64,
    every_s: i64,
    runs: usize,
    idle_s: u64,
}

fn options() -> Options {
    let arguments: Vec<String> = std::env::args().collect();
    let smoke = arguments.iter().any(|argument| argument == "--smoke");
    let number = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(default)
    };
    Options {
        machines: number("--machines", if smoke { 20 } else { 1000 }) as usize,
        times: number("--times", if smoke { 2 } else { 10 }),
        every_s: number("--every", if smoke { 5 } else { 60 }) as i64,
        runs: number("--runs", 8) as usize,
        idle_s: if smoke { 3 } else { 60 },
    }
}

fn main() {
    let options = options();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let plan = |schedule: &str| Plan {
        machines: options.machines,
        schedule: schedule.to_owned(),
        runs: options.runs,
        more: String::new(),
    };
    let program = env!("CARGO_BIN_EXE_afterimage");
    println!("{} machines and as many replicas, {} runs at once", options.machines, options.runs);

    let idle = Site::new(&folder.path().join("idle"), program, plan("0 0 29 2 *"));
    let daemon = idle.start();
    std::thread::sleep(Duration::from_secs(2));
    let (before, since) = (processor_time(&daemon), Instant::now());
    std::thread::sleep(Duration::from_secs(options.idle_s));
    let used = processor_time(&daemon) - before;
    let percent = used.as_secs_f64() / since.elapsed().as_secs_f64() * 100.0;
    println!("idle: {percent:.2} % of a processor, {} MiB", mib(&daemon, "VmRSS"));
    daemon.stop();

    let schedule = match options.every_s {
        60 => "* * * * *".to_owned(),
        seconds => format!("*/{seconds} * * * * *"),
    };
    let busy = Site::new(&folder.path().join("busy"), program, plan(&schedule));
    let daemon = busy.start();
    let dues = work(&busy, &daemon, &options);
    report(&busy, &daemon, &dues);
    daemon.stop();
}

/// Changes a block of each disk before each due time, and asks for the status from time to time.
/// Returns the due times, but for the last, whose runs are still under way.
fn work(site: &Site, daemon: &Daemon, options: &Options) -> Vec<Timestamp> {
    let (before, since) = (processor_time(daemon), Instant::now());
    let (mut status, mut dues) = (Vec::new(), Vec::new());
    let pause = (options.every_s / 12).max(1);
    for time in 0..=options.times {
        let next = (Timestamp::now().as_second() / options.every_s + 1) * options.every_s;
        while Timestamp::now().as_second() < next - pause {
            std::thread::sleep(Duration::from_secs(pause as u64));
            let since = Instant::now();
            site.command(&["-q", "status"]);
            status.push(since.elapsed());
        }
        // Nothing may change while it is read: what was due before is done by now.
        for machine in 0..site.plan.machines {
            let file = std::fs::File::options().write(true).open(site.disk(machine)).unwrap();
            file.write_all_at(&[time as u8 + 1; 512], 4096).unwrap();
        }
        while Timestamp::now().as_second() < next {
            std::thread::sleep(Duration::from_millis(20));
        }
        dues.push(Timestamp::from_second(next).unwrap());
        let share = (processor_time(daemon) - before).as_secs_f64() / since.elapsed().as_secs_f64();
        println!(
            "due time {time}: {} MiB, at most {} MiB; {:.0} % of a processor so far",
            mib(daemon, "VmRSS"),
            mib(daemon, "VmHWM"),
            share * 100.0
        );
    }
    dues.pop();
    status.sort();
    if let (Some(median), Some(last)) = (status.get(status.len() / 2), status.last()) {
        println!("`status`: median {median:?}, at most {last:?}, of {}", status.len());
    }
    dues
}

fn report(site: &Site, daemon: &Daemon, dues: &[Timestamp]) {
    let (mut ran, mut missed, mut twice) = (0, 0, 0);
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for lines in site.slots().values() {
        for due in dues {
            match fates(lines, *due) {
                (1, 0) => ran += 1,
                (0, 0) => missed += 1,
                (0, 1) => {
                    let line = lines.iter().find(|line| (line.first..=line.last).contains(due));
                    if let Some(SlotFate::Skipped(reason)) = line.map(|line| &line.fate) {
                        *skipped.entry(reason.clone()).or_default() += 1;
                    }
                }
                _ => twice += 1,
            }
        }
    }
    println!("due times: {ran} ran, {missed} missed, {twice} twice, skipped: {skipped:?}");
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    for run in site.runs() {
        let key = format!("{} {}", run.kind.word(), run.outcome.status.word());
        *ended.entry(key).or_default() += 1;
        if run.outcome.status == RunStatus::Failed {
            println!("{} failed: {}", run.kind.word(), run.outcome.reason.unwrap_or_default());
        }
    }
    println!("runs: {ended:?}; at most {} MiB", mib(daemon, "VmHWM"));
}

/// A number of `/proc/PID/status`, such as `VmRSS`, in MiB.
fn mib(daemon: &Daemon, what: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Processor time that the daemon used so far.
fn processor_time(daemon: &Daemon) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
