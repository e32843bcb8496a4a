//! Leaves, nodes, and whole trees of them.

use super::world::{self, World};
use afterimage::chunk::CutParameters;
use afterimage::point::{FAN_OUT, Leaf, Node, Span, TreeReader, TreeRef};
use afterimage::store::{Codec, Location, ObjectKind, PackEntry, Put, StoreError};
use afterimage::testing::MemoryIndex;
use afterimage::units::{DISK_BYTES_MAX, RunId, TreeName};

/// The most regions that are looked at: a disk of 2^63 bytes has too many for anybody.
const VISITS_MAX: usize = 2000;

fn cut() -> CutParameters {
    world::with(|world| world.plain.header().cut)
}

/// Length of the region, then a leaf.
pub fn leaf(mut bytes: &[u8]) -> bool {
    let Some(len) = world::take(&mut bytes) else { return false };
    let (region_len, cut) = (u32::from_le_bytes(len), cut());
    let Ok(leaf) = Leaf::decode(bytes, region_len, &cut) else { return false };
    assert_eq!(leaf.encode(), bytes, "two forms of one leaf");
    check_leaf(&leaf, region_len, &cut);
    true
}

fn check_leaf(leaf: &Leaf, region_len: u32, cut: &CutParameters) {
    let covered: u64 = leaf.spans.iter().map(|span| u64::from(span.len())).sum();
    assert_eq!(covered, u64::from(region_len), "the spans do not cover the region");
    assert!(leaf.spans.iter().all(|span| !span.is_empty()));
    assert!(!leaf.is_hole(), "a region of zeros has no leaf");
    let is_hole = |span: &Span| matches!(span, Span::Hole { .. });
    assert!(!leaf.spans.windows(2).any(|pair| pair.iter().all(is_hole)), "two holes touch");
    let longest = leaf.spans.iter().filter(|span| !is_hole(span)).map(Span::len).max();
    assert!(longest.is_none_or(|longest| longest <= cut.chunk_bytes_max));
}

/// Level, then a node.
pub fn node(mut bytes: &[u8]) -> bool {
    let Some([level]) = world::take(&mut bytes) else { return false };
    let Ok(node) = Node::decode(bytes, level) else { return false };
    assert_eq!(node.encode(level), bytes, "two forms of one node");
    assert_eq!(node.children.len(), FAN_OUT);
    assert!(node.children.iter().any(Option::is_some), "a node without children is not stored");
    assert!((1..=8).contains(&level), "no disk has a node of level {level}");
    assert!(Node::decode(bytes, level.wrapping_add(1)).is_err());
    true
}

/// A tree whose objects are all in place under their names: size of the disk, then pieces. One
/// that begins with `N` is a node: its level, then pairs of a child and the piece that it is. Any
/// other piece is stored as it is. The last one is the root.
pub fn tree(mut bytes: &[u8]) -> bool {
    let Some(size) = world::take(&mut bytes) else { return false };
    let size_bytes = u64::from_le_bytes(size) % (DISK_BYTES_MAX + 1);
    let pieces = world::pieces(bytes, 24);
    world::with(|world| {
        let index = MemoryIndex::default();
        let names = store(world, &index, &pieces);
        let tree = TreeRef { root: names.last().copied(), size_bytes };
        check_tree(world, &index, &tree)
    })
}

fn store(world: &World, index: &MemoryIndex, pieces: &[&[u8]]) -> Vec<TreeName> {
    let repository = &world.plain;
    let mut codec = Codec::new(1).unwrap();
    let writer = repository.writer(index, RunId([7; 16])).unwrap();
    let mut names: Vec<TreeName> = Vec::new();
    for piece in pieces {
        let (kind, encoded) = match piece {
            [b'N', level, children @ ..] => {
                let mut node = Node::default();
                for pair in children.chunks_exact(2) {
                    let child = names.get(usize::from(pair[1])).copied();
                    node.children[usize::from(pair[0])] = child;
                }
                (ObjectKind::Node, node.encode(*level))
            }
            _ => (ObjectKind::Leaf, piece.to_vec()),
        };
        let name = repository.keys().namer().tree(&encoded);
        if !encoded.is_empty() && !names.contains(&name) {
            let put = writer.put_tree(name, kind, &encoded, &mut codec).unwrap();
            assert_eq!(put, Put::Stored);
        }
        names.push(name);
    }
    writer.flush().unwrap();
    names
}

