//! Replication of a change onto a standby image that has everything else already.

use crate::corpus::State;
use crate::patch::{Way, same};
use crate::run::{is_installed, timed, watched};
use crate::tools::{How, Site, Tool, copy_sparse};
use crate::works::{Bench, DIRECT_CHANGED};
use anyhow::{Context, Result};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Ways to write the same change without afterimage.
const OTHERS: [Other; 3] =
    [Other::Rsync { delta: true }, Other::Rsync { delta: false }, Other::Write];

#[derive(Debug, Clone, Copy)]
enum Other {
    /// `delta`: reads the standby too, and writes only what differs.
    Rsync { delta: bool },
    /// Knows the extents and their content.
    Write,
}

impl Other {
    fn name(self) -> &'static str {
        match self {
            Self::Rsync { delta: true } => "rsync --inplace --no-whole-file",
            Self::Rsync { delta: false } => "rsync --inplace",
            Self::Write => "pwrite, fsync",
        }
    }
}

impl Bench {
    /// The change of one percent is brought to a warm standby.
    pub fn replicate(&mut self) -> Result<()> {
        let site = self.copy(Tool::Afterimage, State::Later)?;
        self.corpus.bring_to(State::Later)?;
        replicate_now(&site, "standby")?;
        let standby = site.folder.join("standby/root.raw");
        same(&standby, &self.corpus.disk)?;
        let direct = site.folder.join("direct/root.raw");
        let has_direct = self.tell_direct_changes(&site)?;
        if has_direct {
            replicate_now(&site, "direct")?;
        } else {
            println!("LEFT OUT: this program may not know of replicas without backups");
        }
        let plain = self.folder.join("standby.img");
        copy_sparse(&self.corpus.disk, &plain)?;
        for _ in 0..self.rounds {
            self.ready(State::Random)?;
            site.backup(&self.corpus.disk, "real", How::Plain)?;
            let sample = timed(|| replicate_now(&site, "standby"))?;
            self.results.add("replicate", Tool::Afterimage.name(), sample);
            same(&standby, &self.corpus.disk)?;
            if has_direct {
                let sample = timed(|| replicate_now(&site, "direct"))?;
                self.results.add("replicate", "afterimage, without a backup", sample);
                same(&direct, &self.corpus.disk)?;
            }
            for other in OTHERS {
                self.replicate_by(other, &plain)?;
            }
            // Back to where it was: the next round starts from the same state.
            self.corpus.bring_to(State::Later)?;
            site.backup(&self.corpus.disk, "real", How::Plain)?;
            replicate_now(&site, "standby")?;
            if has_direct {
                replicate_now(&site, "direct")?;
            }
        }
        std::fs::remove_file(&plain)?;
        Ok(())
    }

    /// Writes down where the change lies, for the replica that is fed without backups. Whether there is
    /// one.
    fn tell_direct_changes(&self, site: &Site) -> Result<bool> {
        let settings = self.settings(false);
        let list = serde_json::json!({ "format": 1, "extents": self.corpus.random.extents });
        std::fs::write(self.folder.join(DIRECT_CHANGED), serde_json::to_vec(&list)?)?;
        std::fs::write(site.folder.join("afterimage.toml"), &settings)?;
        Ok(settings.contains("[replica.direct]"))
    }

    fn replicate_by(&mut self, other: Other, plain: &PathBuf) -> Result<()> {
        if matches!(other, Other::Rsync { .. }) && !is_installed("rsync") {
            println!("LEFT OUT: rsync is not installed");
            return Ok(());
        }
        let (disk, patch) = (self.corpus.disk.clone(), &self.corpus.random);
        let sample = timed(|| match other {
            Other::Rsync { delta } => rsync(&disk, plain, delta),
            Other::Write => {
                let standby = OpenOptions::new().write(true).open(plain)?;
                patch.write_plainly(&standby)?;
                standby.sync_all()?;
                Ok(0)
            }
        })?;
        same(plain, &disk).with_context(|| other.name())?;
        patch.apply(&OpenOptions::new().write(true).open(plain)?, Way::Backwards)?;
        if matches!(other, Other::Rsync { delta: false }) {
            // It has filled all holes: the next one gets a standby with holes again.
            std::fs::remove_file(plain)?;
            copy_sparse(&disk, plain)?;
            patch.apply(&OpenOptions::new().write(true).open(plain)?, Way::Backwards)?;
        }
        File::open(plain)?.sync_all()?;
        self.results.add("replicate", other.name(), sample);
        Ok(())
    }
}

fn replicate_now(site: &Site, replica: &str) -> Result<u64> {
    Ok(watched(site.command().args(["replicate", "now", replica]), None, None)?.0)
}

fn rsync(disk: &Path, standby: &Path, delta: bool) -> Result<u64> {
    let mut command = Command::new("rsync");
    command.args(["--inplace", "--ignore-times"]);
    if delta {
        command.arg("--no-whole-file");
    }
    let (peak_bytes, _) = watched(command.arg(disk).arg(standby), None, None)?;
    File::open(standby)?.sync_all()?;
    Ok(peak_bytes)
}
