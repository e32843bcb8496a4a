//! The stages of a backup and a replication, each on its own, beside what this machine can do at
//! most: compare ratios within one run, never absolute numbers of two runs.
//!
//! `cargo bench --bench stages` measures; `cargo bench --bench stages -- --test` runs each once.

use afterimage::catalog::Catalog;
use afterimage::chunk::{CutParameters, Cutter, Namer, PieceKind, is_zero};
use afterimage::destination::{
    JournalDisk, JournalHeader, JournalReader, JournalWriter, Target, apply,
};
use afterimage::extent::Extent;
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::store::{
    Codec, Encoding, InitOptions, ObjectIndex, PackRecord, PackSink, Repository, StoreError,
};
use afterimage::testing::noise;
use afterimage::units::{MIB, Name, ObjectName, PointId, ReplicaId, RunId};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

const REGION_BYTES: usize = 16 * MIB as usize;
const CHUNK_BYTES: u32 = 16 * 1024;
const JOURNAL_BYTES: usize = 8 * MIB as usize;

/// A region that compresses about as well as system files do: half noise, half repetition.
fn region() -> Vec<u8> {
    let mut bytes = noise(1, REGION_BYTES);
    for (index, piece) in bytes.chunks_mut(512).enumerate() {
        if index % 2 == 0 {
            piece.fill((index % 251) as u8 + 1);
        }
    }
    bytes
}

fn parameters() -> CutParameters {
    CutParameters::with_average(CHUNK_BYTES).expect("an average that is allowed")
}

/// What the machine does at most.
fn bounds(c: &mut Criterion) {
    let data = region();
    let mut group = c.benchmark_group("bound");
    group.throughput(Throughput::Bytes(data.len() as u64));
    let mut copy = vec![0; data.len()];
    group.bench_function("memcpy", |b| b.iter(|| copy.copy_from_slice(black_box(&data))));
    group.bench_function("sha256", |b| b.iter(|| Sha256::digest(black_box(&data))));
    group.finish();
}

fn chunking(c: &mut Criterion) {
    let data = region();
    let zeros = vec![0; REGION_BYTES];
    let cutter = Cutter::new(parameters(), 0);
    let pieces = cutter.cut(&data);
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("zeros", |b| b.iter(|| is_zero(black_box(&zeros))));
    group.bench_function("cut", |b| b.iter(|| cutter.cut(black_box(&data))));
    for (name, namer) in
        [("name sha256", Namer::plain()), ("name hmac-sha256", Namer::keyed(&[7; 32]))]
    {
        group.bench_function(name, |b| {
            b.iter(|| {
                for piece in pieces.iter().filter(|piece| piece.kind == PieceKind::Data) {
                    let start = piece.start as usize;
                    black_box(namer.chunk(&data[start..start + piece.len as usize]));
                }
            });
        });
    }
    group.finish();
}

fn coding(c: &mut Criterion) {
    let data = region();
    let chunks: Vec<&[u8]> = data[..4 * MIB as usize].chunks(CHUNK_BYTES as usize).collect();
    let mut codec = Codec::new(1).expect("zstd begins");
    let encoded: Vec<(Encoding, Vec<u8>)> = chunks
        .iter()
        .map(|chunk| {
            let encoded = codec.encode(chunk, |_| true).expect("memory is sound");
            (encoded.encoding, encoded.bytes.to_vec())
        })
        .collect();
    let mut group = c.benchmark_group("codec");
    group.throughput(Throughput::Bytes(4 * MIB));
    group.bench_function("compress and decode again", |b| {
        b.iter(|| {
            for chunk in &chunks {
                let encoded = codec.encode(chunk, |restored| restored.len() == chunk.len());
                black_box(encoded.expect("memory is sound").bytes.len());
            }
        });
    });
    let mut plain = vec![0; CHUNK_BYTES as usize];
    group.bench_function("decode", |b| {
        b.iter(|| {
            for (encoding, bytes) in &encoded {
                assert!(codec.decode(*encoding, bytes, &mut plain));
            }
        });
    });
    group.finish();
}

/// A repository with nothing in it, in a folder that goes with it.
fn repository() -> (tempfile::TempDir, Repository) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fs = RealFileSystem::shared();
    let options = InitOptions {
        cut: parameters(),
        secret: None,
        recovery_key: None,
        now: jiff::Timestamp::UNIX_EPOCH,
    };
    let root = folder.path().join("repository");
    Repository::init(&fs, &root, &options).expect("a new repository");
    let repository = Repository::open(&fs, &root, None, 1).expect("it opens");
    (folder, repository)
}

