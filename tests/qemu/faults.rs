//! Connections that break, jobs that end, room that runs out: an error in bounded time, no point that
//! mixes two states, and nothing left behind.

use super::lab::{DISKS, Lab};
use super::machine::run;
use super::proxy::{Fault, Proxy};
use afterimage::backup::BackupError;
use afterimage::capture::{Bases, CaptureError, Captured, Capturer, QemuMachine};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(100);

/// Backs up through a proxy with a fault at the first, second, … command, until one is not reached;
/// after each, writes, and backs up without it.
fn sweep(fault: fn(usize) -> Fault, then_refuse: bool) {
    let lab = Lab::paused();
    lab.backup();
    let socket = lab.machine.qmp();
    for at in 1.. {
        let pattern = (at % 200) as u8 + 1;
        lab.machine.write("root", pattern, at as u64 * 65536, 65536);
        let proxy = Proxy::start(&lab.machine.folder, &socket, fault(at), then_refuse);
        let broken = QemuMachine { qmp: proxy.path.clone(), ..lab.qemu.clone() };
        let began = Instant::now();
        let made = lab.try_backup(&broken);
        assert!(began.elapsed() < BOUND, "command {at}");
        let commands = proxy.commands.load(Ordering::Relaxed);
        if !then_refuse {
            // It could connect anew, and so cleaned up itself.
            assert_eq!(lab.machine.marked().len(), 2, "{at}: {:?}", lab.machine.marked());
        }
        let after = lab.backup();
        let marked = lab.machine.marked();
        assert_eq!(marked.len(), 2, "command {at}: {marked:?}");
        let content = lab.world.restored(&after.point, "root");
        let from = at * 65536;
        assert!(content[from..from + 65536].iter().all(|byte| *byte == pattern), "command {at}");
        if let Ok(made) = made {
            let content = lab.world.restored(&made.point, "root");
            assert!(content[from..from + 65536].iter().all(|byte| *byte == pattern), "{at}");
        }
        if commands < at {
            assert!(at > 30, "only {at} commands were swept");
            return;
        }
    }
}

#[test]
fn a_monitor_that_closes_before_any_command_leaves_nothing_behind() {
    sweep(Fault::CutBefore, false);
}

#[test]
fn a_monitor_that_closes_for_good_after_any_command_is_cleaned_by_the_next_run() {
    sweep(Fault::CutAfter, true);
}

/// Does something to a capture that was taken.
#[derive(Debug)]
struct Then<'a>(&'a QemuMachine, fn(&Path), PathBuf);

impl Capturer for Then<'_> {
    fn capture(&self, noted: &Bases) -> Result<Box<dyn Captured>, CaptureError> {
        let captured = self.0.capture(noted)?;
        (self.1)(&self.2);
        Ok(captured)
    }
}

#[track_caller]
fn expect_no_point(lab: &Lab, what: fn(&Path), reason: &str) {
    let points = lab.world.points().len();
    let capturer = Then(&lab.qemu, what, lab.machine.folder.clone());
    let began = Instant::now();
    let error: BackupError = lab.try_backup(&capturer).unwrap_err();
    assert!(began.elapsed() < BOUND);
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(lab.world.points().len(), points);
}

#[test]
fn a_job_that_ends_early_makes_no_point() {
    let lab = Lab::paused();
    lab.machine.write("root", 1, 0, 1 << 20);
    expect_no_point(
        &lab,
        |folder| {
            let socket = folder.join("test.sock");
            let mut monitor = afterimage::qmp::Monitor::connect(&socket, BOUND).unwrap();
            let jobs = monitor.execute("query-jobs", json!({})).unwrap();
            let id = jobs[0]["id"].as_str().unwrap();
            monitor.execute("job-cancel", json!({ "id": id })).unwrap();
        },
        "disk root",
    );
    assert_eq!(lab.machine.marked(), Vec::<String>::new());
    lab.backup();
}

#[test]
fn a_machine_that_dies_while_it_is_read_is_told() {
    let mut lab = Lab::paused();
    lab.machine.write("root", 1, 0, 1 << 20);
    expect_no_point(
        &lab,
        |folder| {
            let socket = folder.join("test.sock");
            let mut monitor = afterimage::qmp::Monitor::connect(&socket, BOUND).unwrap();
            monitor.execute("quit", json!({})).unwrap();
            while afterimage::qmp::Monitor::connect(&socket, BOUND).is_ok() {}
        },
        "disk root",
    );
    lab.qemu.disks[1].image = None;
    let error = lab.qemu_error();
    assert!(error.contains("the machine is off; give each of its disks an `image`"), "{error}");
    lab.qemu.disks[0].image = None;
    let error = lab.qemu_error();
    assert!(error.contains("the machine is not running"), "{error}");
}

/// A file system of this size, in memory, until it is dropped.
struct Small(PathBuf);

impl Small {
    fn mount(path: PathBuf, size: &str) -> Self {
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={size}");
        run("mount", &["-t", "tmpfs", "-o", &options, "tmpfs", path.to_str().unwrap()]);
        Self(path)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

#[test]
fn a_capture_is_given_up_before_its_scratch_file_makes_the_guests_writes_fail() {
    let mut lab = Lab::paused();
    let small = Small::mount(lab.world.path("small"), "26m");
    lab.qemu.scratch = Some(small.0.clone());
    lab.machine.write("root", 1, 0, 15 << 20);
    let captured = lab.capture();
    for (_, source) in captured.disks() {
        source.check_unchanged().unwrap();
    }
    lab.machine.write("root", 2, 0, 14 << 20);
    super::machine::wait_for("giving up", || {
        captured.disks().iter().any(|(_, source)| source.check_unchanged().is_err()).then_some(())
    });
    let error = captured.disks()[0].1.check_unchanged().unwrap_err().to_string();
    assert!(error.contains("nearly full"), "{error}");
    // The guest can still write more than would have fit.
    lab.machine.write("root", 3, 0, 15 << 20);
    drop(captured);
    assert_eq!(lab.machine.marked(), Vec::<String>::new());
    drop(small);
    let small = Small::mount(lab.world.path("smaller"), "20m");
    lab.qemu.scratch = Some(small.0.clone());
    let error = lab.qemu_error();
    assert!(error.contains("needs at least 24.0 MiB"), "{error}");
}

#[test]
fn what_the_guest_writes_while_it_is_read_is_not_in_the_point() {
    let lab = Lab::paused();
    lab.machine.write("root", 1, 0, 1 << 20);
    lab.machine.write("data", 1, 0, 1 << 20);
    let captured = lab.capture();
    lab.machine.write("root", 2, 0, 1 << 20);
    lab.machine.qemu_io("data", "discard 0 512k");
    lab.machine.write("data", 3, 4 << 20, 65536);
    for (disk, (_, source)) in DISKS.iter().zip(captured.disks()) {
        let mut content = vec![0; source.size_bytes() as usize];
        source.read_exact_at(&mut content, 0).unwrap();
        assert!(content[..1 << 20].iter().all(|byte| *byte == 1), "{disk}");
        assert!(content[1 << 20..].iter().all(|byte| *byte == 0), "{disk}");
        let whole = afterimage::extent::Extent::between(0, source.size_bytes());
        let data = source.data_extents(whole).unwrap();
        assert!(data[0].start() == 0 && data[0].end() >= 1 << 20, "{disk}: {data:?}");
        assert_eq!(source.next_data(0).unwrap(), Some(0));
        source.check_unchanged().unwrap();
    }
}
