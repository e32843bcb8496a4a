//! A domain of libvirt, whose disks are captured at one instant while its guest goes on.
//!
//! The order of steps: what an earlier run left goes; the guest is frozen; libvirt begins a backup of
//! all disks and makes a checkpoint, in one step; the guest is thawed; the disks are read over a
//! socket, as they were at that step. When the point is durable, the checkpoint before goes.
//! `docs/capture.md` says what is left when any of it is cut off.
//!
//! Invariants: a checkpoint that a durable point was noted with stays until a later one is durable;
//! all that is made carries a mark, and goes when the capture does; nothing else is touched.

mod base;
mod definition;
mod domain;
mod error;
mod freeze;
mod held;
mod job;
mod names;
mod offline;
mod places;
mod request;
mod shared;
mod virsh;

pub use domain::{Domain, DomainDisk};
pub use error::LibvirtError;
pub use virsh::VirshError;

use super::qemu::{Keeper, Watch, require_room};
use super::{Bases, CaptureError, Captured, Capturer, QemuMark};
use crate::nbd::{Address, DIRTY_BITMAP_PREFIX, Options};
use crate::source::{NbdSource, open_nbd};
use held::{About, HeldDomain};
use job::{Cleaning, Job};
use names::Capture;
use offline::OfflineDomain;
use places::SocketPlace;
use request::{CHANGES, DiskRequest};
use shared::Shared;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use virsh::Virsh;

/// Longest time that a backup takes to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(60);
/// Connections to one export.
const CONNECTIONS: usize = 4;
/// Nobody has asked for the size of the disks: the usual room is asked for their scratch files.
const ANY_SIZE: u64 = u64::MAX;
/// What libvirt says when another job works on the domain.
const LOCKED: &str = "cannot acquire state change lock";

/// A machine that is a domain of libvirt.
#[derive(Debug, Clone)]
pub struct LibvirtMachine {
    /// How libvirt is reached; it must be that of this host.
    pub uri: String,
    /// The domain's name or UUID.
    pub domain: String,
    /// Where scratch files and the socket lie; `None`: scratch files beside each image.
    pub scratch: Option<PathBuf>,
    /// How long the guest may be frozen.
    pub freeze_limit: Duration,
    /// Who captures.
    pub mark: QemuMark,
}

/// A disk, as it is before the capture.
#[derive(Debug)]
struct Disk {
    of_domain: DomainDisk,
    folder: PathBuf,
    /// The checkpoint that tells what changed, or why none does.
    base: Result<String, Option<String>>,
}

impl Capturer for LibvirtMachine {
    fn capture(&self, noted: &Bases) -> Result<Box<dyn Captured>, CaptureError> {
        let mut virsh = Virsh { uri: self.uri.clone(), domain: self.domain.clone() };
        let described = self.describe(&virsh, &[])?;
        // It may be renamed meanwhile.
        virsh.domain = described.0.uuid.clone();
        if described.0.disks.is_empty() {
            let (domain, others) = (self.domain.clone(), described.0.others);
            return Err(LibvirtError::NoDisk { domain, others }.into());
        }
        if described.0.id.is_some() {
            Ok(Box::new(self.hold(&virsh, &described.0, noted)?))
        } else {
            Ok(Box::new(self.open(&virsh, &described.0, &described.1)?))
        }
    }
}

impl LibvirtMachine {
    fn describe(&self, virsh: &Virsh, words: &[&str]) -> Result<(Domain, String), LibvirtError> {
        let xml = virsh.run("dumpxml", words)?;
        let domain = Domain::parse(&xml)
            .map_err(|why| LibvirtError::Description { domain: self.domain.clone(), why })?;
        Ok((domain, xml))
    }

    /// Captures a domain that is shut off.
    fn open(
        &self,
        virsh: &Virsh,
        domain: &Domain,
        xml: &str,
    ) -> Result<OfflineDomain, CaptureError> {
        let state = virsh.run("domstate", &["--reason"]).map_err(LibvirtError::from)?;
        let (definition, mut notes) = definition::files(domain, xml);
        let folders = domain.disks.iter().filter_map(|disk| self.folder(disk).ok()).collect();
        let left = places::remove_files(&self.mark, &folders);
        notes.extend(self.told(domain, &left));
        OfflineDomain::open(&domain.disks, &state, definition, notes)
    }

    fn folder(&self, disk: &DomainDisk) -> Result<PathBuf, LibvirtError> {
        places::scratch_folder(disk, self.scratch.as_deref())
    }

