//! Small sealed JSON documents in a folder of their own, each named by the hash of its file: pins,
//! locks and records of removed points.

use crate::fsio::{self, FileKind};
use crate::store::{Damage, Repository, StoreError, WriterSession, open_document, seal_document};
use crate::units::{Hex, readable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::path::Path;

const FORMAT: u32 = 1;
/// A longer document was not written by afterimage.
const DOCUMENT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Documents with their names, and what is damaged instead.
pub(super) type Listed<T> = Vec<Result<([u8; 32], T), Damage>>;

/// One kind of document.
#[derive(Debug)]
pub(super) struct DocumentKind {
    pub magic: &'static [u8; 8],
    /// What it is, for messages.
    pub word: &'static str,
}

impl DocumentKind {
    /// Makes a document durable in `folder`, and gives its name. The folder is created with the
    /// first one.
    pub fn commit<T: Serialize + DeserializeOwned + PartialEq>(
        &self,
        repository: &Repository,
        session: &WriterSession,
        folder: &Path,
        content: &T,
    ) -> Result<[u8; 32], StoreError> {
        let json = serde_json::to_vec(content).map_err(|_| StoreError::MemoryFault)?;
        let bytes = seal_document(repository.keys(), self.magic, FORMAT, &json)?;
        let same = self.decode::<T>(repository, bytes.clone()).is_ok_and(|found| found == *content);
        if !same {
            return Err(StoreError::MemoryFault);
        }
        let name: [u8; 32] = Sha256::digest(&bytes).into();
        repository.file_system().create_dir_all(folder)?;
        let file = session.create()?;
        file.handle().write_all_at(&bytes, 0)?;
        file.publish(&folder.join(Hex(name).to_string()))?;
        Ok(name)
    }

    /// All documents in `folder`, by their names; each one good or damaged. What has the name of
    /// no document is damage too: nobody can say what it was.
    pub fn list<T: DeserializeOwned>(
        &self,
        repository: &Repository,
        folder: &Path,
    ) -> Result<Listed<T>, StoreError> {
        let fs = repository.file_system().as_ref();
        if fs.stat(folder)?.is_none() {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for entry in fs.list(folder)? {
            let damage = |reason: String| Damage::Document {
                kind: self.word,
                name: readable(entry.name.chars().take(80).collect::<String>()),
                reason,
            };
            if entry.kind != FileKind::File {
                found.push(Err(damage("it is no file".to_owned())));
                continue;
            }
            let bytes = fsio::read_whole(fs, &folder.join(&entry.name), DOCUMENT_BYTES_MAX);
            let bytes = match bytes {
                Ok(bytes) => bytes,
                // Removed since it was listed.
                Err(error) if error.not_found() => continue,
                Err(error) if error.is_damage() => {
                    found.push(Err(damage(error.to_string())));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let name: [u8; 32] = Sha256::digest(&bytes).into();
            if Hex(name).to_string() != entry.name {
                found.push(Err(damage("its content does not match its name".to_owned())));
                continue;
            }
            found.push(match self.decode(repository, bytes) {
                Ok(content) => Ok((name, content)),
                Err(reason) => Err(damage(reason)),
            });
        }
        Ok(found)
    }

    fn decode<T: DeserializeOwned>(
        &self,
        repository: &Repository,
        mut bytes: Vec<u8>,
    ) -> Result<T, String> {
        let json = open_document(repository.keys(), self.magic, FORMAT, &mut bytes)?;
        serde_json::from_slice(json).map_err(readable)
    }
}
