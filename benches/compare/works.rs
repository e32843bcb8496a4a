//! What is measured: each work by every program in turn, from the same state, in several rounds.

use crate::bounds::Bounds;
use crate::corpus::{Corpus, State};
use crate::patch::same;
use crate::results::{Results, bound_of};
use crate::run::{Load, Sample, is_installed, succeed, timed, watched};
use crate::tools::{How, Site, Tool, copy_sparse, summary};
use anyhow::{Context, Result};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the ranges that changed are handed over in, beside the disk.
const CHANGED: &str = "disk.changed.json";

/// What the ranges are told in to a replica that is fed without backups.
pub const DIRECT_CHANGED: &str = "direct.changed.json";

/// Everything that the works need.
pub struct Bench {
    /// The disks.
    pub corpus: Corpus,
    /// What can be compared here.
    pub tools: Vec<Tool>,
    /// The program that was built.
    pub program: PathBuf,
    /// Where everything lies.
    pub folder: PathBuf,
    /// How often each is measured.
    pub rounds: usize,
    /// What was measured.
    pub results: Results,
    /// What the machine can do.
    pub bounds: Bounds,
}

impl Bench {
    /// First backup of a disk into an empty repository.
    pub fn first(&mut self) -> Result<()> {
        for round in 0..self.rounds {
            for tool in self.tools.clone() {
                let site = self.new_site(tool)?;
                self.ready(State::First)?;
                let disk = self.corpus.disk.clone();
                let sample = timed(|| Ok(site.backup(&disk, "real", How::Plain)?.0))?;
                self.results.add("first", tool.name(), sample);
                if round + 1 == self.rounds {
                    let base = self.base(tool, State::First);
                    let _ = std::fs::remove_dir_all(&base);
                    self.keep_as(site, &base)?;
                }
            }
            self.measure_bounds("first")?;
        }
        Ok(())
    }

    /// A whole disk is restored to a new file, and compared with what it should be.
    pub fn restore(&mut self) -> Result<()> {
        let to = self.folder.join("restored.img");
        let disk = self.corpus.disk.clone();
        for _ in 0..self.rounds {
            for tool in self.tools.clone() {
                let site = self.copy(tool, State::First)?;
                self.ready(State::First)?;
                let sample = timed(|| site.restore("real", &to))?;
                self.record_restored(tool.name(), sample, &to)?;
            }
            if is_installed("qemu-img") {
                let sample = timed(|| convert(&disk, &to))?;
                self.record_restored("qemu-img convert", sample, &to)?;
            }
            let sample = timed(|| copy_sparse(&disk, &to))?;
            self.record_restored("cp --sparse=always", sample, &to)?;
            self.measure_bounds("restore")?;
        }
        Ok(())
    }

    fn record_restored(&mut self, who: &str, sample: Sample, to: &Path) -> Result<()> {
        self.results.add("restore", who, sample);
        same(to, &self.corpus.disk).with_context(|| format!("restored by {who}"))?;
        Ok(std::fs::remove_file(to)?)
    }

    /// The disk is in `state`, and in the page cache.
    pub fn ready(&mut self, state: State) -> Result<()> {
        self.corpus.bring_to(state)?;
        self.corpus.warm()
    }

    /// Second backup of a disk that did not change, every byte being read.
    pub fn unchanged(&mut self) -> Result<()> {
        for round in 0..self.rounds {
            for tool in self.tools.clone() {
                let site = self.copy(tool, State::First)?;
                self.ready(State::First)?;
                let disk = self.corpus.disk.clone();
                let sample = timed(|| Ok(site.backup(&disk, "real", How::FullRead)?.0))?;
                self.results.add("unchanged", tool.name(), sample);
                if tool == Tool::Afterimage {
                    self.look_at_last_round(&site, round)?;
                }
            }
            self.measure_bounds("unchanged")?;
        }
        Ok(())
    }

