//! The difference between two states of one disk, which can be applied forwards and backwards, so
//! that the disk stays one file that is changed in place, as the disk of a machine is.

use anyhow::{Context, Result, ensure};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What file systems allocate, and what is compared.
pub const BLOCK_BYTES: usize = 4096;
/// How much is read at once.
const READ_BYTES: usize = 4 << 20;

/// Offset and length, in bytes.
pub type Range = (u64, u64);

/// Where two states differ, sorted, and the content of both there, one range after the other.
#[derive(Debug)]
pub struct Patch {
    /// The ranges.
    pub extents: Vec<Range>,
    before: PathBuf,
    after: PathBuf,
}

/// Which way a patch is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the later state.
    Forwards,
    /// To the earlier state.
    Backwards,
}

impl Patch {
    fn at(folder: &Path, name: &str, extents: Vec<Range>) -> Self {
        let path = |what: &str| folder.join(format!("{name}.{what}"));
        Self { extents, before: path("before"), after: path("after") }
    }

    /// Reads what [`Patch::keep`] wrote.
    pub fn open(folder: &Path, name: &str) -> Result<Self> {
        let text = std::fs::read(folder.join(format!("{name}.extents")))?;
        Ok(Self::at(folder, name, serde_json::from_slice(&text)?))
    }

    /// Keeps both contents of `extents`; the list comes last, so that it stands for the whole.
    pub fn keep(
        folder: &Path,
        name: &str,
        extents: Vec<Range>,
        mut content: impl FnMut(Range) -> Result<(Vec<u8>, Vec<u8>)>,
    ) -> Result<Self> {
        use std::io::Write;
        let patch = Self::at(folder, name, extents);
        let (mut before, mut after) = (create(&patch.before)?, create(&patch.after)?);
        for extent in &patch.extents {
            let (old, new) = content(*extent)?;
            before.write_all(&old)?;
            after.write_all(&new)?;
        }
        before.flush()?;
        after.flush()?;
        let list = serde_json::to_vec(&patch.extents)?;
        std::fs::write(folder.join(format!("{name}.extents")), list)?;
        Ok(patch)
    }

    /// How much differs.
    pub fn bytes(&self) -> u64 {
        self.extents.iter().map(|(_, len)| len).sum()
    }

    /// Brings `disk` to one of the two states. Blocks of zeros become holes.
    pub fn apply(&self, disk: &File, way: Way) -> Result<()> {
        self.each(way, |offset, bytes| write_sparse(disk, offset, bytes))
    }

    /// Brings `disk` to the later state with nothing but writes: what any replication has to do.
    pub fn write_plainly(&self, disk: &File) -> Result<()> {
        self.each(Way::Forwards, |offset, bytes| Ok(disk.write_all_at(bytes, offset)?))
    }

    fn each(&self, way: Way, mut write: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let path = if way == Way::Forwards { &self.after } else { &self.before };
        let content = File::open(path).with_context(|| path.display().to_string())?;
        let (mut at, mut bytes) = (0, vec![0; READ_BYTES]);
        for (offset, len) in &self.extents {
            let mut done = 0;
            while done < *len {
                let piece = &mut bytes[..(*len - done).min(READ_BYTES as u64) as usize];
                content.read_exact_at(piece, at)?;
                write(offset + done, piece)?;
                at += piece.len() as u64;
                done += piece.len() as u64;
            }
        }
        Ok(())
    }
}

fn create(path: &Path) -> Result<std::io::BufWriter<File>> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    Ok(std::io::BufWriter::with_capacity(1 << 20, file))
}

fn write_sparse(disk: &File, offset: u64, bytes: &[u8]) -> Result<()> {
    let mut at = offset;
    for run in bytes.chunks(BLOCK_BYTES) {
        if afterimage::chunk::is_zero(run) {
            let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            fallocate(disk, hole, at, run.len() as u64)?;
        } else {
            disk.write_all_at(run, at)?;
        }
        at += run.len() as u64;
    }
    Ok(())
}

/// Calls `each` with the offset and content of whatever is not a hole of the file, in order, at
/// most [`READ_BYTES`] at once.
pub fn each_piece(disk: &File, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    let size = disk.metadata()?.len();
    let mut bytes = vec![0; READ_BYTES];
    let mut at = 0;
    while at < size {
        let Ok(start) = seek(disk, SeekFrom::Data(at)) else { break };
        let end = seek(disk, SeekFrom::Hole(start))?;
        at = start;
        while at < end {
            // Pieces end at their own multiples, so that blocks are never split.
            let limit = (at / READ_BYTES as u64 + 1) * READ_BYTES as u64;
            let piece = &mut bytes[..(end.min(limit) - at) as usize];
            disk.read_exact_at(piece, at)?;
            each(at, piece)?;
            at += piece.len() as u64;
        }
    }
    Ok(())
}

/// The ranges in which two files of one size differ, in whole blocks.
pub fn differences(one: &Path, other: &Path) -> Result<Vec<Range>> {
    let (one, other) = (File::open(one)?, File::open(other)?);
    let size = one.metadata()?.len();
    ensure!(size == other.metadata()?.len(), "the sizes differ");
    let (mut left, mut right) = (vec![0; READ_BYTES], vec![0; READ_BYTES]);
    let mut found: Vec<Range> = Vec::new();
    let mut at = 0;
    while at < size {
        let len = (size - at).min(READ_BYTES as u64) as usize;
        one.read_exact_at(&mut left[..len], at)?;
        other.read_exact_at(&mut right[..len], at)?;
        if left[..len] != right[..len] {
            let blocks = left[..len].chunks(BLOCK_BYTES).zip(right[..len].chunks(BLOCK_BYTES));
            for (index, _) in blocks.enumerate().filter(|(_, (a, b))| a != b) {
                let start = at + (index * BLOCK_BYTES) as u64;
                push(&mut found, (start, (BLOCK_BYTES as u64).min(size - start)));
            }
        }
        at += len as u64;
    }
    Ok(found)
}

/// Appends a range to a sorted list, joining it with the last one where they touch.
pub fn push(list: &mut Vec<Range>, (start, len): Range) {
    match list.last_mut() {
        Some(last) if last.0 + last.1 == start => last.1 += len,
        _ => list.push((start, len)),
    }
}

/// Fails unless two files are the same, byte for byte.
pub fn same(found: &Path, expected: &Path) -> Result<()> {
    let differing = differences(found, expected)
        .with_context(|| format!("{} against {}", found.display(), expected.display()))?;
    let first = differing.first().map_or(0, |(start, _)| *start);
    ensure!(
        differing.is_empty(),
        "{} is not {}: {} ranges differ, the first at {first}",
        found.display(),
        expected.display(),
        differing.len()
    );
    Ok(())
}
