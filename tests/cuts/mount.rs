//! A file system on a loop device that can lose power.

use super::place::Place;
use rustix::mount::{MountFlags, UnmountFlags};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    fn bytes(self) -> u64 {
        match self {
            Self::Ext4 => 160 << 20,
            // mkfs.xfs makes no smaller ones.
            Self::Xfs => 300 << 20,
        }
    }

    fn make(self) -> Command {
        let mut command;
        match self {
            Self::Ext4 => {
                command = Command::new("mke2fs");
                // Nothing is left to be done in the background, and nothing kept back for root.
                let extended = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
                command.args(["-q", "-F", "-t", "ext4", "-m", "0", "-b", "4096", "-E", extended]);
            }
            Self::Xfs => {
                command = Command::new("mkfs.xfs");
                command.args(["-q", "-f", "-K"]);
            }
        }
        command
    }
}

/// A mounted file system.
pub struct Mount {
    kind: Kind,
    device: PathBuf,
    place: Place,
    /// Stands ready to cut the power at once.
    switch: Option<Child>,
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: see tests/run"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this needs root and loop devices: {command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Mount {
    /// Makes one, with other settings of its `make` if need be.
    pub fn new(kind: Kind, more: &[&str]) -> Self {
        let place = Place::new();
        let image = place.path("image");
        std::fs::File::create(&image).unwrap().set_len(kind.bytes()).unwrap();
        succeed(kind.make().args(more).arg(&image));
        let device = succeed(Command::new("losetup").args(["-f", "--show"]).arg(&image));
        std::fs::create_dir(place.path("mnt")).unwrap();
        let mut mount = Self { kind, device: device.into(), place, switch: None };
        mount.mount();
        mount
    }

    pub fn folder(&self) -> PathBuf {
        self.place.path("mnt")
    }

    fn mount(&mut self) {
        let (device, kind) = (&self.device, self.kind.name());
        rustix::mount::mount(device, self.folder(), kind, MountFlags::empty(), None)
            .unwrap_or_else(|error| panic!("mounting {} of {kind}: {error}", device.display()));
        let mut switch = Command::new("xfs_io");
        switch.arg("-x").arg(self.folder());
        switch.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.switch = Some(switch.spawn().expect("xfs_io is there: Debian's package is xfsprogs"));
    }

    /// From now on nothing gets to the device any more, not even what waits in the log.
    pub fn cut(&mut self) {
        let mut switch = self.switch.take().unwrap();
        // Without `-f` the log is not flushed.
        switch.stdin.take().unwrap().write_all(b"shutdown\nquit\n").unwrap();
        assert!(switch.wait().unwrap().success());
        let is_off = std::fs::write(self.folder().join("is-it-off"), b"").is_err();
        assert!(is_off, "the file system takes writes after the cut");
    }

    /// Mounts it anew, as after a start of the machine.
    pub fn remount(&mut self) {
        self.unmount();
        self.mount();
    }

    fn unmount(&mut self) {
        if let Some(mut switch) = self.switch.take() {
            let _ = switch.kill();
            let _ = switch.wait();
        }
        // The last file of a killed process may take a moment to be closed.
        for _ in 0..200 {
            match rustix::mount::unmount(self.folder(), UnmountFlags::empty()) {
                Err(rustix::io::Errno::BUSY) => std::thread::sleep(Duration::from_millis(5)),
                _ => return,
            }
        }
        let _ = rustix::mount::unmount(self.folder(), UnmountFlags::DETACH);
    }

    /// Leaves the image where it can be looked at.
    pub fn keep(&mut self) -> PathBuf {
        self.unmount();
        self.place.keep()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        self.unmount();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).status();
    }
}
