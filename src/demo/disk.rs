//! Real ext4 disks, made and changed without mounting them and without root.

use super::DemoError;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Programs of Debian's package e2fsprogs, some of which are not on every user's path.
const PROGRAM_FOLDERS: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/// An ext4 disk image.
#[derive(Debug)]
pub(super) struct ExtDisk {
    path: PathBuf,
}

/// What a check of a file system found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Clean,
    Broken,
}

impl ExtDisk {
    /// Makes a disk of `size_bytes` at `path` that holds the files of `tree`.
    pub fn create(path: &Path, size_bytes: u64, tree: &Path) -> Result<Self, DemoError> {
        let file = std::fs::File::create(path).map_err(|e| DemoError::io(path, e))?;
        file.set_len(size_bytes).map_err(|e| DemoError::io(path, e))?;
        let mut command = program("mke2fs")?;
        command.args(["-q", "-F", "-t", "ext4", "-E", "root_owner=0:0", "-d"]);
        succeed(command.arg(tree).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// The image.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs commands of debugfs on the disk, one a line.
    pub fn change(&self, commands: &str) -> Result<(), DemoError> {
        let script = self.path.with_extension("debugfs");
        std::fs::write(&script, commands).map_err(|e| DemoError::io(&script, e))?;
        succeed(program("debugfs")?.args(["-w", "-f"]).arg(&script).arg(&self.path))?;
        std::fs::remove_file(&script).map_err(|e| DemoError::io(&script, e))
    }

    /// Reads a file out of the disk at `image`.
    pub fn read_file(image: &Path, file: &str) -> Result<Vec<u8>, DemoError> {
        let request = format!("cat {file}");
        Ok(succeed(program("debugfs")?.args(["-R", &request]).arg(image))?.stdout)
    }

    /// Checks the file system in `image`; nothing is changed.
    pub fn check(image: &Path) -> Result<Verdict, DemoError> {
        let output = run(program("e2fsck")?.args(["-f", "-n"]).arg(image))?;
        Ok(if output.status.success() { Verdict::Clean } else { Verdict::Broken })
    }
}

fn program(name: &'static str) -> Result<Command, DemoError> {
    let found = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(name));
    match found.into_iter().find(|path| path.exists()) {
        Some(path) => Ok(Command::new(path)),
        None => Err(DemoError::ProgramMissing { name }),
    }
}

fn run(command: &mut Command) -> Result<Output, DemoError> {
    let program = PathBuf::from(command.get_program());
    command.env("LC_ALL", "C").output().map_err(|e| DemoError::io(&program, e))
}

fn succeed(command: &mut Command) -> Result<Output, DemoError> {
    let output = run(command)?;
    if output.status.success() {
        return Ok(output);
    }
    let name = Path::new(command.get_program()).display().to_string();
    let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(DemoError::ProgramFailed { name, message })
}

/// SHA-256 of a file's content, in hexadecimal digits.
pub(super) fn hash_file(path: &Path) -> Result<String, DemoError> {
    let mut file = std::fs::File::open(path).map_err(|e| DemoError::io(path, e))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(|e| DemoError::io(path, e))? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
