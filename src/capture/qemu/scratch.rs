//! The scratch image of a disk: what the guest overwrites while the disk is read is kept there.
//!
//! QEMU makes the file, so that it may write to it, and it loses its name as soon as QEMU has it
//! open: when QEMU ends, or lets go of it, its space is free, whatever became of this process.

use super::error::QemuError;
use super::names::Capture;
use super::nodes::Node;
use crate::qmp::Monitor;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest time that making an empty image takes.
const CREATE_LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(10);
/// So much has to stay free where the scratch files lie, unless the disks are smaller.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Where the scratch file of a disk lies.
pub(super) fn folder(
    device: &str,
    disk: &Node,
    chosen: Option<&Path>,
) -> Result<PathBuf, QemuError> {
    let beside = || {
        let image = Path::new(&disk.file);
        let is_file = std::fs::metadata(image).is_ok_and(|it| it.is_file());
        image.parent().filter(|folder| is_file && folder.is_absolute())
    };
    chosen.or_else(beside).map(Path::to_owned).ok_or_else(|| {
        let (device, file) = (device.to_owned(), disk.file.clone());
        QemuError::NoScratch { device, file }
    })
}

/// Checks that a guest that goes on writing does not fill the file system at once: its writes
/// would fail. `disks_bytes` is the size of all disks whose scratch files lie there.
pub(in crate::capture) fn require_room(folder: &Path, disks_bytes: u64) -> Result<(), QemuError> {
    let free_bytes = free_bytes(folder)
        .map_err(|source| QemuError::System { action: "look at the scratch folder", source })?;
    let needed_bytes = disks_bytes.min(FREE_BYTES_MIN);
    if free_bytes >= needed_bytes {
        return Ok(());
    }
    Err(QemuError::NoRoom { folder: folder.to_owned(), free_bytes, needed_bytes })
}

/// Whether so little is left that the capture has to be given up for the guest's sake.
pub(super) fn is_running_out(folder: &Path, disks_bytes: u64) -> bool {
    free_bytes(folder).is_ok_and(|free| free < disks_bytes.min(FREE_BYTES_MIN) / 2)
}

fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes the scratch image of a disk above it, as a node of QEMU.
pub(super) fn make(
    monitor: &mut Monitor,
    capture: &Capture,
    (number, disk): (usize, &Node),
    folder: &Path,
) -> Result<(), QemuError> {
    let path = folder.join(capture.scratch_file(number));
    let (file, image) = (capture.file_node(number), capture.scratch_node(number));
    let name = path.to_str().ok_or_else(|| QemuError::Scratch {
        path: path.clone(),
        reason: "its name is no UTF-8, which QMP needs".to_owned(),
    })?;
    let created =
        create(monitor, capture, json!({ "driver": "file", "filename": name, "size": 0 }));
    created.map_err(|error| error.of(&path))?;
    let node = json!({ "driver": "file", "filename": name, "node-name": file });
    let opened = monitor.execute("blockdev-add", node);
    // From here on only QEMU has it. Where it has no such name here, QEMU sees other folders.
    let removed = std::fs::remove_file(&path);
    opened.map_err(|error| Failed::from(error).of(&path))?;
    removed.map_err(|error| QemuError::Scratch {
        path: path.clone(),
        reason: format!("QEMU made it, but it cannot be removed here: {error}"),
    })?;
    let size_bytes = disk.image.size_bytes;
    let options = json!({ "driver": "qcow2", "file": file, "size": size_bytes });
    create(monitor, capture, options).map_err(|error| error.of(&path))?;
    let node = json!({
        "driver": "qcow2", "node-name": image, "file": file, "backing": disk.node_name,
        // It is of no use after a power cut.
        "cache": { "no-flush": true },
    });
    monitor.execute("blockdev-add", node).map_err(|error| Failed::from(error).of(&path))?;
    Ok(())
}

/// Why something was not made.
enum Failed {
    Qmp(crate::qmp::QmpError),
    Job(String),
}

impl From<crate::qmp::QmpError> for Failed {
    fn from(error: crate::qmp::QmpError) -> Self {
        Self::Qmp(error)
    }
}

impl Failed {
    fn of(self, path: &Path) -> QemuError {
        let path = path.to_owned();
        match self {
            Self::Job(reason) => QemuError::Scratch { path, reason },
            Self::Qmp(error) => match error.refusal() {
                Some(reason) => QemuError::Scratch { path, reason: reason.to_owned() },
                None => QemuError::Qmp(error),
            },
        }
    }
}

fn create(monitor: &mut Monitor, capture: &Capture, options: Value) -> Result<(), Failed> {
    let id = capture.create_job();
    monitor.execute("blockdev-create", json!({ "job-id": id, "options": options }))?;
    let until = Instant::now() + CREATE_LIMIT;
    loop {
        let jobs = monitor.execute("query-jobs", json!({}))?;
        let job = jobs.as_array().into_iter().flatten().find(|job| job["id"] == id.as_str());
        let Some(job) = job else { return Err(Failed::Job("its job is gone".to_owned())) };
        if job["status"] == "concluded" {
            let error = job["error"].as_str().map(str::to_owned);
            monitor.execute("job-dismiss", json!({ "id": id }))?;
            return error.map_or(Ok(()), |error| Err(Failed::Job(error)));
        }
        if Instant::now() > until {
            let limit = CREATE_LIMIT.as_secs();
            return Err(Failed::Job(format!("it takes more than {limit} s")));
        }
        std::thread::sleep(POLL);
    }
}
