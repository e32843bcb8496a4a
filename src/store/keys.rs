//! The keys of a repository: one random master key, and a key for each use derived from it.

use crate::chunk::Namer;
use crate::units::RepositoryId;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Length of every key, in bytes.
pub const KEY_BYTES: usize = 32;

/// A secret that is wiped from memory when dropped.
pub type SecretKey = Zeroizing<[u8; KEY_BYTES]>;

/// HKDF-SHA-256 (RFC 5869). The output is far below the limit of 8160 bytes, the only error that
/// expansion has.
pub(super) fn derive(secret: &[u8], salt: &[u8], label: &str, context: &[u8]) -> SecretKey {
    let mut key = SecretKey::default();
    let expanded = Hkdf::<Sha256>::new(Some(salt), secret)
        .expand_multi_info(&[label.as_bytes(), b"\0", context], key.as_mut());
    debug_assert!(expanded.is_ok());
    key
}

/// HMAC-SHA-256 under a key of 32 bytes.
fn mac(key: &SecretKey, parts: &[&[u8]]) -> [u8; 32] {
    let mut block = Zeroizing::new([0; 64]);
    block[..KEY_BYTES].copy_from_slice(key.as_ref());
    let mut mac = Hmac::<Sha256>::new(&(*block).into());
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// What a repository seals and names with.
#[derive(Clone)]
pub struct Keys {
    repository: RepositoryId,
    secret: Option<Secrets>,
}

#[derive(Clone)]
struct Secrets {
    naming: SecretKey,
    cutting: SecretKey,
    packs: SecretKey,
    manifests: SecretKey,
    header: SecretKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.secret.is_some() { "Keys(encrypted)" } else { "Keys(plain)" })
    }
}

impl Keys {
    /// A repository without encryption: names are plain hashes, nothing is sealed.
    pub fn plain(repository: RepositoryId) -> Self {
        Self { repository, secret: None }
    }

    /// All keys of an encrypted repository.
    pub fn from_master(repository: RepositoryId, master: &SecretKey) -> Self {
        let subkey = |label| derive(master.as_ref(), &repository.0, label, b"");
        let secret = Secrets {
            naming: subkey("afterimage naming"),
            cutting: subkey("afterimage cutting"),
            packs: subkey("afterimage packs"),
            manifests: subkey("afterimage manifests"),
            header: subkey("afterimage header"),
        };
        Self { repository, secret: Some(secret) }
    }

    /// The repository that they belong to.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Whether objects are sealed.
    pub fn is_encrypted(&self) -> bool {
        self.secret.is_some()
    }

    /// How content is named.
    pub fn namer(&self) -> Namer {
        match &self.secret {
            None => Namer::plain(),
            Some(secret) => Namer::keyed(&secret.naming),
        }
    }

    /// Seed of the cutter: 0 in a plain repository, else secret.
    pub fn cut_seed(&self) -> u64 {
        self.secret.as_ref().map_or(0, |secret| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&secret.cutting[..8]);
            u64::from_le_bytes(bytes)
        })
    }

    /// The key of the pack with this random salt; `None` in a plain repository.
    pub(super) fn pack_key(&self, salt: &[u8; 32]) -> Option<SecretKey> {
        let secret = self.secret.as_ref()?;
        Some(derive(secret.packs.as_ref(), salt, "afterimage pack", &self.repository.0))
    }

    /// The key of the manifest with this random salt; `None` in a plain repository.
    pub(crate) fn manifest_key(&self, salt: &[u8; 32]) -> Option<SecretKey> {
        let secret = self.secret.as_ref()?;
        Some(derive(secret.manifests.as_ref(), salt, "afterimage manifest", &self.repository.0))
    }

    /// Authenticates the header: HMAC-SHA-256 under the header's key, or plain SHA-256.
    pub(super) fn header_mac(&self, bytes: &[u8]) -> [u8; 32] {
        match &self.secret {
            None => Sha256::digest(bytes).into(),
            Some(secret) => mac(&secret.header, &[bytes]),
        }
    }

    /// Authenticates the index of key slots. A header begins with `{`, so that neither is ever
    /// taken for the other.
    pub(super) fn slot_index_mac(&self, bytes: &[u8]) -> [u8; 32] {
        const LABEL: &[u8] = b"afterimage key index\0";
        match &self.secret {
            None => Sha256::digest([LABEL, bytes].concat()).into(),
            Some(secret) => mac(&secret.header, &[LABEL, bytes]),
        }
    }
}
