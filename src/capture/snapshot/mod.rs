//! Snapshots that the user's commands make, show and remove: of LVM, ZFS, Ceph RBD, storage arrays.
//!
//! A snapshot is recorded before it is made, so that none is forgotten, whatever ends the run; the
//! next run removes what is not needed. With a command that tells what changed between two
//! snapshots, the one of the point before is kept for it.
//!
//! Invariant: a list of changes that fails, or is not one, tells nothing.

mod captured;
mod changed;
mod error;
mod records;

pub use captured::SnapshotCapturer;
pub use changed::parse_changed;
pub use error::SnapshotError;

use crate::capture::Mark;
use crate::capture::command::{CommandError, UserCommand};
use crate::extent::Extent;
use crate::source::{self, ImageFormat, Source, SourceSpec};
use crate::units::{MIB, Name, RunId};
use records::Records;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A list of four million extents has about this length.
const CHANGED_BYTES_MAX: usize = (128 * MIB) as usize;
/// Nobody reads what the other commands print.
const OUTPUT_BYTES_MAX: usize = MIB as usize;

/// A device may appear only a moment after the command that makes it.
const APPEARS_WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// So many snapshots that should be gone, and cannot be removed, are too many.
const STRAYS_MAX: usize = 8;

/// What the user gives, for the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotCommands {
    /// Makes the snapshot `$AFTERIMAGE_SNAPSHOT`.
    pub create: String,
    /// Where it is read then; no command, but a path with variables in it.
    pub path: String,
    /// Removes the snapshot `$AFTERIMAGE_SNAPSHOT`. It succeeds when there is none.
    pub remove: String,
    /// Prints what changed from `$AFTERIMAGE_BASE` to `$AFTERIMAGE_SNAPSHOT`.
    pub changed: Option<String>,
    /// Each of them may take so long.
    pub time_limit: Duration,
}

/// A snapshot to take, and for whom.
#[derive(Debug, Clone)]
pub struct SnapshotRequest<'a> {
    /// The commands.
    pub commands: &'a SnapshotCommands,
    /// What it holds; `None`: find out.
    pub format: Option<ImageFormat>,
    /// The machine.
    pub machine: &'a Name,
    /// Its disk.
    pub disk: &'a Name,
    /// For whom the snapshot is.
    pub mark: Mark,
    /// The run.
    pub run: RunId,
    /// The folder of the records.
    pub records: &'a Path,
    /// The snapshot of the point before, which stays.
    pub kept: Option<&'a str>,
}

/// A snapshot, open for reading; removed when it is dropped, unless it is to be kept.
#[derive(Debug)]
pub struct Snapshot {
    // Dropped in this order: what is open cannot be removed.
    source: Box<dyn Source>,
    held: Held,
    kept: Option<String>,
    notes: Vec<String>,
}

impl Snapshot {
    /// Takes a snapshot and opens it.
    ///
    /// # Errors
    /// Whatever was made by then is removed.
    pub fn take(request: &SnapshotRequest<'_>) -> Result<Self, SnapshotError> {
        let records = Records::open(request.records, request.mark)?;
        let kept = request.kept.filter(|name| records.is_name(name)).map(str::to_owned);
        if let Some(kept) = &kept {
            records.add(kept)?;
        }
        let mut held = Held {
            name: records.name_for(request.run),
            records,
            commands: request.commands.clone(),
            machine: request.machine.clone(),
            disk: request.disk.clone(),
            is_there: false,
        };
        let path = held.path()?;
        let notes = held.remove_strays(kept.as_deref())?;
        held.create(kept.as_deref().unwrap_or_default())?;
        let source = held.open(&path, request.format)?;
        Ok(Self { source, held, kept, notes })
    }

    /// Its content.
    pub fn source(&self) -> &dyn Source {
        self.source.as_ref()
    }

    /// What went wrong that did not keep it from being taken, in words.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The name by which a later snapshot can be compared with this one; `None` where no command
    /// does that.
    pub fn as_base(&self) -> Option<&str> {
        self.held.commands.changed.is_some().then_some(&self.held.name)
    }

    /// Where the disk may differ from what it was when the snapshot `base` was made: sorted,
    /// disjoint; or why that is not known, in words.
    pub fn changed_since(&self, base: &str) -> Result<Vec<Extent>, String> {
        let changed = self.held.commands.changed.as_deref();
        let changed = changed.ok_or("no command tells what changed")?;
        if self.kept.as_deref() != Some(base) {
            return Err("the snapshot of the point before is not known".to_owned());
        }
        let printed = self.held.run(("changed", changed), &self.held.name, base, CHANGED_BYTES_MAX);
        let printed = printed.map_err(|error| error.to_string())?;
        parse_changed(&printed, self.source.size_bytes())
            .map_err(|reason| format!("what the command `changed` printed: {reason}"))
    }

    /// Keeps this snapshot, if anything can be compared with it, and removes the one of the point
    /// before. Gives back what went wrong, in words; the next run tries again.
    pub fn keep(&mut self) -> Vec<String> {
        self.held.is_there = self.as_base().is_none();
        let Some(kept) = self.kept.take() else { return Vec::new() };
        let removed = self.held.remove(&kept);
        removed.err().map(|error| format!("the snapshot {kept}: {error}")).into_iter().collect()
    }
}