/// Walks the tree, reads its leaves, and asks for some regions one by one.
fn check_tree(world: &World, index: &MemoryIndex, tree: &TreeRef) -> bool {
    let cut = world.plain.header().cut;
    let mut visited = Vec::new();
    let mut reader = world.plain.reader(index).unwrap();
    let walked = TreeReader::new(&mut reader).differing(&TreeRef::EMPTY, tree, &mut |change| {
        if visited.len() == VISITS_MAX {
            return Err(StoreError::MemoryFault);
        }
        visited.push(change);
        Ok(())
    });
    let regions = cut.region_count(tree.size_bytes);
    let mut is_good = walked.is_ok();
    assert!(visited.windows(2).all(|pair| pair[0].region < pair[1].region), "out of order");
    for change in &visited {
        assert!(change.region.0 < regions && change.old.is_none());
        let Some(name) = change.new else { panic!("a region of zeros was visited") };
        let region_len = cut.region_len(change.region, tree.size_bytes);
        match TreeReader::new(&mut reader).leaf(name, region_len) {
            Ok(leaf) => check_leaf(&leaf, region_len, &cut),
            Err(_) => is_good = false,
        }
    }
    for change in visited.iter().take(20) {
        let found = TreeReader::new(&mut reader).leaf_name(tree, change.region);
        assert_eq!(found.unwrap(), change.new, "the walk and the way down differ");
    }
    remove_packs(world);
    is_good
}

fn remove_packs(world: &World) {
    for (name, _) in world.plain.list_packs().unwrap() {
        world.remove(&world.plain.layout().pack(name));
    }
}

/// Where an index, which may be damaged, says that an object lies: nothing is read or asked for
/// outside of what a pack can be. Offset, lengths, kind and encoding, then the pack.
pub fn location(mut bytes: &[u8]) -> bool {
    let (Some(offset), Some(stored), Some(plain), Some([kind, encoding])) = (
        world::take(&mut bytes),
        world::take(&mut bytes),
        world::take(&mut bytes),
        world::take::<2>(&mut bytes),
    ) else {
        return false;
    };
    let kinds = [ObjectKind::Chunk, ObjectKind::Leaf, ObjectKind::Node];
    let encodings = [afterimage::store::Encoding::Raw, afterimage::store::Encoding::Zstd];
    world::with(|world| {
        let pack = afterimage::units::PackName(world::sha256(bytes));
        let path = world.plain.layout().pack(pack);
        world.put(&path, bytes);
        let plain_len = u32::from_le_bytes(plain);
        let mut place = Location {
            pack,
            offset: u32::from_le_bytes(offset),
            entry: PackEntry {
                name: TreeName([1; 32]).into(),
                kind: kinds[usize::from(kind) % 3],
                encoding: encodings[usize::from(encoding) % 2],
                stored_len: u32::from_le_bytes(stored),
                plain_len,
            },
        };
        // The right name, so that what decodes is accepted.
        let at = place.offset as usize;
        let stored = bytes.get(at..at.saturating_add(place.entry.stored_len as usize));
        let mut content = vec![0; plain_len.min(1 << 20) as usize];
        let mut codec = Codec::new(1).unwrap();
        if stored.is_some_and(|stored| codec.decode(place.entry.encoding, stored, &mut content)) {
            let namer = world.plain.keys().namer();
            place.entry.name = match place.entry.kind {
                ObjectKind::Chunk => namer.chunk(&content).into(),
                _ => namer.tree(&content).into(),
            };
        }
        let index = MemoryIndex::default();
        index.set(place.entry.name, place);
        let mut reader = world.plain.reader(&index).unwrap();
        let read = reader.object_at(&place).map(<[u8]>::to_vec);
        world.remove(&path);
        if let Ok(read) = &read {
            assert_eq!(read.len(), plain_len as usize);
            assert_eq!(read, &content);
        }
        read.is_ok()
    })
}
