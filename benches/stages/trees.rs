//! Two trees, and what differs between them: what a replication does first.

use crate::storing::repository;
use crate::{CHUNK_BYTES, REGION_BYTES};
use afterimage::chunk::Namer;
use afterimage::point::{Leaf, Span, TreeBuilder, TreeRef, diff_spans, differing_leaves};
use afterimage::store::{Codec, ObjectKind, PackWriter, StoreError};
use afterimage::testing::MemoryIndex;
use afterimage::units::{ChunkName, RegionIndex, RunId, TreeName};
use criterion::{Criterion, Throughput};
use std::hint::black_box;

/// A disk of 8 GiB.
const REGIONS: u64 = 512;
/// One region of so many differs, in one chunk of so many.
const ONE_IN: u64 = 16;

/// A region full of chunks, of which some belong to a version.
fn leaf(region: u64, version: u8) -> Leaf {
    let spans = (0..REGION_BYTES as u64 / u64::from(CHUNK_BYTES)).map(|chunk| {
        let mut name = [0; 32];
        name[..8].copy_from_slice(&region.to_le_bytes());
        name[8..16].copy_from_slice(&chunk.to_le_bytes());
        if chunk % ONE_IN == 0 {
            name[31] = version;
        }
        Span::Chunk { name: ChunkName(name), len: CHUNK_BYTES }
    });
    Leaf { spans: spans.collect() }
}

fn build(writer: &PackWriter<'_>, version: u8) -> TreeRef {
    let (namer, mut codec) = (Namer::plain(), Codec::new(1).expect("zstd begins"));
    let mut store = |kind, encoded: &[u8]| -> Result<TreeName, StoreError> {
        let name = namer.tree(encoded);
        writer.put_tree(name, kind, encoded, &mut codec)?;
        Ok(name)
    };
    let mut builder = TreeBuilder::default();
    for region in 0..REGIONS {
        builder.begin(RegionIndex(region));
        let version = if region % ONE_IN == 0 { version } else { 0 };
        let leaf = leaf(region, version).encode();
        let name = store(ObjectKind::Leaf, &leaf).expect("a leaf is stored");
        for node in builder.end(RegionIndex(region), Some(name)) {
            let name = store(ObjectKind::Node, node.encoded()).expect("a node is stored");
            builder.stored(&node, name);
        }
    }
    let root = builder.finish(REGIONS, |encoded| store(ObjectKind::Node, encoded));
    TreeRef { root: root.expect("a root"), size_bytes: REGIONS * REGION_BYTES as u64 }
}

pub fn trees(c: &mut Criterion) {
    let mut group = c.benchmark_group("diff");
    let (old, new) = (leaf(0, 1), leaf(0, 2));
    group.throughput(Throughput::Elements(old.spans.len() as u64));
    group.bench_function("spans of a region", |b| {
        b.iter(|| diff_spans(black_box(Some(&old)), black_box(Some(&new)), REGION_BYTES as u32));
    });

    let (_folder, repository) = repository();
    let index = MemoryIndex::default();
    let run = RunId::random().expect("random numbers");
    let writer = repository.writer(&index, run).expect("a writer");
    let (old, new) = (build(&writer, 1), build(&writer, 2));
    writer.flush().expect("the trees are durable");
    group.throughput(Throughput::Elements(REGIONS / ONE_IN));
    group.bench_function("leaves of a disk of 8 GiB", |b| {
        b.iter(|| {
            let mut differing = 0;
            differing_leaves::<StoreError>(&repository, &index, &old, &new, &mut |_| {
                differing += 1;
                Ok(())
            })
            .expect("the trees are whole");
            assert_eq!(differing, REGIONS / ONE_IN);
        });
    });
    group.finish();
}
