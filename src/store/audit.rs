//! Reading a whole pack with every check that there is.

use super::codec::Codec;
use super::pack::{Location, PackRecord, damaged, object_bound};
use super::reader::{OpenPack, open_pack};
use super::{Damage, ObjectKind, Repository, StoreError};
use crate::chunk::Namer;
use crate::fsio::FileError;
use crate::units::{MIB, PackName};
use sha2::{Digest, Sha256};

/// Bytes that are read at once between objects and past the last one.
const READ_BYTES: u64 = MIB;

/// What was found in a pack, all of which was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackAudit {
    /// What its trailer says.
    pub record: PackRecord,
    /// Each object that does not decode to its name, and the pack itself where its bytes are not
    /// those that it is named by. Empty: all of it is good.
    pub damages: Vec<Damage>,
}

impl Repository {
    /// Reads every byte of a pack: its trailer, each object, which is decoded and held against its
    /// name, and the hash of the file. The system's cache of it is dropped before, where that can
    /// be had, so that the medium answers.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the pack is missing or its header or trailer cannot be read:
    /// nothing is then known of its objects. Damaged objects are no error.
    pub fn audit_pack(&self, name: PackName) -> Result<PackAudit, StoreError> {
        let pack = open_pack(self, name)?;
        pack.handle.drop_cache();
        let record = self.read_pack_record(name)?;
        let mut audit = Audit::new(self, &pack)?;
        let mut damages = Vec::new();
        audit.skip_to(first_offset(&record))?;
        for place in record.locations() {
            damages.extend(audit.object(&place)?);
        }
        audit.skip_to(record.bytes)?;
        if PackName(audit.hash.finalize().into()) != name {
            damages.push(damaged(name, "its content does not match its name"));
        }
        Ok(PackAudit { record, damages })
    }
}

fn first_offset(record: &PackRecord) -> u64 {
    record.locations().next().map_or(record.bytes, |place| u64::from(place.offset))
}

/// A pack that is read from its first byte to its last.
struct Audit<'a> {
    repository: &'a Repository,
    pack: &'a OpenPack,
    namer: Namer,
    codec: Codec,
    hash: Sha256,
    at: u64,
    raw: Vec<u8>,
    plain: Vec<u8>,
}

impl<'a> Audit<'a> {
    fn new(repository: &'a Repository, pack: &'a OpenPack) -> Result<Self, StoreError> {
        Ok(Self {
            repository,
            pack,
            namer: repository.keys().namer(),
            codec: Codec::new(repository.compression_level())?,
            hash: Sha256::new(),
            at: 0,
            raw: Vec::new(),
            plain: Vec::new(),
        })
    }

    /// Reads and hashes what comes next.
    fn read(&mut self, len: usize) -> Result<(), FileError> {
        self.raw.resize(len, 0);
        self.pack.handle.read_exact_at(&mut self.raw, self.at)?;
        self.hash.update(&self.raw);
        self.at += len as u64;
        Ok(())
    }

    fn skip_to(&mut self, offset: u64) -> Result<(), FileError> {
        while self.at < offset {
            self.read((offset - self.at).min(READ_BYTES) as usize)?;
        }
        Ok(())
    }

    /// The next object; gives back what is wrong with it.
    fn object(&mut self, place: &Location) -> Result<Option<Damage>, StoreError> {
        let entry = &place.entry;
        self.read(entry.stored_len as usize)?;
        let damage = |reason| Damage::Object { pack: place.pack, object: entry.name, reason };
        let encoded: &[u8] = match &self.pack.sealer {
            None => &self.raw,
            Some(sealer) => {
                let bound = object_bound(self.repository.keys().repository(), entry);
                match sealer.open(u64::from(place.offset), &bound, &mut self.raw) {
                    Some(encoded) => encoded,
                    None => return Ok(Some(damage("its seal is broken"))),
                }
            }
        };
        self.plain.resize(entry.plain_len as usize, 0);
        if !self.codec.decode(entry.encoding, encoded, &mut self.plain) {
            return Ok(Some(damage("it does not decompress")));
        }
        let found = match entry.kind {
            ObjectKind::Chunk => self.namer.chunk(&self.plain).0,
            ObjectKind::Leaf | ObjectKind::Node => self.namer.tree(&self.plain).0,
        };
        let is_same = found == entry.name.0;
        Ok((!is_same).then(|| damage("its content does not match its name")))
    }
}