/// A snapshot that may exist; removed when it is dropped.
#[derive(Debug)]
struct Held {
    name: String,
    records: Records,
    commands: SnapshotCommands,
    machine: Name,
    disk: Name,
    /// It is there, or may be, and is not to be kept.
    is_there: bool,
}

impl Held {
    fn variables(&self, snapshot: &str, base: &str) -> [(&'static str, String); 4] {
        [
            ("AFTERIMAGE_MACHINE", self.machine.to_string()),
            ("AFTERIMAGE_DISK", self.disk.to_string()),
            ("AFTERIMAGE_SNAPSHOT", snapshot.to_owned()),
            ("AFTERIMAGE_BASE", base.to_owned()),
        ]
    }

    fn run(
        &self,
        (name, line): (&'static str, &str),
        snapshot: &str,
        base: &str,
        output_bytes_max: usize,
    ) -> Result<Vec<u8>, CommandError> {
        let variables = self.variables(snapshot, base);
        let time_limit = self.commands.time_limit;
        UserCommand { name, line, variables: &variables, time_limit, output_bytes_max }.run()
    }

    fn create(&mut self, base: &str) -> Result<(), SnapshotError> {
        self.records.add(&self.name)?;
        // From here on it is removed when this is dropped, whatever the command did of it.
        self.is_there = true;
        self.run(("create", &self.commands.create), &self.name, base, OUTPUT_BYTES_MAX)?;
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), CommandError> {
        self.run(("remove", &self.commands.remove), name, "", OUTPUT_BYTES_MAX)?;
        // What is recorded although it is gone is removed once more.
        let _ = self.records.forget(name);
        Ok(())
    }

    /// Removes what earlier runs left; gives back what went wrong, in words.
    fn remove_strays(&self, kept: Option<&str>) -> Result<Vec<String>, SnapshotError> {
        let (mut notes, mut last) = (Vec::new(), None);
        for name in self.records.names()? {
            if Some(name.as_str()) != kept
                && let Err(error) = self.remove(&name)
            {
                notes.push(format!("the snapshot {name} of an earlier run: {error}"));
                last = Some(error);
            }
        }
        let (count, folder) = (notes.len(), self.records.folder().to_owned());
        match last {
            Some(error) if count > STRAYS_MAX => {
                Err(SnapshotError::Strays { count, folder, error })
            }
            _ => Ok(notes),
        }
    }

    fn path(&self) -> Result<PathBuf, SnapshotError> {
        let text = &self.commands.path;
        let variables = self.variables(&self.name, "");
        let error = |why: String| SnapshotError::Path { text: text.clone(), why };
        let path = PathBuf::from(expanded(text, &variables[..3]).map_err(error)?);
        if path.is_absolute() { Ok(path) } else { Err(error("which is not absolute".to_owned())) }
    }

    fn open(
        &self,
        path: &Path,
        format: Option<ImageFormat>,
    ) -> Result<Box<dyn Source>, SnapshotError> {
        let deadline = Instant::now() + APPEARS_WITHIN.min(self.commands.time_limit);
        while !path.exists() {
            if Instant::now() >= deadline {
                return Err(SnapshotError::NotThere { path: path.to_owned() });
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let path = path.to_owned();
        let spec = SourceSpec { path, format, must_be_device: false, quiesced: false };
        source::open(&spec).map_err(|error| SnapshotError::Source {
            name: self.name.clone(),
            error: Box::new(error),
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.is_there {
            // Where it fails, the next run tries again, and tells.
            let _ = self.remove(&self.name);
        }
    }
}

/// `text` with the values of `$NAME` and `${NAME}` in it; `$$` is a dollar sign.
fn expanded(text: &str, variables: &[(&'static str, String)]) -> Result<String, String> {
    let mut parts = text.split('$');
    let mut result = parts.next().unwrap_or_default().to_owned();
    let mut is_escaped = false;
    for part in parts {
        if is_escaped {
            is_escaped = false;
            result.push_str(part);
            continue;
        }
        if part.is_empty() {
            result.push('$');
            is_escaped = true;
            continue;
        }
        let (name, rest) = match part.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or("in which a `}` is missing")?,
            None => {
                let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
                part.split_at(part.find(|c| !is_part(c)).unwrap_or(part.len()))
            }
        };
        let value = variables.iter().find(|(known, _)| *known == name);
        let (_, value) = value.ok_or_else(|| format!("in which ${name} is not known"))?;
        result.push_str(value);
        result.push_str(rest);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_for_their_values() {
        let variables =
            [("AFTERIMAGE_SNAPSHOT", "s1".to_owned()), ("AFTERIMAGE_DISK", "root".to_owned())];
        for (text, expected) in [
            ("/dev/vg/$AFTERIMAGE_SNAPSHOT", "/dev/vg/s1"),
            (
                "/dev/zvol/tank/${AFTERIMAGE_DISK}@$AFTERIMAGE_SNAPSHOT.x",
                "/dev/zvol/tank/root@s1.x",
            ),
            ("$AFTERIMAGE_SNAPSHOT$AFTERIMAGE_SNAPSHOT", "s1s1"),
            ("/a$$b/$$$AFTERIMAGE_DISK", "/a$b/$root"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(expanded(text, &variables).unwrap(), expected, "{text}");
        }
        for (text, reason) in [("/$HOME", "$HOME"), ("/${AFTERIMAGE_DISK", "`}`"), ("/a$/b", "$ ")]
        {
            let found = expanded(text, &variables).unwrap_err();
            assert!(found.contains(reason), "{text}: {found}");
        }
    }
}
