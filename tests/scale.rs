//! Ten thousand points with a million chunks. The only test of its process, because it looks at the
//! most memory that the process ever had.

mod common;

use afterimage::catalog::Catalog;
use afterimage::chunk::Namer;
use afterimage::fsio::RealFileSystem;
use afterimage::point::{DiskEntry, Leaf, Manifest, Span, TreeBuilder, commit_point};
use afterimage::store::{Codec, ObjectKind, PackWriter, Repository, StoreError};
use afterimage::units::{ObjectName, PointId, RegionIndex, RunId, Sequence, TreeName};
use common::{World, noise, small_cut};
use std::collections::HashSet;
use std::time::Instant;

const POINTS: u64 = 10_000;
const REGIONS: u64 = 1000;
const REGION_BYTES: u64 = 64 * 1024;
const CHUNK_BYTES: u32 = 128;
/// Chunks of the first point; each later one brings [`NEW_CHUNKS`].
const FIRST_CHUNKS: u64 = REGIONS * REGION_BYTES / CHUNK_BYTES as u64;
const NEW_CHUNKS: u64 = 49;

/// Makes points without disks to read: names, leaves and nodes as a backup would.
struct Maker<'a> {
    repository: &'a Repository,
    catalog: &'a Catalog,
    writer: PackWriter<'a>,
    namer: Namer,
    codec: Codec,
    known: HashSet<ObjectName>,
    chunks: u64,
    leaves: Vec<Leaf>,
    names: Vec<TreeName>,
}

impl<'a> Maker<'a> {
    fn new(repository: &'a Repository, catalog: &'a Catalog) -> Self {
        let writer = repository.writer(catalog, RunId::random().unwrap()).unwrap();
        let (namer, codec) = (repository.keys().namer(), Codec::new(1).unwrap());
        let (known, leaves, names) = Default::default();
        Self { repository, catalog, writer, namer, codec, known, chunks: 0, leaves, names }
    }

    fn chunk(&mut self) -> Span {
        let content = noise(self.chunks, CHUNK_BYTES as usize);
        let name = self.namer.chunk(&content);
        self.writer.put_chunk(name, &content, &mut self.codec).unwrap();
        self.chunks += 1;
        Span::Chunk { name, len: CHUNK_BYTES }
    }

    fn tree(&mut self, kind: ObjectKind, encoded: &[u8]) -> TreeName {
        let name = self.namer.tree(encoded);
        if self.known.insert(name.into()) {
            self.writer.put_tree(name, kind, encoded, &mut self.codec).unwrap();
        }
        name
    }

    fn first(&mut self) {
        for _ in 0..REGIONS {
            let spans = (0..FIRST_CHUNKS / REGIONS).map(|_| self.chunk()).collect();
            let leaf = Leaf { spans };
            let name = self.tree(ObjectKind::Leaf, &leaf.encode());
            self.names.push(name);
            self.leaves.push(leaf);
        }
    }

    /// Some chunks of one region become others.
    fn change(&mut self, number: u64) {
        let region = (number * 7919 % REGIONS) as usize;
        for index in 0..NEW_CHUNKS as usize {
            let at = (index * 10 + number as usize) % self.leaves[region].spans.len();
            self.leaves[region].spans[at] = self.chunk();
        }
        let encoded = self.leaves[region].encode();
        self.names[region] = self.tree(ObjectKind::Leaf, &encoded);
    }

    fn root(&mut self) -> Option<TreeName> {
        let mut builder = TreeBuilder::default();
        for (region, name) in self.names.clone().into_iter().enumerate() {
            builder.begin(RegionIndex(region as u64));
            for node in builder.end(RegionIndex(region as u64), Some(name)) {
                let name = self.tree(ObjectKind::Node, node.encoded());
                builder.stored(&node, name);
            }
        }
        builder
            .finish::<StoreError>(REGIONS, |encoded| Ok(self.tree(ObjectKind::Node, encoded)))
            .unwrap()
    }

    fn point(&mut self, like: &Manifest, number: u64) -> PointId {
        let disk = DiskEntry {
            root: self.root(),
            size_bytes: REGIONS * REGION_BYTES,
            ..like.disks[0].clone()
        };
        let sequence = Sequence(like.sequence.0 + number);
        let manifest = Manifest { disks: vec![disk], sequence, ..like.clone() };
        let point = commit_point(self.repository, self.writer.session(), manifest).unwrap();
        self.catalog.add_point(&point).unwrap();
        point.id
    }
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn a_million_chunks_in_ten_thousand_points_are_collected_in_little_memory() {
    let world = World::in_memory(&["root"], false);
    world.init_on(&RealFileSystem::shared(), small_cut()).unwrap();
    world.write_disk("root", &noise(0, 1000));
    let like = world.backup().unwrap().point.manifest;
    let (repository, began) = (world.repository(), Instant::now());
    let catalog = world.catalog(&repository);
    let mut maker = Maker::new(&repository, &catalog);
    maker.first();
    let mut points = Vec::new();
    for number in 1..=POINTS {
        maker.change(number);
        points.push(maker.point(&like, number));
    }
    maker.writer.flush().unwrap();
    assert!(maker.chunks > 1_000_000, "{}", maker.chunks);
    drop(maker);
    println!("made in {:.1} s, {} MiB", began.elapsed().as_secs_f64(), peak_mib());
    let began = Instant::now();
    let idle = world.gc().unwrap();
    assert_eq!((idle.points, idle.removed_packs), (POINTS + 1, 0), "{idle:?}");
    println!("nothing to collect: {:.1} s, {} MiB", began.elapsed().as_secs_f64(), peak_mib());
    // Only the last hundred stay.
    world.remove_points(&points[..points.len() - 100]);
    let began = Instant::now();
    let outcome = world.gc().unwrap();
    println!("collected: {:.1} s, {} MiB", began.elapsed().as_secs_f64(), peak_mib());
    println!("{outcome:?}");
    assert!(outcome.removed_packs > 0 && outcome.pending_packs == 0, "{outcome:?}");
    assert!(outcome.dead_bytes * 4 <= outcome.live_bytes + outcome.dead_bytes, "{outcome:?}");
    assert!(peak_mib() < 400, "{} MiB at most", peak_mib());
}
