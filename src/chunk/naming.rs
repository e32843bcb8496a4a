//! Names of chunks and tree objects, from their content.

use crate::units::{ChunkName, TreeName};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Goes before the bytes of a leaf or node when it is named, so that a disk that happens to
/// hold the same bytes as a chunk can never be taken for one.
const TREE_PREFIX: &[u8] = b"afterimage tree object\0";

/// Names content: SHA-256 in a plain repository; HMAC-SHA-256 under a secret key in an encrypted
/// one, so that who sees names learns nothing of the content.
#[derive(Clone)]
pub struct Namer {
    keyed: Option<Hmac<Sha256>>,
}

impl std::fmt::Debug for Namer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.keyed.is_some() { "Namer(keyed)" } else { "Namer(plain)" })
    }
}

impl Namer {
    /// Names by SHA-256.
    pub fn plain() -> Self {
        Self { keyed: None }
    }

    /// Names by HMAC-SHA-256 under `key`.
    pub fn keyed(key: &[u8; 32]) -> Self {
        // HMAC pads a short key with zeros to the hash's block of 64 bytes.
        let mut block = [0; 64];
        block[..32].copy_from_slice(key);
        Self { keyed: Some(Hmac::new(&block.into())) }
    }

    /// The name of a chunk's content.
    pub fn chunk(&self, content: &[u8]) -> ChunkName {
        ChunkName(self.name(&[content]))
    }

    /// The name of an encoded leaf or node.
    pub fn tree(&self, encoded: &[u8]) -> TreeName {
        TreeName(self.name(&[TREE_PREFIX, encoded]))
    }

    fn name(&self, parts: &[&[u8]]) -> [u8; 32] {
        match &self.keyed {
            None => {
                let mut hash = Sha256::new();
                parts.iter().for_each(|part| hash.update(part));
                hash.finalize().into()
            }
            Some(keyed) => {
                let mut mac = keyed.clone();
                parts.iter().for_each(|part| mac.update(part));
                mac.finalize().into_bytes().into()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_published_vectors() {
        // FIPS 180-4 example "abc", and RFC 4231 test case 1 (its key of 20 bytes, zero-padded to
        // 32, is the same HMAC key).
        let plain = Namer::plain().chunk(b"abc").to_string();
        assert_eq!(plain, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let keyed = Namer::keyed(&key).chunk(b"Hi There").to_string();
        assert_eq!(keyed, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }

    #[test]
    fn a_tree_object_and_a_chunk_of_the_same_bytes_have_different_names() {
        let namer = Namer::plain();
        assert_ne!(namer.chunk(b"same").0, namer.tree(b"same").0);
    }
}
