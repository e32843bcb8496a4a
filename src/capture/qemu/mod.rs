//! A running QEMU, whose disks are captured at one instant while the guest goes on.
//!
//! The order of steps: what an earlier run left goes; scratch images are made; the guest is frozen;
//! one transaction, in which all disks are drained, starts to keep what the guest overwrites, copies
//! the bitmaps of what changed since the point before, and starts new ones; the guest is thawed; the
//! scratch images are read. When the point is durable, the old bitmaps go. `docs/capture.md` says what
//! is left when any of it is cut off.
//!
//! Invariants: a bitmap that a durable point was noted with records until a later one is durable; all
//! that is made in QEMU carries a mark, and goes when the capture does; nothing else is touched.

mod bitmap;
mod clean;
mod error;
mod export;
mod freeze;
mod held;
mod names;
mod nodes;
mod offline;
mod scratch;
mod source;
mod transaction;
mod watch;

pub use error::QemuError;
pub use names::Mark;
pub(super) use scratch::require_room;
pub(super) use source::ScratchSource;
pub(super) use watch::{Keeper, Watch};

use super::{Bases, CaptureError, Captured, Capturer};
use crate::qmp::{Monitor, QmpError, Version};
use crate::source::{DiskBase, SourceSpec};
use crate::units::Name;
use clean::Cleaning;
use held::HeldQemu;
use names::{Capture, DISKS_MAX};
use nodes::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use watch::Shared;

/// Longest wait for QEMU's answer to a command.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// The first version in which exports carry bitmaps and jobs are named alike.
const VERSION_MIN: Version = Version { major: 6, minor: 0 };

/// A machine in a running QEMU.
#[derive(Debug, Clone)]
pub struct QemuMachine {
    /// The socket of the monitor.
    pub qmp: PathBuf,
    /// The socket of the agent in the guest; `None`: the guest is not frozen.
    pub agent: Option<PathBuf>,
    /// Its disks.
    pub disks: Vec<QemuDisk>,
    /// Where scratch files lie; `None`: beside each image.
    pub scratch: Option<PathBuf>,
    /// How long the guest may be frozen.
    pub freeze_limit: Duration,
    /// Who captures.
    pub mark: Mark,
}

/// A disk of such a machine.
#[derive(Debug, Clone)]
pub struct QemuDisk {
    /// Its name.
    pub name: Name,
    /// Which of QEMU's it is: the id of the device, of the drive, or of the block node.
    pub device: String,
    /// Its image, which is read while the machine is off.
    pub image: Option<SourceSpec>,
}

impl Capturer for QemuMachine {
    fn capture(&self, noted: &Bases) -> Result<Box<dyn Captured>, CaptureError> {
        match self.monitor() {
            Ok(monitor) => Ok(Box::new(self.hold(monitor, noted)?)),
            Err(QmpError::NotRunning { .. }) if self.disks.iter().any(|it| it.image.is_some()) => {
                Ok(Box::new(offline::hold(self, noted)?))
            }
            Err(error) => Err(QemuError::from(error).into()),
        }
    }
}

/// A disk, as it is before the capture.
struct Disk {
    name: Name,
    node: Node,
    folder: PathBuf,
    /// The bitmap that tells what changed, or why none does.
    base: Result<String, Option<String>>,
}

impl QemuMachine {
    fn hold(&self, mut monitor: Monitor, noted: &Bases) -> Result<HeldQemu, QemuError> {
        let capture = Capture::new(self.mark.clone())
            .map_err(|source| QemuError::System { action: "name the capture", source })?;
        let keep = noted_bitmaps(noted);
        // Most of it does no harm; where it does, QEMU refuses what comes.
        let left = self.cleaning(&self.mark, &keep).run(&mut monitor)?;
        let disks = self.disks(&mut monitor, noted)?;
        let folders = folders(&disks);
        for (folder, disks_bytes) in &folders {
            scratch::require_room(folder, *disks_bytes)?;
        }
        // From here on everything goes when this is dropped.
        let shared = Arc::new(Shared::new(self.clone(), capture.clone(), monitor, keep));
        let not_frozen = shared.with(|monitor| self.begin(monitor, &capture, &disks))?;
        let watch = Watch::start(Arc::<Shared>::clone(&shared), folders.into_iter().collect())
            .map_err(|source| QemuError::System { action: "start a thread", source })?;
        let exports = shared.with(|monitor| export::connect(monitor, &capture, disks.len()))?;
        Ok(HeldQemu::new(&capture, disks, exports, (not_frozen, left), (shared, watch)))
    }