    /// Backup after one percent of the used blocks was overwritten at random.
    pub fn incremental(&mut self) -> Result<()> {
        let knows_changed = self.knows_changed()?;
        if !knows_changed {
            println!("LEFT OUT: this program does not know the setting `changed` of a source");
        }
        for round in 0..self.rounds {
            for tool in self.tools.clone() {
                let who = match tool {
                    Tool::Afterimage => "afterimage (everything read)",
                    _ => tool.name(),
                };
                let site = self.copy(tool, State::Later)?;
                self.ready(State::Random)?;
                let disk = self.corpus.disk.clone();
                let sample = timed(|| Ok(site.backup(&disk, "real", How::FullRead)?.0))?;
                self.results.add("incremental", who, sample);
                self.look_at_last_round(&site, round)?;
            }
            if knows_changed {
                let site = self.copy(Tool::Afterimage, State::Later)?;
                self.ready(State::Random)?;
                self.incremental_with_extents(&site)?;
                self.look_at_last_round(&site, round)?;
            }
        }
        Ok(())
    }

    fn incremental_with_extents(&mut self, site: &Site) -> Result<()> {
        let list = serde_json::json!({
            "format": 1,
            "since": site.newest_point()?,
            "extents": self.corpus.random.extents,
        });
        std::fs::write(self.folder.join(CHANGED), serde_json::to_vec(&list)?)?;
        std::fs::write(site.folder.join("afterimage.toml"), self.settings(true))?;
        let disk = self.corpus.disk.clone();
        let mut printed = String::new();
        let sample = timed(|| {
            let (peak_bytes, text) = site.backup(&disk, "real", How::Plain)?;
            printed = text;
            Ok(peak_bytes)
        })?;
        self.results.add("incremental", Tool::Afterimage.name(), sample);
        let summary = summary(&printed)?;
        for key in ["bytes_read", "bytes_changed"] {
            let bytes = summary[key].as_u64().context("the summary has no counts")?;
            self.results.note(&format!("incremental {key}"), bytes as f64);
        }
        Ok(())
    }

    /// What a backup made is restored, and compared, outside of the measured time.
    fn look_at_last_round(&self, site: &Site, round: usize) -> Result<()> {
        if round + 1 == self.rounds { self.verify(site, "real", &self.corpus.disk) } else { Ok(()) }
    }

    /// Restores the newest point, which must be `disk`.
    fn verify(&self, site: &Site, machine: &str, disk: &Path) -> Result<()> {
        let to = self.folder.join("restored.img");
        site.restore(machine, &to)?;
        same(&to, disk).with_context(|| format!("restored by {}", site.tool.name()))?;
        Ok(std::fs::remove_file(&to)?)
    }

    /// How large the repositories are that hold all four states.
    pub fn store(&mut self) -> Result<()> {
        for tool in self.tools.clone() {
            let site = self.copy(tool, State::Random)?;
            let other = self.corpus.other.clone();
            site.backup(&other, "other", How::Plain)?;
            self.results.note(&format!("stored by {}", tool.name()), site.stored_bytes()? as f64);
            self.verify(&site, "other", &other)?;
        }
        Ok(())
    }

    /// The bounds once more, as seconds for the data of this disk.
    fn measure_bounds(&mut self, work: &str) -> Result<()> {
        let load = Load::begin()?;
        let rates = self.bounds.measure(&self.folder)?;
        let others = load.others()?;
        let data_bytes = self.corpus.facts.data_bytes as f64;
        for (who, rate) in [
            ("cut, name, compress", rates.stored),
            ("cut, name", rates.named),
            ("copy in memory", rates.copied),
            ("write, fsync", rates.written),
        ] {
            let sample = Sample { seconds: data_bytes / rate, peak_bytes: 0, others };
            self.results.add(&bound_of(work), who, sample);
        }
        Ok(())
    }

