//! Commands of the user's around the moment in which a machine is captured: the one before makes its
//! software write out what it holds, and hold still; the one after lets it go on.
//!
//! Invariant: whenever `before` was begun, `after` is run, once, also when the capture failed. Only
//! a kill of this process can keep it from that.

use super::command::UserCommand;
use super::{Bases, CaptureError, Captured, Capturer};
use crate::point::Consistency;
use crate::source::{Changed, DiskBase, Source, SourceError};
use crate::units::Name;
use std::time::Duration;

/// Nothing that these commands print is of interest.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// The commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// The machine; the commands get it as `AFTERIMAGE_MACHINE`.
    pub machine: Name,
    /// Run before the machine is captured; when it fails, nothing is captured.
    pub before: Option<String>,
    /// Run as soon as the machine need not hold still any more.
    pub after: Option<String>,
    /// How long each may take.
    pub time_limit: Duration,
    /// Whether the machine's software has written out what it holds when `before` ends.
    pub makes_consistent: bool,
    /// Whether the machine must hold still until its disks were read; else for the moment of the
    /// capture.
    pub until_read: bool,
}

impl Hooks {
    fn run(&self, name: &'static str, line: Option<&String>) -> Result<(), CaptureError> {
        let Some(line) = line else { return Ok(()) };
        let variables = [("AFTERIMAGE_MACHINE", self.machine.to_string())];
        let command = UserCommand {
            name,
            line,
            variables: &variables,
            time_limit: self.time_limit,
            output_bytes_max: OUTPUT_BYTES_MAX,
        };
        command.run().map(drop).map_err(|error| CaptureError::Hook { error: Box::new(error) })
    }

    fn run_after(&self) -> Result<(), CaptureError> {
        self.run("after", self.after.as_ref())
    }
}

/// A capturer with commands around it.
#[derive(Debug)]
pub struct Hooked {
    inner: Box<dyn Capturer>,
    hooks: Hooks,
}

impl Hooked {
    /// Runs the commands around the captures of `inner`.
    pub fn new(inner: Box<dyn Capturer>, hooks: Hooks) -> Self {
        Self { inner, hooks }
    }
}

impl Capturer for Hooked {
    fn capture(&self, noted: &Bases) -> Result<Box<dyn Captured>, CaptureError> {
        let mut held = Quiet { hooks: self.hooks.clone(), is_over: false };
        held.hooks.run("before", held.hooks.before.as_ref())?;
        let inner = self.inner.capture(noted)?;
        // What cannot go on is worth more than the point.
        if !held.hooks.until_read {
            held.end()?;
        }
        Ok(Box::new(HookedCapture { inner, held }))
    }
}

/// A machine that holds still. Dropped, it goes on.
#[derive(Debug)]
struct Quiet {
    hooks: Hooks,
    is_over: bool,
}

impl Quiet {
    fn end(&mut self) -> Result<(), CaptureError> {
        if std::mem::replace(&mut self.is_over, true) { Ok(()) } else { self.hooks.run_after() }
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Here nobody is left to tell; the run failed already, or it told.
        let _ = self.end();
    }
}

#[derive(Debug)]
struct HookedCapture {
    /// Released first: it may need the machine as it is.
    inner: Box<dyn Captured>,
    held: Quiet,
}

impl Captured for HookedCapture {
    fn disks(&self) -> Vec<(&Name, &dyn Source)> {
        self.inner.disks()
    }

    fn consistency(&self) -> Consistency {
        match self.inner.consistency() {
            Consistency::CrashConsistent if self.held.hooks.makes_consistent => {
                Consistency::ApplicationConsistent
            }
            other => other,
        }
    }

    fn definition(&self) -> &[(Name, Vec<u8>)] {
        self.inner.definition()
    }

    fn changed_since(&self, disk: &Name, base: &DiskBase) -> Result<Changed, SourceError> {
        self.inner.changed_since(disk, base)
    }

    fn bases(&self, opened: jiff::Timestamp) -> Bases {
        self.inner.bases(opened)
    }

    fn notes(&self) -> Vec<String> {
        self.inner.notes()
    }

    fn point_is_durable(&mut self) -> Vec<String> {
        let mut told = self.inner.point_is_durable();
        told.extend(self.held.end().err().map(|error| error.to_string()));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Disks;
    use crate::source::SourceSpec;
    use std::path::Path;

    /// Hooks that write down in `folder` when they run.
    fn hooks(folder: &Path, until_read: bool) -> Hooks {
        let log = folder.join("log").display().to_string();
        Hooks {
            machine: "web01".parse().unwrap(),
            before: Some(format!("echo before $AFTERIMAGE_MACHINE >> {log}")),
            after: Some(format!("echo after >> {log}")),
            time_limit: Duration::from_secs(10),
            makes_consistent: true,
            until_read,
        }
    }

    fn log(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("log")).unwrap_or_default()
    }

    fn disk(path: &Path) -> Box<dyn Capturer> {
        let path = path.to_owned();
        let spec = SourceSpec { path, format: None, must_be_device: false, quiesced: true };
        Box::new(Disks::of_files([("root".parse().unwrap(), spec)]))
    }

    #[test]
    fn a_machine_holds_still_as_long_as_it_must() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("root.raw");
        std::fs::write(&image, [1; 512]).unwrap();
        for (until_read, held) in [(true, "before web01\n"), (false, "before web01\nafter\n")] {
            let hooked = Hooked::new(disk(&image), hooks(folder.path(), until_read));
            let captured = hooked.capture(&Bases::new()).unwrap();
            assert_eq!(captured.consistency(), Consistency::ApplicationConsistent);
            assert_eq!(log(folder.path()), held);
            drop(captured);
            assert_eq!(log(folder.path()), "before web01\nafter\n");
            std::fs::remove_file(folder.path().join("log")).unwrap();
        }
    }

    #[test]
    fn it_goes_on_whatever_fails() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let hooked = Hooked::new(disk(&missing), hooks(folder.path(), true));
        assert!(hooked.capture(&Bases::new()).is_err());
        assert_eq!(log(folder.path()), "before web01\nafter\n");
        let mut failing = hooks(folder.path(), true);
        failing.before = Some("exit 3".to_owned());
        let error = Hooked::new(disk(&missing), failing).capture(&Bases::new()).unwrap_err();
        assert!(error.to_string().contains("`before` failed"), "{error}");
        assert_eq!(log(folder.path()), "before web01\nafter\nafter\n");
        std::fs::write(&missing, [1; 512]).unwrap();
        let mut stuck = hooks(folder.path(), true);
        stuck.after = Some("exit 4".to_owned());
        let mut captured = Hooked::new(disk(&missing), stuck).capture(&Bases::new()).unwrap();
        let told = captured.point_is_durable();
        assert!(told.len() == 1 && told[0].contains("`after` failed"), "{told:?}");
    }
}