    fn monitor(&self) -> Result<Monitor, QmpError> {
        Monitor::connect(&self.qmp, ANSWER_LIMIT)
    }

    fn cleaning<'a>(&'a self, mark: &'a Mark, keep: &'a BTreeSet<String>) -> Cleaning<'a> {
        let folders = self.scratch.as_slice();
        Cleaning { mark, agent: self.agent.as_deref(), folders, keep }
    }

    fn disks(&self, monitor: &mut Monitor, noted: &Bases) -> Result<Vec<Disk>, QemuError> {
        let (found, needed) = (monitor.version(), VERSION_MIN);
        if found < needed {
            return Err(QemuError::TooOld { found, needed });
        }
        let (found, most) = (self.disks.len(), DISKS_MAX);
        if found > most {
            return Err(QemuError::TooManyDisks { found, most });
        }
        let graph = clean::graph(monitor)?;
        let mut seen = BTreeSet::new();
        let mut disks = Vec::with_capacity(self.disks.len());
        for QemuDisk { name, device, .. } in &self.disks {
            let node = graph.disk(device).map_err(|why| QemuError::Disk { why })?.clone();
            if !seen.insert(node.node_name.clone()) {
                let why = format!("{device:?} is given for two disks");
                return Err(QemuError::Disk { why });
            }
            if node.is_of_a_job() {
                return Err(QemuError::JobRunning { device: device.clone() });
            }
            let folder = scratch::folder(device, &node, self.scratch.as_deref())?;
            let base = match noted.get(name) {
                Some(base) => bitmap::usable(base, &node, &self.mark).map(str::to_owned),
                None => Err(String::new()),
            };
            let base = base.map_err(|reason| Some(reason).filter(|it| !it.is_empty()));
            disks.push(Disk { name: name.clone(), node, folder, base });
        }
        Ok(disks)
    }

    /// Everything until the guest may write again. Gives back why the capture is not
    /// application-consistent, if so.
    fn begin(
        &self,
        monitor: &mut Monitor,
        capture: &Capture,
        disks: &[Disk],
    ) -> Result<Option<String>, QemuError> {
        for (number, disk) in disks.iter().enumerate() {
            scratch::make(monitor, capture, (number, &disk.node), &disk.folder)?;
        }
        let frozen = match &self.agent {
            Some(agent) => freeze::freeze(monitor, agent, &self.mark, self.freeze_limit),
            None => Err("the guest was not frozen: no agent is given".to_owned()),
        };
        let done = transaction::run(monitor, capture, disks);
        let thawed = frozen.and_then(|frozen| frozen.thaw(monitor, &self.mark));
        done?;
        Ok(thawed.err())
    }
}

fn noted_bitmaps(noted: &Bases) -> BTreeSet<String> {
    let name = |base: &DiskBase| match base {
        DiskBase::Bitmap { name, .. } => Some(name.clone()),
        _ => None,
    };
    noted.values().filter_map(name).collect()
}

/// Where scratch files will lie, with the size of the disks whose files lie there.
fn folders(disks: &[Disk]) -> BTreeMap<PathBuf, u64> {
    let mut folders = BTreeMap::new();
    for disk in disks {
        let bytes: &mut u64 = folders.entry(disk.folder.clone()).or_default();
        *bytes = bytes.saturating_add(disk.node.image.size_bytes);
    }
    folders
}
