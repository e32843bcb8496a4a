//! Time, and the most memory that was resident meanwhile: of this process or of a command.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a step took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub time: Duration,
    pub peak_bytes: u64,
}

impl Cost {
    pub fn seconds(&self) -> f64 {
        self.time.as_secs_f64()
    }

    pub fn peak_mib(&self) -> f64 {
        self.peak_bytes as f64 / (1 << 20) as f64
    }
}

/// Runs a step in this process. What earlier steps left to the allocator counts too.
pub fn measure<T>(step: impl FnOnce() -> T) -> (T, Cost) {
    // Makes the peak that of now.
    fs::write("/proc/self/clear_refs", "5").expect("Linux, which forgets a peak on request");
    let began = Instant::now();
    let value = step();
    let time = began.elapsed();
    let peak_bytes = peak_bytes("self").expect("/proc tells of this process");
    (value, Cost { time, peak_bytes })
}

/// Runs a command to its end and gives back what it printed.
pub fn measure_command(command: &mut Command) -> (String, Cost) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (out, err) = (folder.path().join("out"), folder.path().join("err"));
    let file = |path| Stdio::from(fs::File::create(path).expect("a file for what it prints"));
    let began = Instant::now();
    let mut child =
        command.stdout(file(&out)).stderr(file(&err)).spawn().expect("the command begins");
    let (id, mut peak) = (child.id().to_string(), 0);
    let status = loop {
        // The peak only ever grows: what the last look misses is that of the last milliseconds.
        peak = peak_bytes(&id).unwrap_or(0).max(peak);
        match child.try_wait().expect("the command is waited for") {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    let time = began.elapsed();
    let read = |path| fs::read_to_string(path).expect("what it printed");
    assert!(status.success(), "{command:?}: {status}\n{}{}", read(&out), read(&err));
    (read(&out), Cost { time, peak_bytes: peak })
}

/// The most memory that was resident of a process; `None` when it has ended.
fn peak_bytes(process: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
