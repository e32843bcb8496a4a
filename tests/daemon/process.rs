//! The real program: what systemd hears, signals, and a death at any moment.

use crate::recovery::left;
use crate::scene::{LIMIT, Scene, points, wait_for};
use afterimage::catalog::{RunFilter, RunStatus};
use afterimage::units::Name;
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Stdio};
use std::time::Duration;

/// A daemon in a process of its own, which does not outlive the test.
pub struct Process {
    pub child: Child,
    supervisor: UnixDatagram,
}

impl Process {
    pub fn start(scene: &Scene, watchdog_us: Option<u64>) -> Self {
        let path = scene.path("notify.sock");
        let _ = std::fs::remove_file(&path);
        let supervisor = UnixDatagram::bind(&path).unwrap();
        supervisor.set_read_timeout(Some(LIMIT)).unwrap();
        let mut command = scene.program();
        command.arg("daemon").env("NOTIFY_SOCKET", &path).stderr(Stdio::null());
        if let Some(limit) = watchdog_us {
            command.env("WATCHDOG_USEC", limit.to_string());
        }
        Self { child: command.spawn().unwrap(), supervisor }
    }

    /// Waits until systemd was told a line that begins so.
    fn hear(&self, wanted: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.supervisor.recv(&mut buffer).expect("systemd hears something");
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> Option<i32> {
        wait_for("the end of the daemon", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn systemd_hears_of_every_turn() {
    let scene = Scene::new(1, "");
    let mut daemon = Process::start(&scene, Some(300_000));
    daemon.hear("READY=1");
    daemon.hear("WATCHDOG=1");
    daemon.signal(Signal::HUP);
    let reloading = daemon.hear("RELOADING=1");
    assert!(reloading.lines().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading}");
    daemon.hear("READY=1");
    daemon.hear("WATCHDOG=1");
    scene.write("afterimage.toml", "mistake = 1\n");
    daemon.signal(Signal::HUP);
    daemon.hear("RELOADING=1");
    daemon.hear("READY=1");
    daemon.signal(Signal::TERM);
    daemon.hear("STOPPING=1");
    assert_eq!(daemon.end(), Some(0));
}

/// The kernel keeps few messages of which none is read: neither work nor the end waits for that.
#[test]
fn a_supervisor_that_does_not_listen_holds_nothing_up() {
    let scene = Scene::new(4, "[daemon]\nruns = 1\n");
    let history = scene.history();
    for id in 0..40 {
        history.put(&left(id, &format!("m{}", id % 4), RunStatus::Queued)).unwrap();
    }
    let mut daemon = Process::start(&scene, Some(300_000));
    wait_for("the end of all runs", || history.unfinished().unwrap().is_empty().then_some(()));
    for _ in 0..3 {
        daemon.signal(Signal::HUP);
        std::thread::sleep(Duration::from_millis(200));
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end(), Some(0));
    assert!(history.runs(&RunFilter::default(), 100).unwrap().len() == 40);
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let scene = Scene::new(1, "");
    scene.hold("m0");
    scene.history().put(&left(1, "m0", RunStatus::Queued)).unwrap();
    let mut daemon = Process::start(&scene, None);
    scene.wait_for_capture("m0");
    daemon.signal(Signal::INT);
    daemon.hear("STOPPING=1");
    assert_eq!(daemon.child.try_wait().unwrap(), None);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.end(), Some(130));
    scene.let_go("m0");
}

#[test]
fn nothing_is_lost_or_done_twice_when_it_is_killed_again_and_again() {
    let scene = Scene::new(4, "[daemon]\nruns = 2\n");
    let history = scene.history();
    let runs = 40;
    for id in 0..runs {
        history.put(&left(id, &format!("m{}", id % 4), RunStatus::Queued)).unwrap();
    }
    let is_open = || !history.unfinished().unwrap().is_empty();
    let mut kills = 0;
    while is_open() && kills < 12 {
        let mut daemon = Process::start(&scene, None);
        daemon.hear("READY=1");
        // Another moment each time.
        std::thread::sleep(Duration::from_millis(20 + kills * 17));
        daemon.child.kill().unwrap();
        daemon.child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 1, "all was done before the second kill");
    let mut last = Process::start(&scene, None);
    last.hear("READY=1");
    wait_for("the end of all runs", || (!is_open()).then_some(()));
    last.signal(Signal::TERM);
    assert_eq!(last.end(), Some(0));
    let records = history.runs(&RunFilter::default(), 1000).unwrap();
    assert_eq!(records.len(), usize::from(runs));
    let mut cut_off = 0;
    for record in &records {
        match record.outcome.status {
            RunStatus::Completed => assert!(record.outcome.point.is_some()),
            RunStatus::Failed => {
                let reason = record.outcome.reason.as_deref().unwrap();
                assert!(reason.contains("cut off"), "{reason}");
                cut_off += 1;
            }
            status => panic!("{status:?}"),
        }
    }
    assert!(cut_off <= kills * 2, "{cut_off} runs were cut off by {kills} kills");
    // A point for each run that says so; of one that was cut off there may be one too.
    let made = |machine: &str| {
        let machine: Name = machine.parse().unwrap();
        let of = records.iter().filter(|it| it.machine.as_ref() == Some(&machine));
        let (done, cut): (Vec<_>, Vec<_>) =
            of.partition(|it| it.outcome.status == RunStatus::Completed);
        (done.len(), done.len() + cut.len())
    };
    for at in 0..4 {
        let machine = format!("m{at}");
        let (least, most) = made(&machine);
        let points = points(&scene, &machine);
        assert!((least..=most).contains(&points), "{points} points, {least} to {most} runs");
    }
}
