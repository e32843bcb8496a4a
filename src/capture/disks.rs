//! A machine whose disks are held each by itself.

use super::{Bases, CaptureError, Captured, Capturer};
use crate::point::Consistency;
use crate::source::{Changed, DiskBase, Source, SourceError, SourceSpec};
use crate::units::Name;
use std::fmt::Debug;

/// Takes captures of one disk.
pub trait DiskCapturer: Debug {
    /// Holds the disk as it is now. `noted` as [`Capturer::capture`] has it.
    ///
    /// # Errors
    /// When it cannot be held; nothing is left behind then.
    fn capture(
        &self,
        disk: &Name,
        noted: Option<&DiskBase>,
    ) -> Result<Box<dyn CapturedDisk>, SourceError>;
}

/// A disk that is held at one instant until this is dropped; see [`Captured`].
pub trait CapturedDisk: Send + Sync + Debug {
    /// Its content.
    fn source(&self) -> &dyn Source;

    /// How well it fits together in itself.
    fn consistency(&self) -> Consistency;

    /// Whether somebody may write to the disk, so that it is held as it was at an instant of its own.
    fn is_in_use(&self) -> bool {
        false
    }

    /// As [`Captured::changed_since`].
    ///
    /// # Errors
    /// As there.
    fn changed_since(&self, base: &DiskBase) -> Result<Changed, SourceError>;

    /// As [`Captured::bases`].
    fn base(&self, opened: jiff::Timestamp) -> Option<DiskBase>;

    /// As [`Captured::notes`].
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// As [`Captured::point_is_durable`].
    fn point_is_durable(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// The disks of a machine, each with the way in which it is captured.
#[derive(Debug)]
pub struct Disks {
    disks: Vec<(Name, Box<dyn DiskCapturer>)>,
    is_still: bool,
}

impl Disks {
    /// The disks in the order in which they stand in points.
    pub fn new(disks: Vec<(Name, Box<dyn DiskCapturer>)>) -> Self {
        Self { disks, is_still: false }
    }

    /// Somebody else sees to it that the machine holds still while its disks are captured.
    pub fn held_still(self) -> Self {
        Self { is_still: true, ..self }
    }

    /// Disks that are read from files and devices to which nobody writes.
    pub fn of_files(files: impl IntoIterator<Item = (Name, SourceSpec)>) -> Self {
        let disk = |(name, spec)| (name, Box::new(spec) as Box<dyn DiskCapturer>);
        Self::new(files.into_iter().map(disk).collect())
    }
}

impl Capturer for Disks {
    // All of them before the first is read: a missing one must not cost the reading of the others.
    fn capture(&self, noted: &Bases) -> Result<Box<dyn Captured>, CaptureError> {
        let held = self.disks.iter().map(|(disk, capturer)| {
            match capturer.capture(disk, noted.get(disk)) {
                Ok(held) => Ok((disk.clone(), held)),
                Err(error) => Err(CaptureError::disk(disk, error)),
            }
        });
        let disks = held.collect::<Result<_, _>>()?;
        Ok(Box::new(Held { disks, is_still: self.is_still }))
    }
}

/// Disks that are held each by itself.
#[derive(Debug)]
pub struct Held {
    disks: Vec<(Name, Box<dyn CapturedDisk>)>,
    is_still: bool,
}

impl Held {
    /// The disks in the order in which they stand in points.
    pub fn new(disks: Vec<(Name, Box<dyn CapturedDisk>)>) -> Self {
        Self { disks, is_still: false }
    }

    fn with_name(disk: &Name, told: Vec<String>) -> impl Iterator<Item = String> {
        told.into_iter().map(move |text| format!("disk {disk}: {text}"))
    }
}

impl Captured for Held {
    fn disks(&self) -> Vec<(&Name, &dyn Source)> {
        self.disks.iter().map(|(name, disk)| (name, disk.source())).collect()
    }

    /// As well as the one that fits together least.
    fn consistency(&self) -> Consistency {
        let mut worst = Consistency::Offline;
        for (_, disk) in &self.disks {
            worst = match (worst, disk.consistency()) {
                (Consistency::CrashConsistent, _) | (_, Consistency::CrashConsistent) => {
                    Consistency::CrashConsistent
                }
                (Consistency::Offline, Consistency::Offline) => Consistency::Offline,
                _ => Consistency::ApplicationConsistent,
            };
        }
        worst
    }

    fn changed_since(&self, disk: &Name, base: &DiskBase) -> Result<Changed, SourceError> {
        match self.disks.iter().find(|(name, _)| name == disk) {
            Some((_, disk)) => disk.changed_since(base),
            None => Ok(Changed::Unknown(None)),
        }
    }

    fn bases(&self, opened: jiff::Timestamp) -> Bases {
        let base =
            |(name, disk): &(Name, Box<dyn CapturedDisk>)| Some((name.clone(), disk.base(opened)?));
        self.disks.iter().filter_map(base).collect()
    }

    fn notes(&self) -> Vec<String> {
        let told = self.disks.iter().flat_map(|(name, disk)| Self::with_name(name, disk.notes()));
        let in_use = self.disks.iter().filter(|(_, disk)| disk.is_in_use()).count();
        told.chain((in_use > 1 && !self.is_still).then(|| one_after_another(in_use))).collect()
    }

    fn point_is_durable(&mut self) -> Vec<String> {
        let disks = self.disks.iter_mut();
        disks.flat_map(|(name, disk)| Self::with_name(name, disk.point_is_durable())).collect()
    }
}

fn one_after_another(count: usize) -> String {
    format!(
        "{count} disks were in use, and were held one after another, not at one instant: each fits \
         together in itself, but a write to one may be missing that came before a write to another"
    )
}
