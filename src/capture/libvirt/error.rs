//! Why a domain of libvirt could not be captured.

use super::virsh::VirshError;
use crate::capture::QemuError;
use crate::nbd::AddressError;
use crate::source::SourceError;
use std::path::PathBuf;

/// Why a domain could not be captured. Its guest is not frozen, and nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum LibvirtError {
    /// libvirt did not do what it was asked to.
    #[error(transparent)]
    Virsh(#[from] VirshError),
    /// It describes the domain in a way that is not understood.
    #[error(
        "libvirt's description of the domain {domain} is not understood: {why}; look at `virsh \
        dumpxml {domain}`"
    )]
    Description {
        /// The domain.
        domain: String,
        /// What is wrong.
        why: String,
    },
    /// None of its disks can be captured.
    #[error(
        "the domain {domain} has no disk that can be captured{}; give its disks one by one, by \
        [[machine.NAME.disk]]",
        told(others)
    )]
    NoDisk {
        /// The domain.
        domain: String,
        /// Its disks, and why they cannot.
        others: Vec<(String, String)>,
    },
    /// Somebody else's job works on it.
    #[error(
        "another program's job works on the domain {domain} ({job}); wait until it is done (`virsh \
        domjobinfo {domain}`), then run this again"
    )]
    JobRunning {
        /// The domain.
        domain: String,
        /// What it does.
        job: String,
    },
    /// Its image cannot be read while it is shut off.
    #[error(
        "disk {disk} is a {format} image, which is only read while the domain runs; start it, then \
        run this again"
    )]
    Format {
        /// The disk.
        disk: String,
        /// The format of its image.
        format: String,
    },
    /// Nobody knows where the scratch file can lie.
    #[error("disk {disk} lies on a device ({}), so say where QEMU can keep for a while what the guest \
        overwrites: scratch = \"FOLDER\"", path.display())]
    NoScratch {
        /// The disk.
        disk: String,
        /// The device.
        path: PathBuf,
    },
    /// The folder of the scratch files is not there.
    #[error("the scratch folder {} is not there; make it (`mkdir -p`), or correct `scratch`",
        path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// A path that XML or libvirt cannot hold.
    #[error("{} cannot be given to libvirt; set `scratch` to a folder with a plain name",
        path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// The scratch files have no room.
    #[error(transparent)]
    Room(#[from] QemuError),
    /// libvirt refused the backup.
    #[error("libvirt cannot begin a backup: {error}; QEMU must be able to write to {}, or set `scratch` \
        to a folder where it is", folder.display())]
    Begin {
        /// Its words.
        #[source]
        error: VirshError,
        /// Where the socket lies.
        folder: PathBuf,
    },
    /// What QEMU exports cannot be read.
    #[error("{error}")]
    Export {
        /// Why.
        #[source]
        error: Box<SourceError>,
    },
    /// The path of the socket.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The system.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
}

fn told(others: &[(String, String)]) -> String {
    let told: Vec<String> = others.iter().map(|(disk, why)| format!("{disk}: {why}")).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join("; ")) }
}

impl LibvirtError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Virsh(error) => error.is_permanent(),
            Self::Room(error) => error.is_permanent(),
            Self::JobRunning { .. }
            | Self::Begin { .. }
            | Self::System { .. }
            | Self::Export { .. } => false,
            _ => true,
        }
    }
}
