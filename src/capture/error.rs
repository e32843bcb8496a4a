//! Why a machine could not be captured.

use super::CommandError;
use super::libvirt::LibvirtError;
use super::qemu::QemuError;
use crate::source::SourceError;
use crate::units::Name;

/// Why a machine could not be captured. Nothing of the capture is left behind.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// A disk could not be held.
    #[error("disk {disk}: {error}")]
    Disk {
        /// The disk.
        disk: Name,
        /// The reason.
        #[source]
        error: Box<SourceError>,
    },
    /// A command that the user wants run around the capture failed.
    #[error("{error}; it is one of the machine's `hooks`: try it by hand, then run this again")]
    Hook {
        /// The reason.
        #[source]
        error: Box<CommandError>,
    },
    /// A running QEMU could not be captured.
    #[error(transparent)]
    Qemu(#[from] QemuError),
    /// A domain of libvirt could not be captured.
    #[error(transparent)]
    Libvirt(#[from] LibvirtError),
}

impl CaptureError {
    /// Of one disk.
    pub fn disk(disk: &Name, error: SourceError) -> Self {
        Self::Disk { disk: disk.clone(), error: Box::new(error) }
    }

    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Disk { error, .. } => error.is_permanent(),
            Self::Hook { .. } => false,
            Self::Qemu(error) => error.is_permanent(),
            Self::Libvirt(error) => error.is_permanent(),
        }
    }
}
