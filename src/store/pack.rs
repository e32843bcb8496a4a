//! The format of a pack; see `docs/on-disk-format.md`.
//!
//! ```text
//! header   64 bytes  magic 8 | format u32 | kind u8 | sealed u8 | 0 u16 | repository 16 | salt 32
//! objects            each as stored, one after the other, the first at byte 64
//! trailer            for each object: name 32 | stored u32 | plain u32 | kind u8 | encoding u8
//! footer   48 bytes  trailer length u32 | objects u32 | SHA-256 32 | magic 8
//! ```
//!
//! Integers are little-endian. In an encrypted repository every object and the trailer are sealed
//! with AES-256-GCM under a key derived from the salt; the nonce is the offset in the file. The
//! footer's SHA-256 covers header, trailer as stored, and the footer's first eight bytes.
//!
//! Invariants: offsets follow from the lengths; objects fill the file from header to trailer;
//! the file's name is the SHA-256 of all its bytes.

use super::codec::Encoding;
use super::seal::{Sealer, TAG_BYTES};
use super::{Damage, Keys};
use crate::units::{MIB, ObjectName, PackName, RepositoryId};
use sha2::{Digest, Sha256};

pub(super) const PACK_FORMAT: u32 = 1;
const HEADER_MAGIC: &[u8; 8] = b"AIPACK\0\0";
const FOOTER_MAGIC: &[u8; 8] = b"AIPACKED";
/// Length of a pack's header, in bytes.
pub const PACK_HEADER_BYTES: usize = 64;
/// Length of a pack's footer, in bytes.
pub const PACK_FOOTER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 42;
/// A pack is closed once its objects reach this size; with the last object it stays under 64 MiB.
pub(super) const PACK_BYTES_TARGET: u64 = 32 * MIB;
/// A larger pack was not written by afterimage.
pub(super) const PACK_BYTES_MAX: u64 = 256 * MIB;
/// The most objects of a pack; bounds the memory that reading a trailer takes.
pub(super) const PACK_OBJECTS_MAX: usize = 256 * 1024;
/// The largest object, before encoding: a leaf of the largest region in the smallest chunks.
pub(super) const OBJECT_BYTES_MAX: u32 = 64 * MIB as u32;

const _: () = assert!(PACK_BYTES_MAX < u32::MAX as u64);
const _: () = assert!(PACK_BYTES_TARGET < PACK_BYTES_MAX);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Disk content.
    Chunk,
    /// The spans of one region.
    Leaf,
    /// Names of leaves or nodes.
    Node,
}

/// What a pack holds. Tree objects have packs of their own, so that walking trees does not read
/// past disk content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PackKind {
    /// Chunks.
    Data,
    /// Leaves and nodes.
    Tree,
}

impl ObjectKind {
    /// The byte in a trailer.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::Leaf => 2,
            Self::Node => 3,
        }
    }

    /// Reads the byte of a trailer.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Chunk, Self::Leaf, Self::Node].into_iter().find(|kind| kind.to_byte() == byte)
    }

    /// The packs that it goes to.
    pub fn pack_kind(self) -> PackKind {
        match self {
            Self::Chunk => PackKind::Data,
            Self::Leaf | Self::Node => PackKind::Tree,
        }
    }
}

impl PackKind {
    /// The byte in a header.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::Tree => 2,
        }
    }

    /// Reads the byte of a header.
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::Data, Self::Tree].into_iter().find(|kind| kind.to_byte() == byte)
    }
}

/// One object in a pack's trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackEntry {
    /// The object's name.
    pub name: ObjectName,
    /// What it is.
    pub kind: ObjectKind,
    /// How its bytes are encoded.
    pub encoding: Encoding,
    /// Bytes in the pack, with the tag where it is sealed.
    pub stored_len: u32,
    /// Bytes once decoded.
    pub plain_len: u32,
}

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackName,
    /// Offset in the pack, in bytes.
    pub offset: u32,
    /// The object.
    pub entry: PackEntry,
}

impl Location {
    /// Whether an object can lie there. An index is a file of its own, which may be damaged:
    /// what it says must not decide how much memory is asked for.
    pub(super) fn is_possible(&self) -> bool {
        let end = u64::from(self.offset) + u64::from(self.entry.stored_len);
        self.offset as usize >= PACK_HEADER_BYTES
            && end <= PACK_BYTES_MAX
            && (1..=OBJECT_BYTES_MAX).contains(&self.entry.plain_len)
    }

    /// First byte past it, of a possible location.
    pub(super) fn end(&self) -> u32 {
        self.offset + self.entry.stored_len
    }
}

