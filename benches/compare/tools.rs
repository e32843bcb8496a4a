//! The programs that are compared, each with all its files in one folder of its own, the site.

use crate::run::{self, is_installed, succeed, sync_file_system, watched};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files from this size on, in the folders of packs, are linked and not copied: none of the
/// programs changes them once they are written.
const LINKED_FROM_BYTES: u64 = 64 * 1024;
/// What the folders are called that hold packs.
const PACK_FOLDERS: [&str; 2] = ["packs", "data"];

/// A program that keeps backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// This one.
    Afterimage,
    /// Encrypts always.
    Restic,
    /// Without encryption, compressing as afterimage does.
    Borg,
    /// Encrypts always.
    Rustic,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Afterimage, Self::Borg, Self::Restic, Self::Rustic];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Afterimage => "afterimage",
            Self::Restic => "restic",
            Self::Borg => "borg",
            Self::Rustic => "rustic",
        }
    }

    /// Those that are installed; says loudly which are not.
    pub fn present() -> Vec<Self> {
        let is_there = |tool: &Self| {
            let there = *tool == Self::Afterimage || is_installed(tool.name());
            if !there {
                println!("LEFT OUT: {} is not installed", tool.name());
            }
            there
        };
        Self::ALL.into_iter().filter(is_there).collect()
    }

    /// What it says that its version is.
    pub fn version(self, program: &Path) -> String {
        let mut command = match self {
            Self::Afterimage => Command::new(program),
            _ => Command::new(self.name()),
        };
        command.arg(if self == Self::Restic { "version" } else { "--version" });
        let text = succeed(&mut command).unwrap_or_default();
        text.lines().next().unwrap_or("version unknown").to_owned()
    }
}

/// One program's folder, and the disks that it is given.
#[derive(Debug, Clone)]
pub struct Site {
    /// The program.
    pub tool: Tool,
    /// All its files.
    pub folder: PathBuf,
    /// The program built here.
    pub program: PathBuf,
}

/// How a backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// As the program does by itself.
    Plain,
    /// Everything is read, whatever is known.
    FullRead,
}

impl Site {
    /// Makes an empty repository, in place of whatever was there. `disk` is the disk of machine
    /// `real`, `other` that of machine `other`.
    pub fn init(&self, settings: &str) -> Result<()> {
        let _ = std::fs::remove_dir_all(&self.folder);
        std::fs::create_dir_all(&self.folder)?;
        if self.tool == Tool::Afterimage {
            std::fs::write(self.folder.join("afterimage.toml"), settings)?;
        }
        let arguments: &[&str] = match self.tool {
            Tool::Afterimage | Tool::Rustic => &["init"],
            Tool::Restic => &["init", "--repository-version", "2"],
            Tool::Borg => &["init", "--encryption", "none"],
        };
        succeed(self.command().args(arguments))?;
        Ok(())
    }

    /// The program, told where its files are.
    pub fn command(&self) -> Command {
        let (repository, cache) = (self.folder.join("repository"), self.folder.join("cache"));
        let mut command = match self.tool {
            Tool::Afterimage => Command::new(&self.program),
            _ => Command::new(self.tool.name()),
        };
        command.current_dir(&self.folder);
        match self.tool {
            Tool::Afterimage => {
                command.env("AFTERIMAGE_CONFIG", self.folder.join("afterimage.toml"));
                command.arg("--json");
            }
            Tool::Restic => {
                command.env("RESTIC_PASSWORD", "compare").env("RESTIC_REPOSITORY", repository);
                command.env("RESTIC_CACHE_DIR", cache).arg("--quiet");
            }
            Tool::Borg => {
                command.env("BORG_REPO", repository).env("BORG_BASE_DIR", cache);
                command.env("BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK", "yes");
                command.env("BORG_RELOCATED_REPO_ACCESS_IS_OK", "yes");
            }
            Tool::Rustic => {
                command.env("RUSTIC_PASSWORD", "compare").env("RUSTIC_REPOSITORY", repository);
                command.env("RUSTIC_CACHE_DIR", cache).env("RUSTIC_NO_PROGRESS", "true");
                command.env("RUSTIC_LOG_LEVEL", "error");
            }
        }
        command
    }

