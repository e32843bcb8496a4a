//! A folder in memory for what a test makes: tidied when it goes, also after an earlier process that
//! could not do so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "afterimage-cuts-";
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A folder of this process.
pub struct Place {
    path: PathBuf,
}

fn base() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

impl Place {
    pub fn new() -> Self {
        Self::below(&base())
    }

    /// One on a real disk.
    pub fn on_disk() -> Self {
        Self::below(&std::env::temp_dir())
    }

    fn below(base: &Path) -> Self {
        tidy_dead(base);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{PREFIX}{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self { path }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Leaves it there, under a name by which nobody tidies it.
    pub fn keep(&self) -> PathBuf {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        let kept = self.path.with_file_name(name.replace("cuts", "kept"));
        match std::fs::rename(&self.path, &kept) {
            Ok(()) => kept,
            Err(_) => self.path.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes what killed processes left.
fn tidy_dead(base: &Path) {
    for entry in std::fs::read_dir(base).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else { continue };
        let pid = rest.split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            tidy(&entry.path());
        }
    }
}

fn tidy(folder: &Path) {
    let detach = rustix::mount::UnmountFlags::DETACH;
    let _ = rustix::mount::unmount(folder.join("mnt"), detach);
    let devices =
        Command::new("losetup").arg("-nOname").arg("-j").arg(folder.join("image")).output();
    if let Ok(devices) = devices {
        for device in String::from_utf8_lossy(&devices.stdout).split_whitespace() {
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
    }
    let _ = std::fs::remove_dir_all(folder);
}