struct Forget;

impl PackSink for Forget {
    fn pack_written(&self, _: &PackRecord) -> Result<(), StoreError> {
        Ok(())
    }
}

/// Names, compresses, writes and syncs 8 MiB of new chunks; returns how many.
fn write_pack(repository: &Repository, sink: &dyn PackSink, content: &[u8]) -> Vec<ObjectName> {
    let run = RunId::random().expect("random numbers");
    let writer = repository.writer(sink, run).expect("a writer");
    let namer = repository.keys().namer();
    let mut codec = Codec::new(1).expect("zstd begins");
    let mut names = Vec::new();
    for chunk in content.chunks(CHUNK_BYTES as usize) {
        let name = namer.chunk(chunk);
        writer.put_chunk(name, chunk, &mut codec).expect("a chunk is stored");
        names.push(name.into());
    }
    writer.flush().expect("the pack is durable");
    names
}

fn storing(c: &mut Criterion) {
    let (_folder, repository) = repository();
    let mut group = c.benchmark_group("store");
    group.sample_size(10).throughput(Throughput::Bytes(8 * MIB));
    let mut seed = 100;
    group.bench_function("write a pack of 8 MiB", |b| {
        b.iter_batched(
            || {
                seed += 1;
                noise(seed, 8 * MIB as usize)
            },
            |content| write_pack(&repository, &Forget, &content),
            BatchSize::PerIteration,
        );
    });
    group.finish();

    let state = tempfile::tempdir().expect("a temporary folder");
    let catalog = Catalog::open(state.path(), repository.header().id).expect("a catalog");
    let names = write_pack(&repository, &catalog, &noise(99, 32 * MIB as usize));
    let mut group = c.benchmark_group("catalog");
    group.throughput(Throughput::Elements(names.len() as u64));
    group.bench_function("contains", |b| b.iter(|| catalog.contains(&names).expect("answers")));
    group.bench_function("locate", |b| b.iter(|| catalog.locate(&names).expect("answers")));
    group.finish();
}

fn journal_header(size_bytes: u64) -> JournalHeader {
    let disk: Name = "root".parse().expect("a name");
    JournalHeader {
        replica_id: ReplicaId([1; 16]),
        from: PointId([1; 32]),
        to: PointId([2; 32]),
        disks: vec![JournalDisk { name: disk, size_before_bytes: size_bytes, size_bytes }],
    }
}

fn replaying(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fs: Arc<dyn FileSystem> = RealFileSystem::shared();
    let size_bytes = 4 * JOURNAL_BYTES as u64;
    let data = noise(7, JOURNAL_BYTES);
    let path = folder.path().join("journal");
    // Every second chunk's worth of the disk changes, and a hole is made behind each.
    let stage = || {
        let mut journal =
            JournalWriter::create(&fs, &path, journal_header(size_bytes)).expect("a journal");
        for (index, chunk) in data.chunks(CHUNK_BYTES as usize).enumerate() {
            let at = index as u64 * 2 * u64::from(CHUNK_BYTES);
            journal.data(0, at, chunk).expect("a record");
            let end = at + chunk.len() as u64;
            journal.zeros(0, Extent::between(end, end + 4096)).expect("a record");
        }
        journal.finish().expect("the journal is durable")
    };
    let mut group = c.benchmark_group("replay");
    group.sample_size(10).throughput(Throughput::Bytes(JOURNAL_BYTES as u64));
    group.bench_function("stage a journal of 8 MiB", |b| {
        b.iter_batched(|| std::fs::remove_file(&path), |_| stage(), BatchSize::PerIteration);
    });
    let _ = std::fs::remove_file(&path);
    let expected = stage();
    let target = Target::create(fs.as_ref(), &folder.path().join("disk.raw")).expect("an image");
    target.resize(size_bytes).expect("room");
    let targets = [target];
    group.bench_function("verify and apply it", |b| {
        b.iter(|| {
            let journal = JournalReader::open(fs.as_ref(), &path).expect("it opens");
            apply(&journal.verify(&expected).expect("it is whole"), &targets).expect("applied")
        });
    });
    group.finish();
}

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = stages;
    config = config();
    targets = bounds, chunking, coding, storing, replaying
}
criterion_main!(stages);
