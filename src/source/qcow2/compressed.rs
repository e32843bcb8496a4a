//! Compressed clusters.

use super::super::error::SourceError;
use super::super::file::SourceFile;
use super::header::{Compression, Header, damaged};
use super::map::CompressedCluster;
use std::io::{self, Read};

/// Largest zstd window: four times the largest cluster, so 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// The content of `cluster`: exactly one cluster's bytes.
pub(super) fn read(
    file: &SourceFile,
    header: &Header,
    cluster: CompressedCluster,
) -> Result<Vec<u8>, SourceError> {
    let CompressedCluster { disk_start, file_offset, bytes_max } = cluster;
    // The last sector of the file may be cut short; a stream that needs more fails to decode.
    let len = file.size_bytes().saturating_sub(file_offset).min(bytes_max);
    let mut stream = vec![0; len as usize];
    file.read_exact_at(&mut stream, file_offset)?;
    let mut content = vec![0; header.cluster_bytes() as usize];
    let decoded = match header.compression {
        Compression::Deflate => inflate(&stream, &mut content),
        Compression::Zstd => unzstd(&stream, &mut content),
    };
    decoded.map(|()| content).map_err(|e| {
        damaged(file, format!("the compressed cluster for byte {disk_start} of the disk: {e}"))
    })
}

fn inflate(stream: &[u8], content: &mut [u8]) -> io::Result<()> {
    // Raw deflate, without zlib's header and checksum.
    let mut decoder = flate2::Decompress::new(false);
    decoder.decompress(stream, content, flate2::FlushDecompress::Finish)?;
    if decoder.total_out() == content.len() as u64 {
        Ok(())
    } else {
        Err(io::Error::other("it is shorter than a cluster"))
    }
}

fn unzstd(stream: &[u8], content: &mut [u8]) -> io::Result<()> {
    // One frame; what follows in its last sector belongs to other clusters.
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?.single_frame();
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    decoder.read_exact(content)?;
    // Only the end of the frame proves its checksum, where it has one.
    match decoder.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("it is longer than a cluster")),
    }
}
