//! Authenticated encryption (AES-256-GCM) of what lies in a file that has a key of its own.
//!
//! Invariant: a key is derived from a random 256-bit salt that is made for one file and never
//! used again, and the nonce is the position of the object in that file; so no nonce repeats
//! under a key.

use super::keys::SecretKey;
use aes_gcm::aead::{AeadInOut, KeyInit, Tag};
use aes_gcm::{Aes256Gcm, Nonce};

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;

/// Seals and opens the objects of one file.
pub struct Sealer {
    cipher: Aes256Gcm,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

fn nonce(position: u64) -> Nonce<<Aes256Gcm as aes_gcm::aead::AeadCore>::NonceSize> {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&position.to_le_bytes());
    bytes.into()
}

impl Sealer {
    /// A sealer with the file's own key.
    pub fn new(key: &SecretKey) -> Self {
        Self { cipher: Aes256Gcm::new(&(**key).into()) }
    }

    /// Encrypts `bytes[from..]` in place and appends the tag. `false` when the cipher refuses
    /// (more than 64 GiB).
    #[must_use]
    pub fn seal(&self, position: u64, bound: &[u8], bytes: &mut Vec<u8>, from: usize) -> bool {
        let sealed = self.cipher.encrypt_inout_detached(
            &nonce(position),
            bound,
            (&mut bytes[from..]).into(),
        );
        match sealed {
            Ok(tag) => {
                bytes.extend_from_slice(&tag);
                true
            }
            Err(_) => false,
        }
    }

    /// Decrypts `sealed` in place; the plain bytes, or `None` when it is not exactly what was
    /// sealed at this position with the same bound data.
    pub fn open<'a>(
        &self,
        position: u64,
        bound: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let plain_len = sealed.len().checked_sub(TAG_BYTES)?;
        let (plain, tag) = sealed.split_at_mut(plain_len);
        let tag = Tag::<Aes256Gcm>::try_from(&*tag).ok()?;
        self.cipher
            .decrypt_inout_detached(&nonce(position), bound, (&mut *plain).into(), &tag)
            .ok()?;
        Some(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_only_in_its_place_and_unchanged() {
        let sealer = Sealer::new(&SecretKey::new([7; 32]));
        let mut bytes = b"prefix".to_vec();
        bytes.extend_from_slice(b"content");
        assert!(sealer.seal(64, b"chunk", &mut bytes, 6));
        let sealed = &bytes[6..];
        assert_eq!(sealed.len(), 7 + TAG_BYTES);
        let open = |position, bound: &[u8], sealed: &[u8]| {
            let mut copy = sealed.to_vec();
            sealer.open(position, bound, &mut copy).map(|plain| plain.to_vec())
        };
        assert_eq!(open(64, b"chunk", sealed).as_deref(), Some(&b"content"[..]));
        assert_eq!(open(65, b"chunk", sealed), None);
        assert_eq!(open(64, b"node", sealed), None);
        assert_eq!(open(64, b"chunk", &sealed[..10]), None);
        for index in 0..sealed.len() {
            let mut flipped = sealed.to_vec();
            flipped[index] ^= 1;
            assert_eq!(open(64, b"chunk", &flipped), None, "byte {index}");
        }
    }
}
