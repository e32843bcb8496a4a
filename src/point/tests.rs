//! Trees of every shape, written to a repository and read back.

use super::node::root_level;
use super::*;
use crate::chunk::{CutParameters, Namer};
use crate::fsio::RealFileSystem;
use crate::store::{Codec, InitOptions, ObjectKind, PackWriter, Repository, StoreError};
use crate::testing::MemoryIndex;
use crate::units::{RegionIndex, RunId, TreeName};
use proptest::prelude::*;
use std::collections::BTreeMap;

const REGION_BYTES: u64 = 64 * 1024;
type Leaves = BTreeMap<u64, TreeName>;

fn repository(folder: &tempfile::TempDir) -> Repository {
    let cut = CutParameters {
        region_bytes: REGION_BYTES as u32,
        granule_bytes: 4096,
        chunk_bytes_min: 512,
        chunk_bytes_average: 1024,
        chunk_bytes_max: 4096,
        block_bytes: Some(4096),
    };
    let (fs, now) = (RealFileSystem::shared(), jiff::Timestamp::UNIX_EPOCH);
    let root = folder.path().join("repository");
    Repository::init(&fs, &root, &InitOptions { cut, secret: None, recovery_key: None, now })
        .unwrap();
    Repository::open(&fs, &root, None, 1).unwrap()
}

/// Builds a tree as workers do: regions begin in order and end, `window` of them at a time, in
/// the reverse order.
fn build(writer: &PackWriter<'_>, leaves: &Leaves, regions: u64, window: usize) -> TreeRef {
    let (namer, mut codec) = (Namer::plain(), Codec::new(1).unwrap());
    let mut store = |encoded: &[u8]| -> Result<TreeName, StoreError> {
        let name = namer.tree(encoded);
        writer.put_tree(name, ObjectKind::Node, encoded, &mut codec)?;
        Ok(name)
    };
    let mut builder = TreeBuilder::default();
    for batch in leaves.iter().collect::<Vec<_>>().chunks(window) {
        batch.iter().for_each(|(region, _)| builder.begin(RegionIndex(**region)));
        for (region, leaf) in batch.iter().rev() {
            for node in builder.end(RegionIndex(**region), Some(**leaf)) {
                let name = store(node.encoded()).unwrap();
                builder.stored(&node, name);
            }
        }
    }
    let root = builder.finish(regions, store).unwrap();
    TreeRef { root, size_bytes: (regions * REGION_BYTES).saturating_sub(regions % 3) }
}

fn regions() -> impl Strategy<Value = u64> {
    prop_oneof![
        0_u64..4,
        250_u64..260,
        65_530_u64..65_540,
        Just(1 << 24),
        Just((1 << 24) + 1),
        Just(1 << 40),
    ]
}

/// A few leaves near the edges of nodes, and anywhere.
fn leaves() -> impl Strategy<Value = Vec<(u64, u8)>> {
    let region = prop_oneof![
        0_u64..5,
        253_u64..260,
        65_533_u64..65_540,
        (1_u64 << 24) - 2..(1 << 24) + 2,
        0_u64..1 << 40,
    ];
    prop::collection::vec((region, 1_u8..4), 0..40)
}

fn below(leaves: &[(u64, u8)], regions: u64) -> Leaves {
    let inside = leaves.iter().filter(|(region, _)| *region < regions);
    inside.map(|(region, byte)| (*region, TreeName([*byte; 32]))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn two_trees_differ_exactly_in_the_regions_whose_leaves_differ(
        old in (leaves(), regions()),
        new in (leaves(), regions()),
        shares in any::<bool>(),
        window in 1_usize..9,
    ) {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let repository = repository(&folder);
        let index = MemoryIndex::default();
        let writer = repository.writer(&index, RunId([1; 16])).unwrap();
        let old_leaves = below(&old.0, old.1);
        let mut new_leaves = below(&new.0, new.1);
        if shares {
            let common = old_leaves.iter().filter(|(region, _)| **region < new.1);
            new_leaves.extend(common.map(|(region, leaf)| (*region, *leaf)));
        }
        let old_tree = build(&writer, &old_leaves, old.1, window);
        let new_tree = build(&writer, &new_leaves, new.1, window);
        writer.flush().unwrap();

        let mut objects = repository.reader(&index).unwrap();
        let mut reader = TreeReader::new(&mut objects);
        let mut found = Vec::new();
        reader
            .differing::<StoreError>(&old_tree, &new_tree, &mut |change| {
                found.push((change.region.0, change.old, change.new));
                Ok(())
            })
            .unwrap();
        let mut all: Vec<u64> = old_leaves.keys().chain(new_leaves.keys()).copied().collect();
        all.sort_unstable();
        all.dedup();
        let leaf = |leaves: &Leaves, region| leaves.get(&region).copied();
        let expected: Vec<_> = all
            .iter()
            .filter(|region| **region < new.1)
            .map(|region| (*region, leaf(&old_leaves, *region), leaf(&new_leaves, *region)))
            .filter(|(_, old, new)| old != new)
            .collect();
        prop_assert_eq!(found, expected);
        for region in all {
            let name = reader.leaf_name(&new_tree, RegionIndex(region)).unwrap();
            prop_assert_eq!(name, leaf(&new_leaves, region));
        }
        prop_assert_eq!(new_tree.root.is_some(), !new_leaves.is_empty());
    }
}

#[test]
fn what_does_not_change_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let repository = repository(&folder);
    let index = MemoryIndex::default();
    let writer = repository.writer(&index, RunId([1; 16])).unwrap();
    let leaves: Leaves = (0..1000).map(|region| (region, TreeName([region as u8; 32]))).collect();
    let tree = build(&writer, &leaves, 1000, 1);
    assert_eq!(root_level(1000), 2);
    let nobody = MemoryIndex::default();
    let mut objects = repository.reader(&nobody).unwrap();
    let nothing = TreeReader::new(&mut objects)
        .differing::<StoreError>(&tree, &tree, &mut |_| panic!("a region differs from itself"));
    assert!(nothing.is_ok(), "it was read: {nothing:?}");
}