    /// What the user should know of the domain, and of what an earlier run left.
    fn told(&self, domain: &Domain, left: &[String]) -> Vec<String> {
        let others = domain.others.iter();
        let others = others.map(|(disk, why)| format!("disk {disk} is not captured: {why}"));
        let left = left.iter().map(|what| format!("left by an earlier run: {what}"));
        others.chain(domain.notes.iter().cloned()).chain(left).collect()
    }

    /// Captures a domain that runs.
    fn hold(
        &self,
        virsh: &Virsh,
        domain: &Domain,
        noted: &Bases,
    ) -> Result<HeldDomain, LibvirtError> {
        let capture = Capture::new(self.mark.clone())
            .map_err(|source| LibvirtError::System { action: "name the capture", source })?;
        let libvirts = places::domain_folder(&self.uri, domain);
        let folders = domain.disks.iter().map(|disk| self.folder(disk));
        let folders: Vec<PathBuf> = folders.collect::<Result<_, _>>()?;
        folders.iter().try_for_each(|folder| require_folder(folder))?;
        let first = folders.first().cloned().unwrap_or_default();
        let all: BTreeSet<PathBuf> = folders.iter().chain(&libvirts).cloned().collect();
        let keep = base::noted_names(noted);
        let left = self.clean(virsh, &first, &all, &keep)?;
        self.require_no_job(virsh)?;
        let mut disks = self.disks(virsh, (domain, folders), noted, &keep)?;
        // From here on everything goes when this is dropped.
        let shared = Arc::new(Shared::new(virsh.clone(), capture.clone(), all, keep));
        let place = SocketPlace::make(&capture, domain, libvirts.as_deref(), &first)?;
        let address = |disk: &Disk| Address::unix(&place.socket, disk.of_domain.name.as_str());
        let addresses: Vec<Address> = disks.iter().map(address).collect::<Result<_, _>>()?;
        let begin = Begin { machine: self, virsh, domain, capture: &capture, place: &place };
        let not_frozen = begin.run_or_read_all(&mut disks)?;
        let keeper: Arc<dyn Keeper> = Arc::<Shared>::clone(&shared);
        let watched =
            scratch_folders(&disks).into_iter().map(|folder| (folder.to_owned(), ANY_SIZE));
        let watch = Watch::start(keeper, watched.collect())
            .map_err(|source| LibvirtError::System { action: "start a thread", source })?;
        let exports = disks.iter().zip(&addresses).map(|(disk, at)| export(disk, at));
        let exports: Vec<NbdSource> = exports.collect::<Result<_, _>>()?;
        let xml = virsh.run("dumpxml", &["--inactive"])?;
        let (definition, mut notes) = definition::files(domain, &xml);
        notes.extend(self.told(domain, &left));
        notes.extend(disks.iter().filter_map(always_read_all));
        let (domain, checkpoint) = (domain.uuid.clone(), capture.checkpoint());
        let about = About { domain, checkpoint, not_frozen, definition, notes };
        Ok(HeldDomain::new(disks.into_iter().zip(exports).collect(), about, watch, shared))
    }

    /// Takes away what an earlier run left. Gives back what stays.
    fn clean(
        &self,
        virsh: &Virsh,
        first: &Path,
        folders: &BTreeSet<PathBuf>,
        keep: &BTreeSet<String>,
    ) -> Result<Vec<String>, LibvirtError> {
        let mut left = Vec::new();
        left.extend(freeze::thaw_left(virsh, &self.mark, first).err());
        let cleaning = Cleaning { virsh, mark: &self.mark, folders, keep };
        left.extend(cleaning.run()?);
        Ok(left)
    }

    /// libvirt does one job at a time, and lets others wait for long.
    fn require_no_job(&self, virsh: &Virsh) -> Result<(), LibvirtError> {
        let job = match job::find(virsh, &self.mark)? {
            Job::None => return Ok(()),
            Job::Ours => "a backup of afterimage's that does not end".to_owned(),
            Job::Other(job) => job,
        };
        Err(LibvirtError::JobRunning { domain: self.domain.clone(), job })
    }

    fn disks(
        &self,
        virsh: &Virsh,
        (domain, folders): (&Domain, Vec<PathBuf>),
        noted: &Bases,
        names: &BTreeSet<String>,
    ) -> Result<Vec<Disk>, LibvirtError> {
        let existing = job::checkpoints(virsh, &self.mark)?;
        let covered = base::covered(virsh, names, &existing)?;
        let disk = |(disk, folder): (&DomainDisk, PathBuf)| {
            let base = match noted.get(&disk.name) {
                Some(base) => base::usable(base, (domain, disk), &self.mark, &covered)
                    .map(str::to_owned)
                    .map_err(Some),
                None => Err(None),
            };
            Disk { of_domain: disk.clone(), folder, base }
        };
        Ok(domain.disks.iter().zip(folders).map(disk).collect())
    }
}

