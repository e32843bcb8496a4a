//! All disks of a machine, held at one instant while they are read.
//!
//! A capture is taken by a [`Capturer`], one kind for a machine. Most kinds hold each disk by
//! itself: they are [`DiskCapturer`]s, and [`Disks`] makes one capture of them.
//!
//! The order of steps, which keeps a base that may be needed: the capture is taken, and leaves all
//! older bases alone; its disks are read; the new point is durable; the bases of this capture are
//! noted with that point; only now [`Captured::point_is_durable`] retires what came before. A
//! capture that is dropped without that leaves everything as if it had never been.
//!
//! Invariant: whoever is in doubt about what changed says that it is unknown: everything is read.

pub mod clone;
mod command;
mod disks;
mod error;
mod export;
mod files;
mod hooks;
mod libvirt;
mod mark;
mod owner;
mod qemu;
pub mod snapshot;

pub use command::CommandError;
pub use disks::{CapturedDisk, DiskCapturer, Disks, Held};
pub use error::CaptureError;
pub use export::ExportCapturer;
pub use files::CapturedFile;
pub use hooks::{Hooked, Hooks};
pub use libvirt::{Domain, DomainDisk, LibvirtError, LibvirtMachine, VirshError};
pub use mark::{CaptureUser, Mark};
pub use owner::{OwnerError, OwnerId};
pub use qemu::{Mark as QemuMark, QemuDisk, QemuError, QemuMachine};

use crate::point::Consistency;
use crate::source::{Changed, DiskBase, Source, SourceError};
use crate::units::Name;
use std::collections::BTreeMap;
use std::fmt::Debug;

/// What is noted of the capture before, by disk.
pub type Bases = BTreeMap<Name, DiskBase>;

/// Takes captures of one machine.
pub trait Capturer: Debug {
    /// Holds all disks of the machine at one instant.
    ///
    /// `noted` is what the point before was noted with: until the new point is durable these bases
    /// stay. What else carries the mark of this capturer was left by a run that was cut off, and
    /// goes.
    ///
    /// # Errors
    /// When a disk cannot be held; nothing is left behind then.
    fn capture(&self, noted: &Bases) -> Result<Box<dyn Captured>, CaptureError>;
}

/// A machine that is held at one instant until this is dropped. Dropping it releases whatever it
/// holds, and leaves nothing behind.
pub trait Captured: Send + Sync + Debug {
    /// The disks, in the order in which they stand in points.
    fn disks(&self) -> Vec<(&Name, &dyn Source)>;

    /// How well the disks fit together.
    fn consistency(&self) -> Consistency;

    /// Files that were captured with the disks, besides those that the settings name.
    fn definition(&self) -> &[(Name, Vec<u8>)] {
        &[]
    }

    /// Where a disk of this capture may differ from what it was when `base` was made.
    ///
    /// # Errors
    /// When the disk cannot be read any more. What only keeps the changes from being known is
    /// [`Changed::Unknown`].
    fn changed_since(&self, disk: &Name, base: &DiskBase) -> Result<Changed, SourceError>;

    /// What the next capture can build upon, of the disks where there is something. `opened` is a
    /// time before this capture was taken.
    fn bases(&self, opened: jiff::Timestamp) -> Bases;

    /// What the user should know of this capture, in words.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// The point of this capture is durable, and its bases are noted: older ones go, these stay.
    /// Gives back what went wrong, in words.
    fn point_is_durable(&mut self) -> Vec<String> {
        Vec::new()
    }
}
