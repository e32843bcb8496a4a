//! Packs, and the catalog that knows what is in them.

use crate::{CHUNK_BYTES, parameters};
use afterimage::catalog::Catalog;
use afterimage::fsio::RealFileSystem;
use afterimage::store::{
    Codec, InitOptions, ObjectIndex, PackRecord, PackSink, Repository, StoreError,
};
use afterimage::testing::noise;
use afterimage::units::{MIB, ObjectName, RunId};
use criterion::{BatchSize, Criterion, Throughput};

/// A repository with nothing in it, in a folder that goes with it.
pub fn repository() -> (tempfile::TempDir, Repository) {
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

pub fn storing(c: &mut Criterion) {
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
    group.bench_function("look up: contains", |b| {
        b.iter(|| catalog.contains(&names).expect("answers"))
    });
    group
        .bench_function("look up: locate", |b| b.iter(|| catalog.locate(&names).expect("answers")));
    group.finish();
}