/// What the user should know of a disk of which libvirt never tells what changed.
fn always_read_all(disk: &Disk) -> Option<String> {
    let DomainDisk { name, format, .. } = &disk.of_domain;
    let why = "and libvirt keeps checkpoints only in qcow2: it is read in full each time";
    (!disk.of_domain.keeps_checkpoints()).then(|| format!("disk {name} is a {format} image, {why}"))
}

/// A folder for scratch files must be there, and have room.
fn require_folder(folder: &Path) -> Result<(), LibvirtError> {
    if folder.is_dir() {
        Ok(require_room(folder, ANY_SIZE)?)
    } else {
        Err(LibvirtError::NoFolder { path: folder.to_owned() })
    }
}

/// The folders of the scratch files.
fn scratch_folders(disks: &[Disk]) -> BTreeSet<&Path> {
    disks.iter().map(|disk| disk.folder.as_path()).collect()
}

/// The beginning of a backup.
struct Begin<'a> {
    machine: &'a LibvirtMachine,
    virsh: &'a Virsh,
    domain: &'a Domain,
    capture: &'a Capture,
    place: &'a SocketPlace,
}

impl Begin<'_> {
    /// Begins a backup that tells what changed, or, where libvirt refuses that, one that does not.
    /// Gives back why the capture is not application-consistent, if so.
    fn run_or_read_all(&self, disks: &mut [Disk]) -> Result<Option<String>, LibvirtError> {
        let begun = self.run(disks);
        let reason = match &begun {
            Err(LibvirtError::Begin { error, .. })
                if disks.iter().any(|disk| disk.base.is_ok()) =>
            {
                error.refusal().map(str::to_owned)
            }
            _ => None,
        };
        let Some(reason) = reason else { return begun };
        for disk in disks.iter_mut().filter(|disk| disk.base.is_ok()) {
            disk.base = Err(Some(format!("libvirt cannot tell what changed: {reason}")));
        }
        self.run(disks)
    }

    /// Everything until the guest may write again.
    fn run(&self, disks: &[Disk]) -> Result<Option<String>, LibvirtError> {
        let request = |disk: &Disk| DiskRequest {
            target: disk.of_domain.name.to_string(),
            scratch: disk.folder.join(self.capture.scratch(disk.of_domain.name.as_str())),
            since: disk.base.as_ref().ok().cloned(),
            in_checkpoint: disk.of_domain.keeps_checkpoints(),
        };
        let requests: Vec<DiskRequest> = disks.iter().map(request).collect();
        let socket = &self.place.socket;
        let backup = request::backup(self.domain, &requests, socket)
            .ok_or_else(|| LibvirtError::Path { path: socket.clone() })?;
        let checkpoint = request::checkpoint(self.domain, &requests, &self.capture.checkpoint());
        let mut words = vec!["--backupxml", "/dev/fd/3"];
        let mut documents = vec![backup.as_str()];
        if let Some(checkpoint) = &checkpoint {
            words.extend(["--checkpointxml", "/dev/fd/4"]);
            documents.push(checkpoint);
        }
        let (mark, limit) = (&self.machine.mark, self.machine.freeze_limit);
        let folder = disks.first().map_or(Path::new("/"), |disk| disk.folder.as_path());
        let frozen = freeze::freeze(self.virsh, mark, folder, limit);
        let done = self.virsh.run_for("backup-begin", &words, &documents, BEGIN_LIMIT);
        let thawed = frozen.and_then(freeze::Frozen::thaw);
        done.map_err(|error| self.refused(error))?;
        Ok(thawed.err())
    }

    fn refused(&self, error: VirshError) -> LibvirtError {
        if error.refusal().is_some_and(|reason| reason.contains(LOCKED)) {
            let (domain, job) = (self.machine.domain.clone(), error.to_string());
            return LibvirtError::JobRunning { domain, job };
        }
        let folder = self.place.socket.parent().unwrap_or(Path::new("/")).to_owned();
        LibvirtError::Begin { error, folder }
    }
}

fn export(disk: &Disk, address: &Address) -> Result<NbdSource, LibvirtError> {
    let contexts = match disk.base {
        Ok(_) => vec![format!("{DIRTY_BITMAP_PREFIX}{CHANGES}")],
        Err(_) => Vec::new(),
    };
    let options = Options {
        contexts,
        // Between a look and a read the guest may discard what was looked at.
        undivided_reads: true,
        connections: CONNECTIONS,
        ..Options::default()
    };
    let connected = open_nbd(address, &options);
    connected.map_err(|error| LibvirtError::Export { error: Box::new(error) })
}
