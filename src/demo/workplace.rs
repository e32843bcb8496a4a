//! The folder that the demonstration works in.

use super::DemoError;
use crate::fsio::{FileSystem, RealFileSystem};
use crate::settings::Settings;
use crate::units::MIB;
use std::path::{Path, PathBuf};

/// Disks, their standby copies, a restored copy and the repository, with room to spare.
const NEEDED_BYTES: u64 = 1200 * MIB;

const SETTINGS: &str = r#"# Written by `afterimage demo`.
state_dir = "state"

[repository.main]
url = "repository"
encryption = { key_file = "repository.key" }

[machine.web01]
repository = "main"
definition = "web01.xml"
keep = { last = 1 }

[[machine.web01.disk]]
name = "root"
source = { image = "root.img" }

[[machine.web01.disk]]
name = "data"
source = { image = "data.img" }

[replica.web01-standby]
machine = "web01"
trigger = "manual"

[[replica.web01-standby.disk]]
name = "root"
target = { image = "standby/root.raw" }

[[replica.web01-standby.disk]]
name = "data"
target = { image = "standby/data.raw" }
"#;

/// A folder of its own, removed at the end unless it is to be kept.
#[derive(Debug)]
pub(super) struct Workplace {
    folder: PathBuf,
    keep: bool,
}

impl Workplace {
    pub fn create(keep: bool) -> Result<Self, DemoError> {
        let above = std::env::temp_dir();
        let free = RealFileSystem.free_bytes(&above);
        let free = free.map_err(|error| DemoError::io(&above, error.source))?;
        if free < NEEDED_BYTES {
            let (needed_mib, free_mib) = (NEEDED_BYTES / MIB, free / MIB);
            return Err(DemoError::NoSpace { path: above, needed_mib, free_mib });
        }
        let folder = above.join(format!("afterimage-demo-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(|e| DemoError::io(&folder, e))?;
        Ok(Self { folder, keep })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes the settings and what they refer to, and reads them as any command would.
    pub fn settings(&self) -> Result<Settings, DemoError> {
        let path = self.path("afterimage.toml");
        std::fs::write(&path, SETTINGS).map_err(|e| DemoError::io(&path, e))?;
        let definition = self.path("web01.xml");
        std::fs::write(&definition, "<domain type='kvm'><name>web01</name></domain>\n")
            .map_err(|e| DemoError::io(&definition, e))?;
        Settings::load(&path).map_err(|error| DemoError::Settings(error.to_string()))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        if !self.keep {
            // Best effort: what cannot be removed lies in the folder for temporary files.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
