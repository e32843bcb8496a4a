//! The journal of a replication, and the image that it is applied to.

use crate::CHUNK_BYTES;
use afterimage::destination::{
    JournalDisk, JournalHeader, JournalReader, JournalWriter, Target, apply,
};
use afterimage::extent::Extent;
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::testing::noise;
use afterimage::units::{MIB, Name, PointId, ReplicaId};
use criterion::{BatchSize, Criterion, Throughput};
use std::sync::Arc;

const JOURNAL_BYTES: usize = 8 * MIB as usize;

fn journal_header(size_bytes: u64) -> JournalHeader {
    let disk: Name = "root".parse().expect("a name");
    JournalHeader {
        replica_id: ReplicaId([1; 16]),
        from: PointId([1; 32]),
        to: PointId([2; 32]),
        disks: vec![JournalDisk { name: disk, size_before_bytes: size_bytes, size_bytes }],
    }
}

pub fn replaying(c: &mut Criterion) {
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
    let verified = || {
        let journal = JournalReader::open(fs.as_ref(), &path).expect("it opens");
        journal.verify(&expected).expect("it is whole")
    };
    group.bench_function("verify it", |b| b.iter(verified));
    let journal = verified();
    group.bench_function("apply it", |b| {
        b.iter(|| apply(&journal, &targets).expect("applied"));
    });
    group.finish();
}
