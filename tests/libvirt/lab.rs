//! A domain, and a repository that it is backed up to.

use super::common::World;
use super::domain::{DISKS, DOMAIN, Domain};
use afterimage::backup::{BackupError, BackupRequest, BackupResult, ChangeHints, backup};
use afterimage::capture::{Bases, CaptureUser, Capturer, LibvirtMachine, OwnerId, QemuMark};
use afterimage::catalog::History;
use afterimage::point::{Point, Provenance};
use afterimage::progress::Progress;
use afterimage::units::{Name, RunId};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub struct Lab {
    pub world: World,
    pub domain: Domain,
    /// What is captured, and how.
    pub libvirt: LibvirtMachine,
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Lab {
    pub fn of(start: impl FnOnce(&Path) -> Domain) -> Self {
        let world = World::new(&DISKS, false);
        // QEMU runs as a user of its own.
        let all = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(world.folder.path(), all).unwrap();
        let folder = world.path("machine");
        std::fs::create_dir(&folder).unwrap();
        let domain = start(&folder);
        let libvirt = LibvirtMachine {
            uri: domain.daemon.uri(),
            domain: DOMAIN.to_owned(),
            scratch: None,
            freeze_limit: Duration::from_secs(20),
            mark: QemuMark::new(OwnerId([7; 16]), CaptureUser::Machine(&name("web01"))),
        };
        Self { world, domain, libvirt }
    }

    /// The bases that the next capture is given.
    pub fn noted(&self) -> Bases {
        let id = self.world.repository().header().id;
        let history = History::open(&self.world.state_dir()).unwrap();
        history.sources(id, &name("web01")).unwrap().map_or_else(Bases::new, |it| it.disks)
    }

    #[track_caller]
    pub fn backup(&self) -> BackupResult {
        self.try_backup(&self.libvirt).unwrap()
    }

    pub fn try_backup(&self, capturer: &dyn Capturer) -> Result<BackupResult, BackupError> {
        let repository = self.world.repository();
        let history = History::open(&self.world.state_dir()).unwrap();
        let machine = name("web01");
        self.world.tick();
        let hints = ChangeHints {
            sources: history.sources(repository.header().id, &machine).unwrap(),
            ..ChangeHints::default()
        };
        let request = BackupRequest {
            machine: &machine,
            capturer,
            hints,
            definition: Vec::new(),
            lock_until: None,
            // Times of files are held against it.
            now: jiff::Timestamp::now(),
            run: RunId::random().unwrap(),
            workers: 2,
            history: Some(&history),
        };
        backup(&repository, &self.world.catalog(&repository), &request, &Progress::default())
    }

    /// Why it cannot be captured.
    #[track_caller]
    pub fn error(&self) -> String {
        self.libvirt.capture(&self.noted()).unwrap_err().to_string()
    }

    /// A point's disks as files of their own.
    pub fn restored(&self, point: &Point, folder: &str) -> Vec<PathBuf> {
        let folder = self.world.restore(point, folder).unwrap();
        DISKS.map(|disk| folder.join(format!("{disk}.raw"))).into()
    }
}

/// How each disk was read.
pub fn provenances(made: &BackupResult) -> Vec<Provenance> {
    made.disks.iter().map(|disk| disk.provenance).collect()
}
