//! From the bytes of an object in its pack to its content, with every check on the way.

use super::codec::Codec;
use super::pack::{Location, ObjectKind, object_bound};
use super::seal::Sealer;
use crate::chunk::Namer;
use crate::units::{Breakage, ObjectName, RepositoryId, is_broken};

/// What opens the objects of one repository. One for each thread.
pub(super) struct Opener {
    repository: RepositoryId,
    namer: Namer,
    codec: Codec,
    plain: Vec<u8>,
}

impl Opener {
    pub fn new(repository: RepositoryId, namer: Namer, codec: Codec) -> Self {
        Self { repository, namer, codec, plain: Vec::new() }
    }

    /// Opens the object that lies at `place`; `stored` is what the pack holds there, and is of no
    /// use afterwards: a seal is opened in place.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn open(
        &mut self,
        place: &Location,
        sealer: Option<&Sealer>,
        stored: &mut [u8],
    ) -> Result<&[u8], &'static str> {
        let entry = &place.entry;
        let encoded: &[u8] = match sealer {
            None => stored,
            Some(sealer) => {
                let bound = object_bound(self.repository, entry);
                let opened = sealer.open(u64::from(place.offset), &bound, stored);
                opened.ok_or("its seal is broken")?
            }
        };
        // A trailer may say 64 MiB of each of its objects, whatever there is of them.
        if !Codec::may_be(entry.encoding, encoded, entry.plain_len) {
            return Err("it does not have the length that it should have");
        }
        self.plain.resize(entry.plain_len as usize, 0);
        if !self.codec.decode(entry.encoding, encoded, &mut self.plain) {
            return Err("it does not decompress");
        }
        let name: ObjectName = match entry.kind {
            ObjectKind::Chunk => self.namer.chunk(&self.plain).into(),
            ObjectKind::Leaf | ObjectKind::Node => self.namer.tree(&self.plain).into(),
        };
        if name == entry.name || is_broken(Breakage::NameUnchecked) {
            Ok(&self.plain)
        } else {
            Err("its content does not match its name")
        }
    }

    /// What was opened last.
    pub fn plain(&self) -> &[u8] {
        &self.plain
    }
}