/// A pack and all that lies in it, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRecord {
    /// Its name.
    pub name: PackName,
    /// What it holds.
    pub kind: PackKind,
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// Its objects.
    pub entries: Vec<PackEntry>,
}

impl PackRecord {
    /// The objects with their places.
    pub fn locations(&self) -> impl Iterator<Item = Location> + '_ {
        let mut offset = PACK_HEADER_BYTES as u32;
        self.entries.iter().map(move |entry| {
            let location = Location { pack: self.name, offset, entry: *entry };
            offset += entry.stored_len;
            location
        })
    }
}

/// The first bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackHeader {
    pub kind: PackKind,
    pub sealed: bool,
    pub repository: RepositoryId,
    pub salt: [u8; 32],
}

impl PackHeader {
    pub fn encode(&self) -> [u8; PACK_HEADER_BYTES] {
        let mut bytes = [0; PACK_HEADER_BYTES];
        bytes[..8].copy_from_slice(HEADER_MAGIC);
        bytes[8..12].copy_from_slice(&PACK_FORMAT.to_le_bytes());
        bytes[12] = self.kind.to_byte();
        bytes[13] = u8::from(self.sealed);
        bytes[16..32].copy_from_slice(&self.repository.0);
        bytes[32..].copy_from_slice(&self.salt);
        bytes
    }

    /// Reads a header and holds it against the repository it was found in.
    pub fn decode(bytes: &[u8; PACK_HEADER_BYTES], keys: &Keys) -> Result<Self, String> {
        if &bytes[..8] != HEADER_MAGIC {
            return Err("it does not begin like a pack".to_owned());
        }
        let format = u32_at(bytes, 8);
        if format != PACK_FORMAT {
            return Err(format!("its format is {format}, {PACK_FORMAT} is known"));
        }
        let kind = PackKind::from_byte(bytes[12]).ok_or("its kind is unknown")?;
        let repository = RepositoryId(array_at(bytes, 16));
        if repository != keys.repository() {
            return Err(format!("it belongs to the repository {repository}"));
        }
        let sealed = bytes[13] == 1;
        if sealed != keys.is_encrypted() || bytes[13] > 1 || bytes[14..16] != [0, 0] {
            return Err("its flags are not those of this repository".to_owned());
        }
        Ok(Self { kind, sealed, repository, salt: array_at(bytes, 32) })
    }

    pub fn sealer(&self, keys: &Keys) -> Option<Sealer> {
        keys.pack_key(&self.salt).map(|key| Sealer::new(&key))
    }
}

/// What an object's seal is bound to.
pub(super) fn object_bound(repository: RepositoryId, entry: &PackEntry) -> Vec<u8> {
    let mut bound = Vec::with_capacity(80);
    bound.extend_from_slice(b"afterimage object\0");
    bound.extend_from_slice(&repository.0);
    bound.extend_from_slice(&[entry.kind.to_byte(), entry.encoding.to_byte()]);
    bound.extend_from_slice(&entry.plain_len.to_le_bytes());
    bound.extend_from_slice(&entry.name.0);
    bound
}

fn trailer_bound(header: &[u8; PACK_HEADER_BYTES], objects: u32) -> Vec<u8> {
    let mut bound = b"afterimage trailer\0".to_vec();
    bound.extend_from_slice(header);
    bound.extend_from_slice(&objects.to_le_bytes());
    bound
}

/// Trailer and footer of a pack whose objects end at `offset`. `None` when sealing fails.
pub(super) fn encode_trailer(
    header: &[u8; PACK_HEADER_BYTES],
    entries: &[PackEntry],
    sealer: Option<&Sealer>,
    offset: u64,
) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES + TAG_BYTES + PACK_FOOTER_BYTES);
    for entry in entries {
        bytes.extend_from_slice(&entry.name.0);
        bytes.extend_from_slice(&entry.stored_len.to_le_bytes());
        bytes.extend_from_slice(&entry.plain_len.to_le_bytes());
        bytes.extend_from_slice(&[entry.kind.to_byte(), entry.encoding.to_byte()]);
    }
    let objects = entries.len() as u32;
    if let Some(sealer) = sealer
        && !sealer.seal(offset, &trailer_bound(header, objects), &mut bytes, 0)
    {
        return None;
    }
    let trailer_len = bytes.len();
    let mut lens = [0; 8];
    lens[..4].copy_from_slice(&(trailer_len as u32).to_le_bytes());
    lens[4..].copy_from_slice(&objects.to_le_bytes());
    let digest = footer_digest(header, &bytes, &lens);
    bytes.extend_from_slice(&lens);
    bytes.extend_from_slice(&digest);
    bytes.extend_from_slice(FOOTER_MAGIC);
    Some(bytes)
}

