//! The repository's header: its identity and the numbers that never change in it.

use super::{Keys, StoreError};
use crate::chunk::CutParameters;
use crate::units::{Hex, RepositoryId, readable};
use std::path::Path;

/// The newest repository format that is read and written here.
pub const REPOSITORY_FORMAT: u64 = 2;
/// Of repositories in which only content decides where disks are cut, not the ends of blocks.
const FORMAT_WITHOUT_BLOCKS: u64 = 1;
/// A longer header is not ours.
pub(super) const HEADER_BYTES_MAX: u64 = 64 * 1024;

/// Whether, and how, a repository is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Encryption {
    /// Nothing is sealed, names are plain hashes.
    #[serde(rename = "none")]
    None,
    /// AES-256-GCM with keys from a random master key, which the key slots hold.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

impl Encryption {
    /// In words, for messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::None => "not encrypted",
            Self::Aes256Gcm => "encrypted",
        }
    }
}

/// The content of `repository.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The format that it was written in.
    pub format: u64,
    /// The repository's identity.
    pub id: RepositoryId,
    /// When it was created.
    pub created: jiff::Timestamp,
    /// Whether it is encrypted.
    pub encryption: Encryption,
    /// How disks are cut.
    pub cut: CutParameters,
}

/// The header as it stands in the file. The field order is the order that the MAC covers.
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    header: Header,
    mac: Hex<32>,
}

/// What can be read of the header of any format.
#[derive(serde::Deserialize)]
struct Any {
    header: AnyHeader,
}

#[derive(serde::Deserialize)]
struct AnyHeader {
    format: u64,
}

impl Header {
    /// The format of a repository whose disks are cut so: the first one that can hold it.
    pub(super) fn format_of(cut: &CutParameters) -> u64 {
        if cut.block_bytes.is_none() { FORMAT_WITHOUT_BLOCKS } else { REPOSITORY_FORMAT }
    }

    fn mac(&self, keys: &Keys) -> Result<[u8; 32], serde_json::Error> {
        Ok(keys.header_mac(&serde_json::to_vec(self)?))
    }

    pub(super) fn encode(&self, keys: &Keys) -> Result<Vec<u8>, serde_json::Error> {
        let sealed = Sealed { header: self.clone(), mac: Hex(self.mac(keys)?) };
        let mut text = serde_json::to_vec_pretty(&sealed)?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads a header without trusting it yet: the keys that can check it are found with its help.
    pub(super) fn decode(text: &[u8], path: &Path) -> Result<UncheckedHeader, StoreError> {
        let damaged = |reason: String| StoreError::Header { path: path.to_owned(), reason };
        let any: Any = serde_json::from_slice(text).map_err(|e| damaged(readable(e)))?;
        if any.header.format == 0 {
            return Err(damaged("a format of 0 does not exist".to_owned()));
        }
        if any.header.format > REPOSITORY_FORMAT {
            return Err(StoreError::NewerFormat {
                path: crate::fsio::parent_dir(path),
                found: any.header.format,
                known: REPOSITORY_FORMAT,
            });
        }
        let sealed: Sealed = serde_json::from_slice(text).map_err(|e| damaged(readable(e)))?;
        let format = Self::format_of(&sealed.header.cut);
        if sealed.header.format != format {
            let found = sealed.header.format;
            return Err(damaged(format!(
                "it says format {found}, and holds what format {format} does"
            )));
        }
        sealed.header.cut.check()?;
        Ok(UncheckedHeader { header: sealed.header, mac: sealed.mac.0 })
    }
}

/// A header that no key has confirmed yet.
pub(super) struct UncheckedHeader {
    header: Header,
    mac: [u8; 32],
}

impl UncheckedHeader {
    pub fn peek(&self) -> &Header {
        &self.header
    }

    /// The header, if it was written with these keys.
    pub fn check(self, keys: &Keys, path: &Path) -> Result<Header, StoreError> {
        let damaged = |reason: String| StoreError::Header { path: path.to_owned(), reason };
        let mac = self.header.mac(keys).map_err(|e| damaged(e.to_string()))?;
        // The MAC guards a file that the attacker has, not an oracle: timing tells nothing new.
        if mac == self.mac {
            Ok(self.header)
        } else {
            Err(damaged("its content does not match its authentication code".to_owned()))
        }
    }
}
