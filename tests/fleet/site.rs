//! A site of many tiny machines and replicas with schedules, and the real daemon for it.

use afterimage::catalog::{History, RunFilter, RunRecord, SlotFate, SlotLine};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Size of each disk, in bytes.
pub const DISK_BYTES: usize = 64 * 1024;

/// How long anything may take that should come soon.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a site is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many machines, each with a replica.
    pub machines: usize,
    /// Cron expression of all of them.
    pub schedule: String,
    /// How many runs there may be at once.
    pub runs: usize,
    /// Lines of the settings before the first table of a repository.
    pub more: String,
}

/// A site in a folder of its own.
pub struct Site {
    pub folder: PathBuf,
    pub plan: Plan,
    program: PathBuf,
}

impl Site {
    /// Makes the disks, the settings and the repository.
    pub fn new(folder: &Path, program: &str, plan: Plan) -> Self {
        let site = Self { folder: folder.to_owned(), plan, program: program.into() };
        for name in ["disks", "standby"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        for machine in 0..site.plan.machines {
            let content: Vec<u8> =
                (0..DISK_BYTES).map(|at| (at / 512 * 31 + machine * 7 + at % 251) as u8).collect();
            std::fs::write(site.disk(machine), content).unwrap();
        }
        std::fs::write(site.settings_file(), site.settings()).unwrap();
        site.command(&["-q", "init"]).expect_success();
        site
    }

    fn settings(&self) -> String {
        let Plan { machines, schedule, runs, more } = &self.plan;
        let mut text = format!(
            "state_dir = \"state\"\n{more}\n[daemon]\nruns = {runs}\nretry = {{ times = 0 }}\n\
             [repository.main]\nurl = \"repository\"\nencryption = \"none\"\n"
        );
        for machine in 0..*machines {
            text += &format!(
                "[machine.m{machine}]\nrepository = \"main\"\nschedule = \"{schedule}\"\n\
                 timezone = \"UTC\"\n\
                 [[machine.m{machine}.disk]]\nname = \"root\"\n\
                 source = {{ image = \"disks/{machine}.raw\", format = \"raw\", quiesced = true }}\n\
                 [replica.r{machine}]\nmachine = \"m{machine}\"\nschedule = \"{schedule}\"\n\
                 timezone = \"UTC\"\n\
                 [[replica.r{machine}.disk]]\nname = \"root\"\n\
                 target = {{ image = \"standby/{machine}.raw\" }}\n"
            );
        }
        text
    }

    pub fn settings_file(&self) -> PathBuf {
        self.folder.join("afterimage.toml")
    }

    pub fn disk(&self, machine: usize) -> PathBuf {
        self.folder.join(format!("disks/{machine}.raw"))
    }

    pub fn standby(&self, machine: usize) -> PathBuf {
        self.folder.join(format!("standby/{machine}.raw"))
    }

    /// The program with these arguments, run to its end.
    pub fn command(&self, arguments: &[&str]) -> Ended {
        let output = Command::new(&self.program)
            .arg("-c")
            .arg(self.settings_file())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Ended { output }
    }

    /// Starts the daemon; it answers when this returns.
    pub fn start(&self) -> Daemon {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let child = Command::new(&self.program)
            .arg("-c")
            .arg(self.settings_file())
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Daemon { child };
        let (socket, since) = (self.folder.join("state/afterimage.sock"), Instant::now());
        while UnixStream::connect(&socket).is_err() {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none() && since.elapsed() < PATIENCE, "{ended:?}: {}", self.told());
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn log(&self) -> PathBuf {
        self.folder.join("daemon.log")
    }

    /// What all daemons of the site told so far.
    pub fn told(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub fn history(&self) -> History {
        History::open(&self.folder.join("state")).unwrap()
    }

    /// All runs of the history.
    pub fn runs(&self) -> Vec<RunRecord> {
        self.history().runs(&RunFilter::default(), usize::MAX).unwrap()
    }

    /// What became of the slots of each task.
    pub fn slots(&self) -> BTreeMap<String, Vec<SlotLine>> {
        let history = self.history();
        let tasks = (0..self.plan.machines)
            .flat_map(|machine| [format!("backup m{machine}"), format!("replicate r{machine}")]);
        let slots = |task: String| {
            let lines = history.slots(&task, usize::MAX).unwrap();
            (task, lines)
        };
        tasks.map(slots).collect()
    }
}

/// A command that ended.
pub struct Ended {
    pub output: std::process::Output,
}

impl Ended {
    #[track_caller]
    pub fn expect_success(&self) -> String {
        let error = String::from_utf8_lossy(&self.output.stderr);
        assert!(self.output.status.success(), "{:?}: {error}", self.output.status);
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }
}

/// A daemon, which is killed when this is dropped.
pub struct Daemon {
    child: Child,
}

impl Daemon {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and what becomes of it.
    pub fn stop(mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often each due instant of a task led to a run, or is recorded as skipped.
pub fn fates(lines: &[SlotLine], due: jiff::Timestamp) -> (usize, usize) {
    let of = |line: &&SlotLine| (line.first..=line.last).contains(&due);
    let (ran, skipped): (Vec<_>, Vec<_>) =
        lines.iter().filter(of).partition(|line| matches!(line.fate, SlotFate::Run { .. }));
    (ran.len(), skipped.len())
}
