//! The settings as the rest of afterimage uses them: checked, with every path resolved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::api::ApiSettings;
use super::daemon::DaemonSettings;
use super::limits::LimitSettings;
use super::notify::NotifySettings;
use super::problem::Problem;
use super::timing::TimingSettings;
use crate::nbd::Address;
use crate::source::ImageFormat;
use crate::units::{Keep, Name, SettingsDigest};

/// Everything that the settings file says. Invariant: every name that one part mentions exists
/// in another, and no two parts claim the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file that was read, as an absolute path.
    pub file: PathBuf,
    /// Of the bytes that were read: whoever has the same works with the same settings.
    pub fingerprint: SettingsDigest,
    /// Folder for the catalog and other local state.
    pub state_dir: PathBuf,
    /// How the daemon works.
    pub daemon: DaemonSettings,
    /// How fast data may flow, in all runs together.
    pub limits: LimitSettings,
    /// Where the daemon also answers; `None`: only at its socket.
    pub api: Option<ApiSettings>,
    /// Who is told what.
    pub notify: NotifySettings,
    /// Where backups are kept.
    pub repositories: BTreeMap<Name, RepositorySettings>,
    /// What is backed up.
    pub machines: BTreeMap<Name, MachineSettings>,
    /// Which machines have a standby copy, and where.
    pub replicas: BTreeMap<Name, ReplicaSettings>,
    /// What is right but does less than the user may expect; sorted by position.
    pub notices: Vec<Problem>,
}

/// A repository in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepositorySettings {
    /// Its name in this file.
    pub name: Name,
    /// Its directory.
    pub path: PathBuf,
    /// How its content is sealed.
    pub encryption: EncryptionSettings,
    /// Average size of a chunk in bytes, when the repository is created: a power of two from
    /// [`super::CHUNK_BYTES_MIN`] to [`super::CHUNK_BYTES_MAX`]; `None` leaves the choice to afterimage.
    pub chunk_bytes: Option<u64>,
    /// Level of zstd, -7 (fast) to 19 (small).
    pub compression_level: i32,
    /// Packs of which less is needed are written anew by a collection, in percent, 0 to 95.
    pub gc_fill_percent: u8,
    /// How many runs may use it at once, at least 1; `None`: as many as the daemon allows.
    pub runs: Option<u32>,
    /// What is done to it by itself, and when.
    pub upkeep: UpkeepSettings,
}

/// What is done to a repository by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpkeepSettings {
    /// When all its machines that have `keep` are pruned.
    pub prune: Option<Schedule>,
    /// When its garbage is collected.
    pub gc: Option<Schedule>,
    /// When a part of it is verified.
    pub verify: Option<Schedule>,
    /// How much is verified each time, in percent of its packs' bytes, 1 to 100.
    pub verify_percent: u32,
    /// When else these may run.
    pub timing: TimingSettings,
}

/// How the content of a repository is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EncryptionSettings {
    /// Not at all, because the user said so.
    None,
    /// With the key in this file.
    KeyFile(PathBuf),
    /// With the pass phrase in this file.
    PassphraseFile(PathBuf),
}

/// A set of disks that are captured at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineSettings {
    /// Its name in this file.
    pub name: Name,
    /// The repository that keeps its points.
    pub repository: Name,
    /// When it is backed up.
    pub schedule: Option<Schedule>,
    /// When else that may be.
    pub timing: TimingSettings,
    /// How old its newest point may get; `None`: nobody minds.
    pub rpo: Option<Duration>,
    /// IANA name of the zone of its schedule and of the calendar that `keep` counts in;
    /// [`super::TIMEZONE_LOCAL`] is the host's.
    pub timezone: String,
    /// Which points are kept; `None` keeps all.
    pub keep: Option<Keep>,
    /// For how many days after its instant a point cannot be removed; 0 locks none.
    pub lock_days: u32,
    /// The most that one prune may remove without being told so, in percent of the points.
    pub prune_max_percent: u8,
    /// Files that travel in each point; at most [`super::DEFINITION_FILES_MAX`].
    pub definition: Vec<PathBuf>,
    /// Commands that are run around each capture.
    pub hooks: Option<HookSettings>,
    /// How long after it was read in full a disk is read in full again, and what was told of its
    /// changes is held against that; `None`: never.
    pub full_read_every: Option<Duration>,
    /// Its disks; at least one unless they are found by itself, no name twice.
    pub disks: Vec<DiskSettings>,
    /// The domain that all its disks are found by.
    pub libvirt: Option<LibvirtSettings>,
}

/// Commands that are run, by `/bin/sh -c`, around each capture of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookSettings {
    /// Run before it.
    pub before: Option<String>,
    /// Run as soon as the machine need not hold still any more.
    pub after: Option<String>,
    /// How long each may take.
    pub timeout: Duration,
    /// The user vouches that the machine's software has written out what it holds when `before`
    /// ends.
    pub consistent: bool,
}

/// A disk of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskSettings {
    /// Its name within the machine.
    pub name: Name,
    /// Where it is read.
    pub source: SourceSettings,
}

