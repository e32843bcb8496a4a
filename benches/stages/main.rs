//! The stages of a backup and a replication, each on its own, beside what this machine can do at
//! most: compare ratios within one run, never absolute numbers of two runs.
//!
//! `cargo bench --bench stages` measures; `cargo bench --bench stages -- --test` runs each once.

mod replaying;
mod storing;
mod trees;

use afterimage::chunk::{CutParameters, Cutter, Namer, PieceKind, is_zero};
use afterimage::store::{Codec, Encoding};
use afterimage::testing::noise;
use afterimage::units::MIB;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use replaying::replaying;
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::time::Duration;
use storing::storing;
use trees::trees;

const REGION_BYTES: usize = 16 * MIB as usize;
const CHUNK_BYTES: u32 = 16 * 1024;

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
    let mut zstd = zstd::bulk::Compressor::new(1).expect("zstd begins");
    let mut room = vec![0; zstd::zstd_safe::compress_bound(CHUNK_BYTES as usize)];
    group.bench_function("compress", |b| {
        b.iter(|| {
            for chunk in data.chunks(CHUNK_BYTES as usize) {
                zstd.compress_to_buffer(black_box(chunk), &mut room).expect("there is room");
            }
        });
    });
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

fn config() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
}

criterion_group! {
    name = stages;
    config = config();
    targets = bounds, chunking, coding, storing, trees, replaying
}
criterion_main!(stages);
