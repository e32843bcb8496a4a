//! A machine, and a repository that it is backed up to.

use super::common::World;
use super::machine::Machine;
use afterimage::backup::{BackupError, BackupRequest, BackupResult, ChangeHints, backup};
use afterimage::capture::{
    Bases, CaptureUser, Captured, Capturer, OwnerId, QemuDisk, QemuMachine, QemuMark,
};
use afterimage::catalog::History;
use afterimage::point::Point;
use afterimage::progress::Progress;
use afterimage::source::SourceSpec;
use afterimage::units::{Name, RunId};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub const DISKS: [&str; 2] = ["root", "data"];

/// Each test's machine has an owner of its own.
fn mark(folder: &Path) -> QemuMark {
    let digest = Sha256::digest(folder.to_str().unwrap().as_bytes());
    QemuMark::new(OwnerId(digest[..16].try_into().unwrap()), CaptureUser::Machine(&name("web01")))
}

pub fn mark_prefix(folder: &Path) -> String {
    format!("afterimage-{}-", mark(folder))
}

pub struct Lab {
    pub world: World,
    pub machine: Machine,
    /// What is captured, and how.
    pub qemu: QemuMachine,
    /// Where the history lies, and whether it is asked.
    pub read_everything: bool,
}

fn disk_of(folder: &Path, disk: &str) -> QemuDisk {
    let image = if disk == "root" { "root.qcow2" } else { "data.raw" };
    let image = SourceSpec {
        path: folder.join(image),
        format: None,
        must_be_device: false,
        quiesced: false,
    };
    QemuDisk { name: name(disk), device: disk.to_owned(), image: Some(image) }
}

impl Lab {
    pub fn with_guest() -> Self {
        Self::of(Machine::with_guest)
    }

    pub fn paused() -> Self {
        Self::of(Machine::paused)
    }

    fn of(start: impl FnOnce(&Path) -> Machine) -> Self {
        let world = World::new(&DISKS, false);
        let folder = world.path("machine");
        std::fs::create_dir(&folder).unwrap();
        let machine = start(&folder);
        let agent = machine.agent();
        let qemu = QemuMachine {
            qmp: machine.qmp(),
            agent: agent.exists().then_some(agent),
            disks: DISKS.map(|disk| disk_of(&folder, disk)).into(),
            scratch: None,
            freeze_limit: Duration::from_secs(20),
            mark: mark(&folder),
        };
        Self { world, machine, qemu, read_everything: false }
    }

    /// The bases that the next capture is given.
    pub fn noted(&self) -> Bases {
        let id = self.world.repository().header().id;
        let history = History::open(&self.world.state_dir()).unwrap();
        history.sources(id, &name("web01")).unwrap().map_or_else(Bases::new, |it| it.disks)
    }

    pub fn capture(&self) -> Box<dyn Captured> {
        self.qemu.capture(&self.noted()).unwrap()
    }

    #[track_caller]
    pub fn backup(&self) -> BackupResult {
        self.try_backup(&self.qemu).unwrap()
    }

    pub fn try_backup(&self, capturer: &dyn Capturer) -> Result<BackupResult, BackupError> {
        let repository = self.world.repository();
        let history = History::open(&self.world.state_dir()).unwrap();
        let machine = name("web01");
        self.world.tick();
        let hints = ChangeHints {
            sources: history.sources(repository.header().id, &machine).unwrap(),
            read_everything: self.read_everything,
            ..ChangeHints::default()
        };
        let request = BackupRequest {
            machine: &machine,
            capturer,
            hints,
            definition: Vec::new(),
            lock_until: None,
            now: self.world.now(),
            run: RunId::random().unwrap(),
            workers: 2,
            history: Some(&history),
        };
        backup(&repository, &self.world.catalog(&repository), &request, &Progress::default())
    }

    /// A point's disks as files of their own.
    pub fn restored(&self, point: &Point, folder: &str) -> Vec<PathBuf> {
        let folder = self.world.restore(point, folder).unwrap();
        DISKS.map(|disk| folder.join(format!("{disk}.raw"))).into()
    }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Lab {
    /// Why it cannot be captured.
    #[track_caller]
    pub fn qemu_error(&self) -> String {
        self.qemu.capture(&self.noted()).unwrap_err().to_string()
    }
}