    /// The settings of a site; `changed`: with the file that tells what changed.
    pub fn settings(&self, changed: bool) -> String {
        let (disk, other) = (self.corpus.disk.display(), self.corpus.other.display());
        let changed = match changed {
            true => format!(", changed = \"{}\"", self.folder.join(CHANGED).display()),
            false => String::new(),
        };
        let direct = self.direct_settings();
        format!(
            r#"state_dir = "state"
[repository.main]
url = "repository"
encryption = "none"
[machine.real]
repository = "main"
[[machine.real.disk]]
name = "root"
source = {{ image = "{disk}", format = "raw"{changed} }}
[machine.other]
repository = "main"
[[machine.other.disk]]
name = "root"
source = {{ image = "{other}", format = "raw" }}
[replica.standby]
machine = "real"
trigger = "manual"
[[replica.standby.disk]]
name = "root"
target = {{ image = "standby/root.raw" }}
{direct}"#
        )
    }

    /// The same machine, of which a replica is fed without backups: the disk is its own snapshot, and
    /// the file tells what changed.
    fn direct_settings(&self) -> String {
        if self.program != Path::new(env!("CARGO_BIN_EXE_afterimage")) {
            // An older one may not know of it.
            return String::new();
        }
        let (disk, list) = (self.corpus.disk.display(), self.folder.join(DIRECT_CHANGED));
        format!(
            r#"[machine.direct]
repository = "main"
[[machine.direct.disk]]
name = "root"
[machine.direct.disk.source.snapshot]
create = "true"
path = "{disk}"
remove = "true"
changed = "cat '{list}'"
format = "raw"
[replica.direct]
machine = "direct"
mode = "direct"
trigger = "manual"
[[replica.direct.disk]]
name = "root"
target = {{ image = "direct/root.raw" }}
"#,
            list = list.display()
        )
    }

    fn knows_changed(&self) -> Result<bool> {
        let path = self.folder.join("changed.toml");
        std::fs::write(&path, self.settings(true))?;
        let mut command = Command::new(&self.program);
        command.args(["config", "check", "--config"]).arg(&path);
        Ok(command.output()?.status.success())
    }

    fn work_folder(&self, tool: Tool) -> PathBuf {
        self.folder.join("work").join(tool.name())
    }

    fn base(&self, tool: Tool, state: State) -> PathBuf {
        self.folder.join(format!("base-{state:?}").to_lowercase()).join(tool.name())
    }

    fn site(&self, tool: Tool, folder: PathBuf) -> Site {
        Site { tool, folder, program: self.program.clone() }
    }

    fn new_site(&self, tool: Tool) -> Result<Site> {
        let site = self.site(tool, self.work_folder(tool));
        site.init(&self.settings(false))?;
        Ok(site)
    }

    fn keep_as(&self, site: Site, base: &Path) -> Result<()> {
        std::fs::create_dir_all(base.parent().context("a base has a folder")?)?;
        Ok(std::fs::rename(&site.folder, base)?)
    }

    /// A site whose newest point is `state`, to be used up. What it is copied from is made where
    /// it is not there yet.
    pub fn copy(&mut self, tool: Tool, state: State) -> Result<Site> {
        let base = self.base(tool, state);
        if !base.exists() {
            let site = match state {
                State::First => self.new_site(tool)?,
                State::Later => self.copy(tool, State::First)?,
                State::Random => self.copy(tool, State::Later)?,
            };
            self.corpus.bring_to(state)?;
            site.backup(&self.corpus.disk, "real", How::Plain)?;
            self.keep_as(site, &base)?;
        }
        self.site(tool, base).copy_to(&self.work_folder(tool))
    }

    /// Removes all repositories.
    pub fn clear(&self) {
        for name in ["work", "base-first", "base-later", "base-random"] {
            let _ = std::fs::remove_dir_all(self.folder.join(name));
        }
    }
}

fn convert(disk: &Path, to: &Path) -> Result<u64> {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-f", "raw", "-O", "raw"]).arg(disk).arg(to);
    let (peak_bytes, _) = watched(&mut command, None, None)?;
    File::open(to)?.sync_all()?;
    Ok(peak_bytes)
}

/// What `program` says about itself and this machine, for the head of the table.
pub fn first_line(program: &str, argument: &str) -> String {
    let text = succeed(Command::new(program).arg(argument)).unwrap_or_default();
    text.lines().next().unwrap_or("not installed").trim().to_owned()
}
