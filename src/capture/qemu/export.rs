//! The disks of a capture, read over a private socket from QEMU's NBD server.
//!
//! The socket is made here and handed to QEMU, which then needs no right to any folder. It loses
//! its name as soon as this process is connected: nobody else can read the disks.

use super::clean::{SOCKET, socket_folder};
use super::error::QemuError;
use super::freeze::{set_object, unset_object};
use super::names::Capture;
use crate::nbd::{Address, Options};
use crate::qmp::{Monitor, QmpError};
use crate::source::{NbdSource, open_nbd};
use serde_json::json;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// What the bitmap of changes is called on the scratch image.
pub(super) const CHANGES: &str = "changes";
/// Connections to one export.
const CONNECTIONS: usize = 4;

/// A folder that only this user can enter, until it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn make(path: PathBuf) -> std::io::Result<Self> {
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join(SOCKET)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        let _ = std::fs::remove_file(self.socket());
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Has QEMU export the scratch images, and connects to them, in the order of the disks.
pub(super) fn connect(
    monitor: &mut Monitor,
    capture: &Capture,
    disks: usize,
) -> Result<Vec<NbdSource>, QemuError> {
    let system = |action| move |source| QemuError::System { action, source };
    let folder = Folder::make(socket_folder(&capture.socket_folder()))
        .map_err(system("make a folder for the socket"))?;
    let socket = folder.socket();
    let listener = UnixListener::bind(&socket).map_err(system("make the socket"))?;
    start_server(monitor, capture, &listener)?;
    // Now only QEMU listens; else nobody would tell when it ends.
    drop(listener);
    (0..disks).map(|disk| export(monitor, capture, disk, &socket)).collect()
}

fn start_server(
    monitor: &mut Monitor,
    capture: &Capture,
    listener: &UnixListener,
) -> Result<(), QemuError> {
    let (name, mark) = (capture.mark.descriptor(), capture.mark.serving());
    set_object(monitor, &mark)?;
    let descriptor = json!({ "fdname": name });
    monitor.execute_with_descriptor("getfd", descriptor, listener.as_fd())?;
    let address = json!({ "addr": { "type": "fd", "data": { "str": name } } });
    match monitor.execute("nbd-server-start", address) {
        Ok(_) => Ok(()),
        Err(error) => {
            monitor.execute("closefd", json!({ "fdname": name }))?;
            unset_object(monitor, &mark)?;
            Err(taken(monitor, error))
        }
    }
}

/// Who has the server, if somebody has.
fn taken(monitor: &mut Monitor, error: QmpError) -> QemuError {
    if !error.refusal().is_some_and(|reason| reason.contains("already running")) {
        return error.into();
    }
    match monitor.execute("query-block-exports", json!({})) {
        Ok(exports) => {
            let exports = exports.as_array().into_iter().flatten();
            let ids: Vec<&str> = exports.filter_map(|export| export["id"].as_str()).collect();
            QemuError::ServerTaken { exports: ids.join(", ") }
        }
        Err(error) => error.into(),
    }
}

fn export(
    monitor: &mut Monitor,
    capture: &Capture,
    disk: usize,
    socket: &Path,
) -> Result<NbdSource, QemuError> {
    let name = capture.job(disk);
    let export = json!({
        "type": "nbd", "id": name, "name": name, "node-name": capture.scratch_node(disk),
        "bitmaps": [CHANGES],
    });
    monitor.execute("block-export-add", export)?;
    let options = Options {
        contexts: vec![format!("{}{CHANGES}", crate::nbd::DIRTY_BITMAP_PREFIX)],
        // Between a look and a read the guest may discard what was looked at.
        undivided_reads: true,
        connections: CONNECTIONS,
        ..Options::default()
    };
    let address = Address::unix(socket, &name)?;
    let connected = open_nbd(&address, &options);
    connected.map_err(|error| QemuError::Export { error: Box::new(error) })
}