fn footer_digest(header: &[u8], trailer: &[u8], lens: &[u8; 8]) -> [u8; 32] {
    Sha256::new().chain_update(header).chain_update(trailer).chain_update(lens).finalize().into()
}

/// The lengths in a footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PackFooter {
    pub trailer_len: u32,
    pub objects: u32,
    digest: [u8; 32],
}

impl PackFooter {
    /// Reads the footer of a file of `file_len` bytes. Nothing is allocated before the lengths
    /// are known to fit.
    pub fn decode(bytes: &[u8; PACK_FOOTER_BYTES], file_len: u64) -> Result<Self, String> {
        if &bytes[40..] != FOOTER_MAGIC {
            return Err("it does not end like a pack; it was cut off or overwritten".to_owned());
        }
        let footer = Self {
            trailer_len: u32_at(bytes, 0),
            objects: u32_at(bytes, 4),
            digest: array_at(bytes, 8),
        };
        let least = (PACK_HEADER_BYTES + PACK_FOOTER_BYTES) as u64 + u64::from(footer.trailer_len);
        let entries = u64::from(footer.objects) * ENTRY_BYTES as u64;
        let fits = [entries, entries + TAG_BYTES as u64].contains(&u64::from(footer.trailer_len));
        if file_len < least || !fits || footer.objects as usize > PACK_OBJECTS_MAX {
            return Err("its trailer's lengths are impossible".to_owned());
        }
        Ok(footer)
    }
}

/// Reads a trailer as stored (modified in place when it is sealed).
pub(super) fn decode_trailer(
    header_bytes: &[u8; PACK_HEADER_BYTES],
    footer: &PackFooter,
    trailer: &mut [u8],
    file_len: u64,
    keys: &Keys,
) -> Result<(PackHeader, Vec<PackEntry>), String> {
    let header = PackHeader::decode(header_bytes, keys)?;
    let mut lens = [0; 8];
    lens[..4].copy_from_slice(&footer.trailer_len.to_le_bytes());
    lens[4..].copy_from_slice(&footer.objects.to_le_bytes());
    if footer_digest(header_bytes, trailer, &lens) != footer.digest {
        return Err("its trailer does not match its checksum".to_owned());
    }
    let trailer_offset = file_len - PACK_FOOTER_BYTES as u64 - u64::from(footer.trailer_len);
    let plain: &[u8] = match header.sealer(keys) {
        None => trailer,
        Some(sealer) => sealer
            .open(trailer_offset, &trailer_bound(header_bytes, footer.objects), trailer)
            .ok_or("its trailer was not sealed with this repository's keys")?,
    };
    if plain.len() != footer.objects as usize * ENTRY_BYTES {
        return Err("its trailer's length and its number of objects differ".to_owned());
    }
    let entries = plain
        .chunks_exact(ENTRY_BYTES)
        .map(|bytes| decode_entry(bytes, &header))
        .collect::<Result<Vec<_>, _>>()?;
    let stored: u64 = entries.iter().map(|entry| u64::from(entry.stored_len)).sum();
    if PACK_HEADER_BYTES as u64 + stored != trailer_offset {
        return Err("its objects do not fill it".to_owned());
    }
    Ok((header, entries))
}

fn decode_entry(bytes: &[u8], header: &PackHeader) -> Result<PackEntry, String> {
    let kind = ObjectKind::from_byte(bytes[40]).ok_or("an object is of an unknown kind")?;
    let encoding = Encoding::from_byte(bytes[41]).ok_or("an encoding is unknown")?;
    let entry = PackEntry {
        name: ObjectName(array_at(bytes, 0)),
        kind,
        encoding,
        stored_len: u32_at(bytes, 32),
        plain_len: u32_at(bytes, 36),
    };
    let stored_least = if header.sealed { TAG_BYTES as u32 + 1 } else { 1 };
    let lens_fit = entry.stored_len >= stored_least
        && (1..=OBJECT_BYTES_MAX).contains(&entry.plain_len)
        && u64::from(entry.stored_len) <= PACK_BYTES_MAX;
    if kind.pack_kind() == header.kind && lens_fit {
        Ok(entry)
    } else {
        Err("an object does not belong in it".to_owned())
    }
}

/// A damaged pack.
pub(super) fn damaged(pack: PackName, reason: impl Into<String>) -> Damage {
    Damage::Pack { pack, reason: reason.into() }
}

/// Callers give an offset that a length check before has shown to lie inside.
fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}