    /// Backs one disk up as the newest point of `machine`, durably; returns the peak of memory and
    /// what was printed.
    pub fn backup(&self, disk: &Path, machine: &str, how: How) -> Result<(u64, String)> {
        let mut command = self.command();
        let file_name = format!("{machine}.raw");
        let stdin = match self.tool {
            Tool::Afterimage => {
                command.args(["backup", "now", machine]);
                if how == How::FullRead && self.knows_full_read() {
                    command.arg("--full-read");
                }
                None
            }
            Tool::Restic => {
                command.args(["backup", "--stdin", "--stdin-filename", &file_name]);
                Some(disk)
            }
            Tool::Borg => {
                let archive = format!("::{machine}-{}", std::process::id() + self.archives()?);
                command.args(["create", "--compression", "zstd,1", "--stdin-name", &file_name]);
                command.args([&archive, "-"]);
                Some(disk)
            }
            Tool::Rustic => {
                command.args(["backup", "-", "--force", "--stdin-filename", &file_name]);
                Some(disk)
            }
        };
        let result = watched(&mut command, stdin, None)?;
        if self.tool != Tool::Afterimage {
            sync_file_system(&self.folder)?;
        }
        Ok(result)
    }

    /// Writes the disk of the newest point of `machine` to a new file, durably.
    pub fn restore(&self, machine: &str, to: &Path) -> Result<u64> {
        let mut command = self.command();
        if self.tool == Tool::Afterimage {
            command
                .args(["restore", machine, "--point", "latest", "--disk", "root", "--to"])
                .arg(to);
            return Ok(watched(&mut command, None, None)?.0);
        }
        match self.tool {
            Tool::Restic => command.args(["dump", "latest", &format!("/{machine}.raw")]),
            Tool::Borg => command.args(["extract", "--stdout", &self.newest_archive(machine)?]),
            _ => command.args(["dump", &format!("latest:/{machine}.raw")]),
        };
        let output = File::create(to).with_context(|| to.display().to_string())?;
        let (peak_bytes, _) = watched(&mut command, None, Some(&output))?;
        output.sync_all()?;
        Ok(peak_bytes)
    }

    /// Whether the program can be told to read everything.
    pub fn knows_full_read(&self) -> bool {
        let help = succeed(Command::new(&self.program).args(["backup", "now", "--help"]));
        help.is_ok_and(|text| text.contains("--full-read"))
    }

    /// How many archives there are, so that each gets a name of its own.
    fn archives(&self) -> Result<u32> {
        Ok(succeed(self.command().args(["list", "--short"]))?.lines().count() as u32)
    }

    fn newest_archive(&self, machine: &str) -> Result<String> {
        let list = succeed(self.command().args(["list", "--short", "--sort-by", "timestamp"]))?;
        let mine = list.lines().rfind(|name| name.starts_with(machine));
        Ok(format!("::{}", mine.context("borg has no archive of the machine")?))
    }

    /// The id of the newest point of machine `real` (afterimage only).
    pub fn newest_point(&self) -> Result<String> {
        let text = succeed(self.command().args(["points", "real"]))?;
        let mut newest = (0, None);
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line)?;
            if let (Some(point), Some(sequence)) =
                (line["point"].as_str(), line["sequence"].as_u64())
                && sequence >= newest.0
            {
                newest = (sequence, Some(point.to_owned()));
            }
        }
        newest.1.context("there is no point")
    }

    /// Bytes of the whole repository, without caches and catalogs.
    pub fn stored_bytes(&self) -> Result<u64> {
        let repository = self.folder.join("repository");
        let text = succeed(Command::new("du").args(["-s", "-b"]).arg(repository))?;
        text.split('\t').next().and_then(|it| it.parse().ok()).context("du told no size")
    }

    /// A copy of the site at another place. Packs are linked, as they never change.
    pub fn copy_to(&self, folder: &Path) -> Result<Self> {
        let _ = std::fs::remove_dir_all(folder);
        copy_tree(&self.folder, folder, false)?;
        Ok(Self { folder: folder.to_owned(), ..self.clone() })
    }
}

fn copy_tree(from: &Path, to: &Path, is_packs: bool) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let (kind, len) = (entry.file_type()?, entry.metadata()?.len());
        if kind.is_dir() {
            let is_packs = is_packs || PACK_FOLDERS.iter().any(|name| entry.file_name() == *name);
            copy_tree(&entry.path(), &target, is_packs)?;
        } else if kind.is_symlink() {
            bail!("{} is a link", entry.path().display());
        } else if is_packs && len >= LINKED_FROM_BYTES {
            std::fs::hard_link(entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The last line of what afterimage printed: its summary.
pub fn summary(printed: &str) -> Result<serde_json::Value> {
    let last = printed.lines().last().context("afterimage printed no summary")?;
    Ok(serde_json::from_str(last)?)
}

/// Copies a file, holes being left out, durably.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<u64> {
    let mut command = Command::new("cp");
    let (peak, _) = run::watched(command.arg("--sparse=always").arg(from).arg(to), None, None)?;
    File::open(to)?.sync_all()?;
    Ok(peak)
}
