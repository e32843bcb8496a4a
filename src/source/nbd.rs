//! Exports of NBD servers: disks that another program or host reads.

use super::Source;
use super::error::SourceError;
use crate::extent::Extent;
use crate::fsio::FileStat;
use crate::nbd::{Address, Client, NbdError, Options};
use crate::units::DISK_BYTES_MAX;
use std::path::PathBuf;
use std::sync::Arc;

/// An export of an NBD server.
///
/// Invariant: only what the server flags as zeros counts as zeros. Without `base:allocation`
/// everything is data.
#[derive(Debug)]
pub struct NbdSource {
    client: Arc<Client>,
}

/// Connects to an export, for reading.
///
/// Nothing keeps other clients of the server from writing meanwhile: the export must be of a
/// disk that nobody writes to, or of a snapshot.
///
/// # Errors
/// When the server cannot be reached or does not have it, or when it has no bytes at all.
pub fn open_nbd(address: &Address, options: &Options) -> Result<NbdSource, SourceError> {
    NbdSource::new(Arc::new(Client::connect(address, options)?))
}

impl NbdSource {
    /// The disk behind a client that is connected already.
    ///
    /// # Errors
    /// When it has no bytes at all, or more than any disk.
    pub fn new(client: Arc<Client>) -> Result<Self, SourceError> {
        let size_bytes = client.size_bytes();
        let path = PathBuf::from(client.address().to_string());
        // As with a device: a point of nothing would empty the replicas.
        if size_bytes == 0 {
            Err(SourceError::Empty { path })
        } else if size_bytes > DISK_BYTES_MAX {
            Err(SourceError::TooLarge { path, size_bytes })
        } else {
            Ok(Self { client })
        }
    }

    /// The client that it reads with.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Where a dirty bitmap of QEMU says that the disk was written to: sorted, disjoint, within
    /// the disk.
    ///
    /// # Errors
    /// When the server does not export the bitmap or fails.
    pub fn changed_extents(&self, bitmap: &str) -> Result<Vec<Extent>, NbdError> {
        self.client.changed_extents(bitmap)
    }
}

impl Source for NbdSource {
    fn size_bytes(&self) -> u64 {
        self.client.size_bytes()
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError> {
        Ok(self.client.next_data(offset)?)
    }

    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        Ok(self.client.data_extents(range)?)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        Ok(self.client.read_exact_at(buffer, offset)?)
    }

    /// Knows only whether the connection still is the one that was opened: what is behind it no
    /// reader can know. The size of an export does not change while a client is connected.
    fn check_unchanged(&self) -> Result<(), SourceError> {
        Ok(self.client.check_alive()?)
    }

    fn description(&self) -> &'static str {
        "NBD export"
    }

    fn files(&self) -> Vec<FileStat> {
        Vec::new()
    }
}