/// Where a disk is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSettings {
    /// An image file or a device to which nobody writes.
    File(FileSettings),
    /// An export of an NBD server.
    Nbd(NbdSettings),
    /// A running QEMU.
    Qemu(QemuSettings),
    /// A snapshot that commands of the user make.
    Snapshot(SnapshotSettings),
}

impl SourceSettings {
    /// The file or device that it is.
    pub fn file(&self) -> Option<&FileSettings> {
        match self {
            Self::File(file) => Some(file),
            Self::Nbd(_) | Self::Qemu(_) | Self::Snapshot(_) => None,
        }
    }
}

/// A disk in an image file or a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The image file or device.
    pub path: PathBuf,
    /// Which of the two it is.
    pub kind: PlaceKind,
    /// Format of an image; `None` when afterimage has to find out. Always `None` for a device.
    pub format: Option<ImageFormat>,
    /// The user promises that nothing writes to it during a backup.
    pub quiesced: bool,
    /// A file with a list of what changed since a point, which a tool of the user's writes.
    pub changed: Option<PathBuf>,
    /// A clone of it is read, which shares its blocks.
    pub cloned: bool,
}

/// An export of an NBD server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NbdSettings {
    /// Its address.
    pub address: Address,
    /// How the connection is secured; `None` where the address says that it is not.
    pub tls: Option<TlsSettings>,
}

/// How a connection is secured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// PEM file: certificates of the authorities that may have signed the server's.
    pub authority: PathBuf,
    /// PEM files of the client's own certificates, and of their key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the server's certificate must hold; `None`: the one of the address.
    pub server_name: Option<String>,
}

/// A disk of a running QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuSettings {
    /// Socket of its QMP monitor.
    pub qmp: PathBuf,
    /// Device, or block node, of the disk.
    pub device: String,
    /// Socket of the guest agent; `None`: the guest is never frozen.
    pub agent: Option<PathBuf>,
    /// For how long at most its file systems are frozen.
    pub freeze_timeout: Duration,
    /// Folder of the scratch files; `None`: beside each image.
    pub scratch: Option<PathBuf>,
    /// The image of the disk, which is read while the machine is off.
    pub image: Option<PathBuf>,
    /// Format of the image; `None` when afterimage has to find out.
    pub format: Option<ImageFormat>,
}

/// A domain of libvirt, whose disks are found by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtSettings {
    /// Its name or UUID.
    pub domain: String,
    /// How libvirt is reached.
    pub uri: String,
    /// For how long at most its file systems are frozen.
    pub freeze_timeout: Duration,
    /// Folder of the scratch files; `None`: beside each image.
    pub scratch: Option<PathBuf>,
}

/// Commands that make a snapshot of a disk. They are run by `/bin/sh -c`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Makes a snapshot.
    pub create: String,
    /// Where it can be read; a device or file, whose name may hold variables.
    pub path: String,
    /// Removes a snapshot.
    pub remove: String,
    /// Prints where a snapshot differs from an older one.
    pub changed: Option<String>,
    /// How long each of them may take.
    pub timeout: Duration,
    /// Format of what is read; `None` when afterimage has to find out.
    pub format: Option<ImageFormat>,
}

/// What holds a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PlaceKind {
    /// An image file.
    Image,
    /// A block device.
    Device,
    /// An NBD export; its path is its address.
    Export,
}

/// When something runs by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Cron expression: five fields, or six with seconds first, or a nickname such as `@daily`.
    pub expression: String,
    /// IANA name of the zone that the expression is in; [`super::TIMEZONE_LOCAL`] is the host's.
    pub timezone: String,
}

/// A standby copy of a machine's disks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSettings {
    /// Its name in this file.
    pub name: Name,
    /// The machine that it follows.
    pub machine: Name,
    /// What makes it follow.
    pub trigger: Trigger,
    /// When else that may be.
    pub timing: TimingSettings,
    /// How old what it holds may get; `None`: nobody minds.
    pub rpo: Option<Duration>,
    /// When it is verified by itself.
    pub verify: Option<Schedule>,
    /// What it is fed from.
    pub mode: ReplicaMode,
    /// Its disks: exactly those of the machine, in the file's order.
    pub disks: Vec<ReplicaDiskSettings>,
    /// Folder for its superblock and redo journal; `None` leaves the choice to afterimage.
    pub journal_dir: Option<PathBuf>,
}

/// What a replica is fed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaMode {
    /// The points of its machine.
    Backup,
    /// The machine itself.
    Direct,
}

/// What makes a replica follow its machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// Each new point.
    AfterBackup,
    /// The clock.
    Schedule(Schedule),
    /// Only the user.
    Manual,
}

/// A disk of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaDiskSettings {
    /// Name of the machine's disk.
    pub name: Name,
    /// The raw image file, the device or the address of the NBD export that it is written to.
    pub target: PathBuf,
    /// Which of them it is.
    pub target_kind: PlaceKind,
}
