//! Packs and the objects in them.

use super::world::{self, World, sha256};
use afterimage::store::{
    Codec, Encoding, ObjectKind, ObjectReader, PackEntry, PackRecord, PackSink, PackState,
    Repository, StoreError, Wanted,
};
use afterimage::testing::MemoryIndex;
use afterimage::units::{ChunkName, PackName, TreeName};

const HEADER_BYTES: usize = 64;
const FOOTER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 42;

/// A whole pack of the plain repository.
pub fn pack(bytes: &[u8]) -> bool {
    world::with(|world| check(world, &world.plain, bytes))
}

/// The same, with the checksum of its trailer set right.
pub fn pack_repaired(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    repair(&mut bytes);
    world::with(|world| check(world, &world.plain, &bytes))
}

/// A whole pack of the encrypted repository. Whatever changed is found by its seals, so the
/// checksum of the trailer is set right.
pub fn pack_sealed(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    repair(&mut bytes);
    world::with(|world| check(world, &world.sealed, &bytes))
}

/// Sets the checksum in the footer right, as far as there is a trailer.
fn repair(bytes: &mut [u8]) {
    let Some(footer_at) = bytes.len().checked_sub(FOOTER_BYTES) else { return };
    let (before, footer) = bytes.split_at_mut(footer_at);
    let trailer_len = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]) as usize;
    let trailer_at = footer_at.checked_sub(trailer_len).filter(|at| *at >= HEADER_BYTES);
    let Some(trailer_at) = trailer_at else { return };
    let covered = [&before[..HEADER_BYTES], &before[trailer_at..], &footer[..8]].concat();
    footer[8..40].copy_from_slice(&sha256(&covered));
}

fn check(world: &World, repository: &Repository, bytes: &[u8]) -> bool {
    let name = PackName(sha256(bytes));
    let path = repository.layout().pack(name);
    world.put(&path, bytes);
    let record = repository.read_pack_record(name);
    if let Ok(record) = &record {
        check_record(record, bytes, repository.keys().is_encrypted());
    }
    let mut seen = 0;
    let state = repository.inspector().unwrap().inspect::<StoreError>(name, &mut |count| {
        seen += count;
        Ok(())
    });
    assert_eq!(seen, bytes.len() as u64, "not every byte was looked at");
    let good = match state.unwrap() {
        PackState::Good => record.as_ref().unwrap().locations().collect(),
        PackState::Damaged(damage) => {
            assert!(record.is_ok() || (damage.good.is_empty() && damage.damaged.is_empty()));
            damage.good
        }
        PackState::Missing => panic!("it was there"),
    };
    if let Ok(record) = &record {
        let index = MemoryIndex::default();
        index.pack_written(record).unwrap();
        let mut reader = repository.reader(&index).unwrap();
        for place in good {
            check_read(repository, &mut reader, &place.entry);
        }
    }
    world.remove(&path);
    record.is_ok()
}

/// What `docs/on-disk-format.md` promises of a pack that is accepted; the trailer of a plain one
/// is written again from what was read.
fn check_record(record: &PackRecord, bytes: &[u8], sealed: bool) {
    let stored: u64 = record.entries.iter().map(|entry| u64::from(entry.stored_len)).sum();
    let tag = if sealed { 16 } else { 0 };
    let trailer_len = record.entries.len() * ENTRY_BYTES + tag;
    let expected = (HEADER_BYTES + trailer_len + FOOTER_BYTES) as u64 + stored;
    assert_eq!((record.bytes, expected), (bytes.len() as u64, bytes.len() as u64));
    let mut at = HEADER_BYTES as u32;
    let mut trailer = Vec::new();
    for place in record.locations() {
        let entry = place.entry;
        assert_eq!(place.offset, at, "an object does not lie behind the one before");
        at += entry.stored_len;
        assert!(entry.stored_len as usize > tag && (1..=64 << 20).contains(&entry.plain_len));
        assert_eq!(entry.kind.pack_kind(), record.kind);
        trailer.extend_from_slice(&entry.name.0);
        trailer.extend_from_slice(&entry.stored_len.to_le_bytes());
        trailer.extend_from_slice(&entry.plain_len.to_le_bytes());
        trailer.extend_from_slice(&[entry.kind.to_byte(), entry.encoding.to_byte()]);
    }
    if !sealed {
        let trailer_at = bytes.len() - FOOTER_BYTES - trailer_len;
        assert_eq!(trailer, bytes[trailer_at..trailer_at + trailer_len]);
    }
}

/// An object that was found to be good is given, and is what its name says.
fn check_read(repository: &Repository, reader: &mut ObjectReader<'_>, entry: &PackEntry) {
    let namer = repository.keys().namer();
    match entry.kind {
        ObjectKind::Chunk => {
            let wanted = Wanted { name: ChunkName(entry.name.0), len: entry.plain_len };
            let mut given = None;
            let read = reader.chunks::<StoreError>(&[wanted], |_, content| {
                given = Some((content.len(), namer.chunk(content)));
                Ok(())
            });
            // The same name may stand in the trailer twice, and be good in one place only.
            if read.is_ok() {
                assert_eq!(given, Some((entry.plain_len as usize, wanted.name)));
            }
        }
        ObjectKind::Leaf | ObjectKind::Node => {
            let name = TreeName(entry.name.0);
            if let Ok(content) = reader.tree_object(name, entry.kind) {
                assert_eq!(namer.tree(&content), name);
            }
        }
    }
}

/// The bytes of one object: encoding, the length that it must have, what is stored.
pub fn object(mut bytes: &[u8]) -> bool {
    let (Some([encoding]), Some(len)) = (world::take(&mut bytes), world::take(&mut bytes)) else {
        return false;
    };
    let Some(encoding) = Encoding::from_byte(encoding) else { return false };
    assert_eq!(Encoding::from_byte(encoding.to_byte()), Some(encoding));
    let len = u32::from_le_bytes(len) as usize % (1 << 20);
    let mut plain = vec![0; len];
    let mut codec = Codec::new(3).unwrap();
    if !codec.decode(encoding, bytes, &mut plain) {
        return false;
    }
    if encoding == Encoding::Raw {
        assert_eq!(plain, bytes);
    }
    // It can be stored again, and comes back.
    let encoded = codec.encode(&plain, |restored| restored == plain).unwrap();
    assert_eq!(encoded.plain_len as usize, plain.len());
    let (encoding, stored) = (encoded.encoding, encoded.bytes.to_vec());
    let mut again = vec![0xee; plain.len()];
    assert!(codec.decode(encoding, &stored, &mut again));
    assert_eq!(again, plain);
    true
}
