//! Block devices: claiming them, and seeing whether anyone wrote to them.

use super::{FileError, FileKind, FileStat};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why a block device was not claimed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceClaimError {
    /// The kernel or another program has it.
    #[error(
        "{0} is mounted or in use (a file system, swap, LVM, RAID or another claim); see who with \
         `lsblk {0}`, release it, then run this again",
        path.display()
    )]
    Busy {
        /// The device.
        path: PathBuf,
    },
    /// Something else has the name.
    #[error("{} is not a block device; give the path of one", path.display())]
    NotADevice {
        /// What was given.
        path: PathBuf,
    },
    /// The device could not be opened.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A block device that the kernel keeps for us: while it is held, it cannot be mounted, nor any
/// partition of it, nor be claimed a second time. Dropping it releases it.
///
/// It does not keep out a program that simply opens the device, such as QEMU: that is what
/// [`super::QemuLock`] is for.
#[derive(Debug)]
pub struct DeviceClaim {
    _file: File,
    stat: FileStat,
}

impl DeviceClaim {
    /// Claims the block device at `path`.
    ///
    /// # Errors
    /// [`DeviceClaimError::Busy`] when it, or a partition of it, is mounted or claimed.
    pub fn take(path: &Path) -> Result<Self, DeviceClaimError> {
        let error = |action, e| DeviceClaimError::File(FileError::new(action, path, e));
        let metadata = std::fs::metadata(path).map_err(|e| error("look at", e))?;
        if FileStat::of(&metadata).kind != FileKind::BlockDevice {
            return Err(DeviceClaimError::NotADevice { path: path.to_owned() });
        }
        // On a block device O_EXCL without O_CREAT is a claim; reading is all it needs.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(path).map_err(
            |e| match e.raw_os_error() {
                Some(libc::EBUSY) => DeviceClaimError::Busy { path: path.to_owned() },
                _ => error("open", e),
            },
        )?;
        let metadata = file.metadata().map_err(|e| error("look at", e))?;
        Ok(Self { _file: file, stat: FileStat::of(&metadata) })
    }

    /// The device that was claimed, as its name led to it at that moment.
    pub fn stat(&self) -> &FileStat {
        &self.stat
    }
}

/// What the kernel counted for a block device. Two equal values mean that nobody wrote to it
/// in between, within these limits:
///
/// - Writes count when they reach the device. Sync the device before taking a value: data that
///   waits in the page cache is counted later.
/// - Only writes through this device node count. A partition does not see those made through its
///   whole disk, and a device-mapper volume, a loop device or a RAID does not see those made
///   straight to what it lies on, nor to a sibling that shares it.
/// - Values of different boots tell nothing: `boot_id` then differs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceActivity {
    /// Random name of this run of the kernel.
    pub boot_id: String,
    /// Number that the kernel gives to every disk it meets, never twice: of the whole disk.
    pub diskseq: u64,
    /// Sectors of 512 bytes written since the device appeared.
    pub sectors_written: u64,
    /// Sectors of 512 bytes discarded since the device appeared.
    pub discards: u64,
}

/// What Linux calls this run of itself; `None` where it does not tell.
pub fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

impl DeviceActivity {
    /// Reads the counters of the device number `raw_device` ([`FileStat::raw_device`]); `None`
    /// where the kernel does not tell: old kernels, no sysfs, or statistics turned off.
    pub fn of(raw_device: u64) -> Option<Self> {
        let (major, minor) = (rustix::fs::major(raw_device), rustix::fs::minor(raw_device));
        let node = PathBuf::from(format!("/sys/dev/block/{major}:{minor}")).canonicalize().ok()?;
        let disk = if node.join("partition").exists() { node.parent()? } else { &node };
        // With statistics off the counters stand still, whatever is written.
        if number_in(&disk.join("queue/iostats"))? == 0 {
            return None;
        }
        let stat = std::fs::read_to_string(node.join("stat")).ok()?;
        let counter = |field: usize| stat.split_ascii_whitespace().nth(field)?.parse().ok();
        let boot_id = boot_id()?;
        Some(Self {
            boot_id,
            diskseq: number_in(&disk.join("diskseq"))?,
            // Fields as in the kernel's Documentation/block/stat.rst, counted from 0.
            sectors_written: counter(6)?,
            discards: counter(13)?,
        })
    }
}

fn number_in(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    /// A loop device over a file, detached when dropped.
    struct Loop(PathBuf);

    impl Loop {
        fn over(image: &Path) -> Self {
            let output = Command::new("losetup").args(["--find", "--show"]).arg(image).output();
            let output = output.expect("losetup (Debian package mount) is needed");
            assert!(output.status.success(), "this test needs root and loop devices: {output:?}");
            Self(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()))
        }
    }

    impl Drop for Loop {
        fn drop(&mut self) {
            let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
        }
    }

    fn image(folder: &Path) -> PathBuf {
        let path = folder.join("disk");
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        path
    }

    #[test]
    fn a_device_is_claimed_once_and_a_file_never() {
        let folder = tempfile::tempdir().unwrap();
        let path = image(folder.path());
        let refused = DeviceClaim::take(&path).unwrap_err();
        assert!(matches!(refused, DeviceClaimError::NotADevice { .. }), "{refused}");
        let device = Loop::over(&path);
        let claim = DeviceClaim::take(&device.0).unwrap();
        assert_ne!(claim.stat().raw_device, 0);
        let refused = DeviceClaim::take(&device.0).unwrap_err();
        assert!(matches!(refused, DeviceClaimError::Busy { .. }), "{refused}");
        drop(claim);
        // A child process that another test is starting may have a copy of the claim for a moment.
        let free = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            DeviceClaim::take(&device.0).is_ok()
        });
        assert!(free);
    }

    /// A file system, unmounted when dropped.
    struct Mount(PathBuf);

    impl Drop for Mount {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(&self.0).status();
        }
    }

    #[test]
    fn a_mounted_device_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let device = Loop::over(&image(folder.path()));
        let run = |program: &str, args: &[&Path]| {
            let status = Command::new(program).args(args).status();
            let status = status.unwrap_or_else(|e| {
                panic!("{program} is needed ({e}): install the Debian packages e2fsprogs and mount")
            });
            assert!(status.success(), "{program} {args:?}");
        };
        run("mkfs.ext4", &["-q".as_ref(), &device.0]);
        let mounted_at = folder.path().join("mounted");
        std::fs::create_dir(&mounted_at).unwrap();
        run("mount", &[&device.0, &mounted_at]);
        let _mount = Mount(mounted_at);
        let refused = DeviceClaim::take(&device.0).unwrap_err();
        assert!(matches!(refused, DeviceClaimError::Busy { .. }), "{refused}");
        assert!(refused.to_string().contains("lsblk"), "{refused}");
    }

    #[test]
    fn writes_to_a_device_show_in_its_activity_and_reads_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let device = Loop::over(&image(folder.path()));
        let stat = FileStat::of(&std::fs::metadata(&device.0).unwrap());
        let file = OpenOptions::new().read(true).write(true).open(&device.0).unwrap();
        let before = DeviceActivity::of(stat.raw_device).unwrap();
        file.read_exact_at(&mut [0; 4096], 0).unwrap();
        assert_eq!(DeviceActivity::of(stat.raw_device).unwrap(), before);
        file.write_all_at(&[7; 4096], 0).unwrap();
        file.sync_data().unwrap();
        let after = DeviceActivity::of(stat.raw_device).unwrap();
        assert!(after.sectors_written >= before.sectors_written + 8, "{before:?} {after:?}");
        assert_eq!(DeviceActivity::of(0), None);
    }
}
