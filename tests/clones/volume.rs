//! A file system of its own on a loop device, unmounted when dropped.

use crate::place::Place;
use std::path::PathBuf;
use std::process::Command;

/// What is mounted, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Xfs,
    Btrfs,
    /// btrfs that compresses.
    Compressed,
}

impl Kind {
    pub fn is_btrfs(self) -> bool {
        self != Self::Xfs
    }
}

/// A mounted file system.
pub struct Volume {
    pub kind: Kind,
    place: Place,
}

/// Runs a command that must succeed, and gives back what it printed.
#[track_caller]
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}: see tests/run"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this needs root and loop devices: {command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

impl Volume {
    pub fn new(kind: Kind) -> Self {
        Self::sized(kind, 400 << 20)
    }

    pub fn sized(kind: Kind, bytes: u64) -> Self {
        match kind {
            Kind::Xfs => Self::made(kind, bytes, &["mkfs.xfs", "-m", "reflink=1"], "loop"),
            Kind::Btrfs => Self::made(kind, bytes, &["mkfs.btrfs"], "loop,compress=no"),
            Kind::Compressed => {
                Self::made(kind, bytes, &["mkfs.btrfs"], "loop,compress-force=zstd")
            }
        }
    }

    /// XFS whose files cannot share blocks.
    pub fn without_reflink() -> Self {
        Self::made(Kind::Xfs, 400 << 20, &["mkfs.xfs", "-m", "reflink=0"], "loop")
    }

    fn made(kind: Kind, bytes: u64, make: &[&str], options: &str) -> Self {
        let place = Place::new();
        let image = place.path("image");
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        succeed(Command::new(make[0]).args(["-q", "-f", "-K"]).args(&make[1..]).arg(&image));
        std::fs::create_dir(place.path("mnt")).unwrap();
        let volume = Self { kind, place };
        volume.mount(options);
        volume
    }

    fn mount(&self, options: &str) {
        let (image, folder) = (self.place.path("image"), self.folder());
        // The loop device goes with the mount.
        succeed(Command::new("mount").args(["-o", options]).arg(image).arg(folder));
    }

    pub fn folder(&self) -> PathBuf {
        self.place.path("mnt")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Mounts it anew, as after a start of the system.
    pub fn remount(&self) {
        succeed(Command::new("umount").arg(self.folder()));
        self.mount("loop");
    }

    /// What stands in the folder of clones.
    pub fn clones(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(".afterimage-clones")) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().file_name().into_string().unwrap()
        };
        entries.map(name).collect()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // A process that a failed test left may have something open.
        let _ = Command::new("umount").arg("--lazy").arg(self.folder()).status();
    }
}
