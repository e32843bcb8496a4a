//! What chunk size and compression cost and save, on the chunks of a real disk: the table by which
//! the defaults were chosen.
//!
//! `cargo bench --bench choices -- IMAGE[,IMAGE…] [MIB]` reads regions spread over all of each raw
//! image, 1024 MiB of them unless told otherwise, on one thread. Several images show what they share.
//! Without an image it makes a small one of noise and repetition, which only shows that it runs.

use afterimage::chunk::{CutParameters, Cutter, Namer, PieceKind, is_zero};
use afterimage::testing::noise;
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use zstd::zstd_safe::CParameter;

const REGION_BYTES: usize = 16 << 20;

/// How chunks are compressed.
struct Choice {
    name: &'static str,
    level: i32,
    parameters: &'static [CParameter],
}

const CHOICES: [Choice; 11] = [
    Choice { name: "level 1", level: 1, parameters: &[] },
    Choice { name: "level 2", level: 2, parameters: &[] },
    Choice { name: "level 3", level: 3, parameters: &[] },
    Choice { name: "level -1", level: -1, parameters: &[] },
    Choice { name: "level -3", level: -3, parameters: &[] },
    Choice { name: "1, hash 12", level: 1, parameters: &[CParameter::HashLog(12)] },
    Choice { name: "1, hash 13", level: 1, parameters: &[CParameter::HashLog(13)] },
    Choice { name: "1, hash 14", level: 1, parameters: &[CParameter::HashLog(14)] },
    Choice { name: "1, match 6", level: 1, parameters: &[CParameter::MinMatch(6)] },
    Choice {
        name: "1, hash 13, match 6",
        level: 1,
        parameters: &[CParameter::HashLog(13), CParameter::MinMatch(6)],
    },
    Choice {
        name: "1, hash 13, match 7",
        level: 1,
        parameters: &[CParameter::HashLog(13), CParameter::MinMatch(7)],
    },
];

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let (image, mib) = (words.next(), words.next());
    let regions = match image {
        Some(paths) => {
            let mib = mib.and_then(|mib| mib.parse().ok()).unwrap_or(1024);
            paths.split(',').flat_map(|path| read(path, mib)).collect()
        }
        None => vec![small()],
    };
    println!("{} regions of 16 MiB", regions.len());
    for average in [8192, 16_384, 32_768, 65_536] {
        let cut = CutParameters::with_average(average).expect("an average that is allowed");
        println!("\nan average of {average} bytes, only content decides");
        measure(&regions, CutParameters { block_bytes: None, ..cut }, &CHOICES[..1]);
        println!("an average of {average} bytes, chunks end at files' ends too");
        let choices = if average == 16_384 { &CHOICES[..] } else { &CHOICES[..1] };
        measure(&regions, cut, choices);
    }
}

fn small() -> Vec<u8> {
    let mut bytes = noise(1, REGION_BYTES);
    bytes.chunks_mut(512).step_by(2).for_each(|piece| piece.fill(7));
    bytes
}

/// Regions with data, evenly spread.
fn read(path: &str, mib: usize) -> Vec<Vec<u8>> {
    let file = File::open(path).expect("the image opens");
    let all = file.metadata().expect("it has a size").len() / REGION_BYTES as u64;
    let region = |index: u64| {
        let mut bytes = vec![0; REGION_BYTES];
        file.read_exact_at(&mut bytes, index * REGION_BYTES as u64).expect("it can be read");
        bytes
    };
    let step = (all * 16 / mib as u64).max(1);
    (0..all).step_by(step as usize).map(region).filter(|bytes| !is_zero(bytes)).collect()
}

fn measure(regions: &[Vec<u8>], cut: CutParameters, choices: &[Choice]) {
    let cutter = Cutter::new(cut, 0);
    let namer = Namer::plain();
    let (mut names, mut chunks) = (HashSet::new(), Vec::new());
    for region in regions {
        for piece in cutter.cut(region).iter().filter(|piece| piece.kind == PieceKind::Data) {
            let bytes = &region[piece.range()];
            if names.insert(namer.chunk(bytes)) {
                chunks.push(bytes);
            }
        }
    }
    let plain: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    let mean = plain / chunks.len().max(1);
    println!("{} new chunks of {mean} bytes, {plain} bytes", chunks.len());
    println!("{:22} {:>10} {:>10} {:>10} {:>12}", "", "MB/s", "decode", "both", "stored/plain");
    for choice in choices {
        let (stored, compress, decode) = run(choice, &chunks);
        let rate = |time: Duration| plain as f64 / 1e6 / time.as_secs_f64();
        println!(
            "{:22} {:10.0} {:10.0} {:10.0} {:12.4}",
            choice.name,
            rate(compress),
            rate(decode),
            rate(compress + decode),
            stored as f64 / plain as f64
        );
    }
}

/// Bytes stored, and the time to compress and to decode them all.
fn run(choice: &Choice, chunks: &[&[u8]]) -> (usize, Duration, Duration) {
    let mut compressor = zstd::bulk::Compressor::new(choice.level).expect("zstd begins");
    for parameter in choice.parameters {
        compressor.set_parameter(*parameter).expect("a parameter that zstd has");
    }
    let mut decompressor = zstd::bulk::Decompressor::new().expect("zstd begins");
    let mut buffer = vec![0; 1 << 20];
    let mut plain = vec![0; 1 << 20];
    let (mut stored, mut compress, mut decode) = (0, Duration::ZERO, Duration::ZERO);
    for chunk in chunks {
        let begin = Instant::now();
        let len = compressor.compress_to_buffer(chunk, &mut buffer[..]).expect("it compresses");
        compress += begin.elapsed();
        if len > chunk.len() - chunk.len() / 64 {
            stored += chunk.len();
            continue;
        }
        stored += len;
        let begin = Instant::now();
        let len = decompressor
            .decompress_to_buffer(&buffer[..len], &mut plain[..chunk.len()])
            .expect("it decodes");
        decode += begin.elapsed();
        assert_eq!(&plain[..len], *chunk);
    }
    (stored, compress, decode)
}
