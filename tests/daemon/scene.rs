//! Machines, a repository and a daemon, in one folder.

use afterimage::catalog::{History, RunRecord, RunStatus};
use afterimage::daemon::{Daemon, DaemonHandle};
use afterimage::operations::{InitChoice, Task, init, repository_points};
use afterimage::report::{Event, EventKind, RunEnd};
use afterimage::settings::Settings;
use afterimage::units::{Name, RunId};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_afterimage");
/// Nothing takes so long that should come at all.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn backup(machine: &str) -> Task {
    Task::Backup { machine: name(machine), full_read: false, trust_changes: false }
}

/// Waits until there is something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < LIMIT, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The folder with the settings and the disks.
pub struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// Machines `m0`, `m1`, …, each with one small disk, and a repository that exists. `more` is
    /// added to the settings. The capture of a machine waits as long as there is a file `NAME.wait`.
    pub fn new(machines: usize, more: &str) -> Self {
        Self::with(machines, "", more)
    }

    /// As [`Self::new`], with more lines for the first machine.
    pub fn with(machines: usize, of_first: &str, more: &str) -> Self {
        let scene = Self { folder: tempfile::tempdir().unwrap() };
        scene.write_settings(machines, of_first, more);
        for at in 0..machines {
            std::fs::write(scene.path(&format!("m{at}.img")), vec![at as u8 + 1; 100_000]).unwrap();
        }
        init(&scene.settings(), &name("main"), InitChoice { recovery_key: false }).unwrap();
        scene
    }

    pub fn write_settings(&self, machines: usize, of_first: &str, more: &str) {
        let folder = self.folder.path().display();
        let mut text =
            "state_dir = \"state\"\ntimezone = \"UTC\"\n[repository.main]\nurl = \"repository\"\n\
                        encryption = \"none\"\n"
                .to_owned();
        for at in 0..machines {
            text += &format!(
                "[machine.m{at}]\nrepository = \"main\"\n\
                 hooks = {{ before = \"touch {folder}/m{at}.began; \
                 while [ -e {folder}/m{at}.wait ]; do sleep 0.02; done\" }}\n{}\n\
                 [[machine.m{at}.disk]]\nname = \"root\"\n\
                 source = {{ image = \"m{at}.img\", format = \"raw\" }}\n",
                if at == 0 { of_first } else { "" }
            );
        }
        self.write("afterimage.toml", &(text + more));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// The next captures of the machine wait until [`Self::let_go`].
    pub fn hold(&self, machine: &str) {
        self.write(&format!("{machine}.wait"), "");
    }

    pub fn let_go(&self, machine: &str) {
        std::fs::remove_file(self.path(&format!("{machine}.wait"))).unwrap();
    }

    /// Waits until a capture of the machine is under way.
    pub fn wait_for_capture(&self, machine: &str) {
        let began = self.path(&format!("{machine}.began"));
        wait_for("the capture", || began.exists().then_some(()));
    }

    pub fn settings_file(&self) -> PathBuf {
        self.path("afterimage.toml")
    }

    pub fn settings(&self) -> Settings {
        Settings::load(&self.settings_file()).unwrap()
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path("state")
    }

    pub fn history(&self) -> History {
        History::open(&self.state_dir()).unwrap()
    }

    /// A daemon in this process.
    pub fn daemon(&self) -> Daemon {
        Daemon::start(self.settings()).unwrap()
    }

    /// The program, to be started with more arguments.
    pub fn program(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(self.settings_file());
        command
    }
}

/// Waits for the end of a run.
pub fn end_of(handle: &dyn DaemonHandle, run: RunId) -> RunEnd {
    wait_for("the end of the run", || {
        events_of(handle, run).into_iter().find_map(|event| match &event.what {
            EventKind::Ended(end) => Some(end.clone()),
            _ => None,
        })
    })
}

pub fn events_of(handle: &dyn DaemonHandle, run: RunId) -> Vec<Arc<Event>> {
    let mut events = handle.events(0, usize::MAX).events;
    events.retain(|event| event.run == Some(run));
    events
}

pub fn record_of(handle: &dyn DaemonHandle, run: RunId) -> RunRecord {
    handle.history().run(run).unwrap().unwrap()
}

pub fn wait_for_status(handle: &dyn DaemonHandle, run: RunId, status: RunStatus) {
    wait_for(status.word(), || (record_of(handle, run).outcome.status == status).then_some(()));
}

/// How many points a machine has.
pub fn points(scene: &Scene, machine: &str) -> usize {
    let settings = scene.settings();
    let report = repository_points(&settings, &name("main")).unwrap();
    report.points.iter().filter(|point| point.machine == name(machine)).count()
}
