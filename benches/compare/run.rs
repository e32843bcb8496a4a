//! Runs programs: some only have to succeed, others are measured.

use anyhow::{Context, Result, bail, ensure};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a program's memory is looked at. The kernel keeps the peak, so only what is allocated
/// in the last moments before the end may be missed.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What one measured run took.
#[derive(Debug, Clone, Copy, Default, serde::Serialize, serde::Deserialize)]
pub struct Sample {
    /// From the start to the end, what was written being durable.
    pub seconds: f64,
    /// Most memory that the program had at once; 0 where it was none of its own.
    pub peak_bytes: u64,
    /// Share of the processors' time that went to processes which are not part of this. The
    /// kernel's threads that write to the disk count too.
    #[serde(default)]
    pub others: f64,
}

/// Notices whether something else uses the processors meanwhile.
#[derive(Debug)]
pub struct Load {
    begun: Instant,
    busy_ticks: u64,
    own_ticks: u64,
}

/// Ticks of `/proc` in a second: the kernel tells user space so on every platform.
const TICKS_A_SECOND: f64 = 100.0;

impl Load {
    /// From now on.
    pub fn begin() -> Result<Self> {
        Ok(Self { begun: Instant::now(), busy_ticks: busy_ticks()?, own_ticks: own_ticks()? })
    }

    /// The share of others since then, from 0 to 1.
    pub fn others(&self) -> Result<f64> {
        let own = own_ticks()?.saturating_sub(self.own_ticks);
        let busy = busy_ticks()?.saturating_sub(self.busy_ticks);
        let cores = std::thread::available_parallelism()?.get() as f64;
        let all_ticks = self.begun.elapsed().as_secs_f64() * cores * TICKS_A_SECOND;
        // Both are rounded to ticks, which says nothing of a moment.
        Ok(if all_ticks < TICKS_A_SECOND / 2.0 {
            0.0
        } else {
            busy.saturating_sub(own) as f64 / all_ticks
        })
    }
}

/// All that the processors did, and what the hypervisor took.
fn busy_ticks() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks = numbers(line);
    // user, nice, system, (idle, iowait,) irq, softirq, steal
    Ok([0, 1, 2, 5, 6, 7].iter().filter_map(|at| ticks.get(*at)).sum())
}

/// What this process did, and its children that have ended.
fn own_ticks() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = text.rsplit(')').next().context("/proc/self/stat is empty")?;
    // utime, stime, cutime, cstime
    Ok(numbers(after_name).iter().skip(10).take(4).sum())
}

fn numbers(text: &str) -> Vec<u64> {
    let words = text.split_whitespace().skip(1);
    words.map(|word| word.parse().unwrap_or(0)).collect()
}

/// Takes the time of `work`, which returns the peak of its memory.
pub fn timed(work: impl FnOnce() -> Result<u64>) -> Result<Sample> {
    // What others left to be written would be paid by whoever syncs next.
    rustix::fs::sync();
    let load = Load::begin()?;
    let begun = Instant::now();
    let peak_bytes = work()?;
    let seconds = begun.elapsed().as_secs_f64();
    Ok(Sample { seconds, peak_bytes, others: load.others()? })
}

/// Whether a program is there.
pub fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\"", program]).output();
    found.is_ok_and(|output| output.status.success())
}

/// Runs to the end; what it prints is shown only when it fails.
pub fn succeed(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} ended with {}:\n{text}{error}", output.status);
    }
    Ok(text)
}

/// Runs to the end with files as its input and output; returns the peak of its memory.
/// Without an output what it prints comes back.
pub fn watched(
    command: &mut Command,
    input: Option<&Path>,
    output: Option<&File>,
) -> Result<(u64, String)> {
    command.stdin(match input {
        Some(path) => File::open(path).with_context(|| path.display().to_string())?.into(),
        None => Stdio::null(),
    });
    command.stdout(match output {
        Some(file) => file.try_clone()?.into(),
        None => Stdio::piped(),
    });
    let child = command.stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("cannot run {command:?}"))?;
    let (peak_bytes, output) = wait(child)?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}:\n{error}", output.status);
    Ok((peak_bytes, String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn wait(child: Child) -> Result<(u64, std::process::Output)> {
    let status = format!("/proc/{}/status", child.id());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak_bytes = 0;
            while !ended.load(Ordering::Relaxed) {
                peak_bytes = peak_bytes.max(peak(&status).unwrap_or(0));
                std::thread::park_timeout(LOOK_EVERY);
            }
            peak_bytes
        });
        let output = child.wait_with_output();
        ended.store(true, Ordering::Relaxed);
        watch.thread().unpark();
        let peak_bytes = watch.join().unwrap_or(0);
        Ok((peak_bytes, output?))
    })
}

/// The largest resident size that a process has had; `None` once it has ended.
fn peak(status: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Makes everything durable that was written to the file system of `path`. afterimage syncs all
/// that it writes; those that do not are given this, within the time that is measured.
pub fn sync_file_system(path: &Path) -> Result<()> {
    let folder = File::open(path).with_context(|| path.display().to_string())?;
    Ok(rustix::fs::syncfs(&folder)?)
}
