//! Dirty bitmaps that QEMU stored in an image when it closed it.
//!
//! Source of the layout: QEMU's `docs/interop/qcow2.rst`, "Bitmaps extension". All numbers are
//! big-endian. Invariant: a bitmap of which anything is in doubt does not count.

use super::chain::Qcow2Layer;
use super::header::BitmapDirectory;
use crate::extent::{Extent, push_joined};
use crate::source::file::SourceFile;
use crate::units::MIB;

/// Largest directory that is read.
const DIRECTORY_BYTES_MAX: u64 = 16 * MIB;
/// Most extents that are kept, to bound memory.
const EXTENTS_MAX: usize = 4 << 20;
/// Length of an entry of the directory before what varies.
const ENTRY_BYTES: usize = 24;
/// Entries of a table that are read at once.
const PART_ENTRIES: u64 = 8192;

const FLAG_IN_USE: u32 = 1;
const FLAG_AUTO: u32 = 1 << 1;
const FLAG_EXTRA_COMPATIBLE: u32 = 1 << 2;
const TYPE_DIRTY: u8 = 1;
const TABLE_ALL_ONES: u64 = 1;
const TABLE_OFFSET: u64 = 0x00ff_ffff_ffff_fe00;

/// What a stored bitmap says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredBitmap {
    /// Bytes that one bit stands for.
    pub granularity_bytes: u64,
    /// Where the disk was written to since the bitmap began: sorted, disjoint, within the disk.
    pub extents: Vec<Extent>,
}

/// The bitmap `name` of an image.
///
/// # Errors
/// Why it does not count, in words.
pub(super) fn read(layer: &Qcow2Layer, name: &str) -> Result<StoredBitmap, String> {
    let Some(directory) = &layer.header.bitmaps else {
        return Err(
            "the image has no bitmaps, or was written to by a program that knows none".to_owned()
        );
    };
    let entries = entries(&layer.file, directory)?;
    let mut found = entries.iter().filter(|entry| entry.name == name.as_bytes());
    let (Some(entry), None) = (found.next(), found.next()) else {
        return Err(format!("its bitmap {name} is gone"));
    };
    if entry.flags & FLAG_IN_USE != 0 {
        return Err(format!(
            "its bitmap {name} is inconsistent: the machine was cut off before it was stored"
        ));
    }
    if entry.flags & FLAG_AUTO == 0 {
        return Err(format!("its bitmap {name} was disabled by somebody else"));
    }
    let is_known = entry.flags & !(FLAG_AUTO | FLAG_EXTRA_COMPATIBLE) == 0
        && (!entry.has_extra || entry.flags & FLAG_EXTRA_COMPATIBLE != 0)
        && entry.kind == TYPE_DIRTY
        && (9..=31).contains(&entry.granularity_bits);
    if !is_known {
        return Err(format!("its bitmap {name} is of a kind that is not known"));
    }
    let granularity_bytes = 1 << entry.granularity_bits;
    let extents = Table { layer, entry, granularity_bytes }.extents()?;
    Ok(StoredBitmap { granularity_bytes, extents })
}

/// An entry of the directory.
struct Entry {
    table_offset: u64,
    table_entries: u32,
    flags: u32,
    kind: u8,
    granularity_bits: u8,
    has_extra: bool,
    name: Vec<u8>,
}

fn entries(file: &SourceFile, directory: &BitmapDirectory) -> Result<Vec<Entry>, String> {
    let BitmapDirectory { offset, len_bytes, count } = *directory;
    let end = offset.checked_add(len_bytes);
    if len_bytes > DIRECTORY_BYTES_MAX || end.is_none_or(|end| end > file.size_bytes()) {
        return Err("the list of the image's bitmaps does not lie in its file".to_owned());
    }
    let mut bytes = vec![0; len_bytes as usize];
    file.read_exact_at(&mut bytes, offset).map_err(|error| error.to_string())?;
    let mut entries = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (entry, after) =
            entry(rest).ok_or("the list of the image's bitmaps contradicts itself")?;
        entries.push(entry);
        rest = after;
    }
    if entries.len() as u64 == u64::from(count) {
        Ok(entries)
    } else {
        Err(format!("the image has {} bitmaps, its header says {count}", entries.len()))
    }
}

/// The first entry, and what follows it.
fn entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (fixed, varying) = bytes.split_at_checked(ENTRY_BYTES)?;
    let u32_at = |at: usize| Some(u32::from_be_bytes(*fixed.get(at..)?.first_chunk()?));
    let name_bytes = usize::from(u16::from_be_bytes(*fixed.get(18..)?.first_chunk()?));
    let extra_bytes = u32_at(20)? as usize;
    let name_end = extra_bytes.checked_add(name_bytes)?;
    let name = varying.get(extra_bytes..name_end)?.to_vec();
    // Entries begin on multiples of eight, of which the fixed part is three.
    let rest = varying.get(name_end.checked_next_multiple_of(8)?..)?;
    let entry = Entry {
        table_offset: u64::from_be_bytes(*fixed.first_chunk()?),
        table_entries: u32_at(8)?,
        flags: u32_at(12)?,
        kind: *fixed.get(16)?,
        granularity_bits: *fixed.get(17)?,
        has_extra: extra_bytes > 0,
        name,
    };
    Some((entry, rest))
}

/// The table of a bitmap: where the clusters of its bits lie.
struct Table<'a> {
    layer: &'a Qcow2Layer,
    entry: &'a Entry,
    granularity_bytes: u64,
}

impl Table<'_> {
    fn extents(&self) -> Result<Vec<Extent>, String> {
        let (header, file) = (&self.layer.header, &self.layer.file);
        let entries = u64::from(self.entry.table_entries);
        let needed = header.size_bytes.div_ceil(self.covered_bytes());
        let offset = self.entry.table_offset;
        let end = offset.checked_add(entries * 8);
        let lies_in_file = end.is_some_and(|end| end <= file.size_bytes());
        if entries != needed || !lies_in_file {
            return Err("the table of a bitmap does not fit the disk".to_owned());
        }
        let mut list = Vec::new();
        for first in (0..entries).step_by(PART_ENTRIES as usize) {
            let count = PART_ENTRIES.min(entries - first);
            let mut part = vec![0; count as usize * 8];
            let at = offset + first * 8;
            file.read_exact_at(&mut part, at).map_err(|error| error.to_string())?;
            for (number, entry) in (first..).zip(part.as_chunks::<8>().0) {
                self.cluster(number, u64::from_be_bytes(*entry), &mut list)?;
            }
        }
        Ok(list)
    }

    /// Bytes of the disk that one cluster of bits covers: at most 2^55.
    fn covered_bytes(&self) -> u64 {
        self.layer.header.cluster_bytes() * 8 * self.granularity_bytes
    }

    fn cluster(&self, number: u64, entry: u64, list: &mut Vec<Extent>) -> Result<(), String> {
        let (header, file) = (&self.layer.header, &self.layer.file);
        let start = number * self.covered_bytes();
        let offset = entry & TABLE_OFFSET;
        match (offset, entry & !TABLE_OFFSET) {
            (0, 0) => return Ok(()),
            (0, TABLE_ALL_ONES) => {
                let end = start.saturating_add(self.covered_bytes()).min(header.size_bytes);
                push_joined(list, Extent::between(start, end));
                return Ok(());
            }
            (_, 0) => {}
            _ => return Err("the table of a bitmap has bits that are not known".to_owned()),
        }
        let end = offset.saturating_add(header.cluster_bytes());
        if end > file.size_bytes() || !offset.is_multiple_of(header.cluster_bytes()) {
            return Err("a part of a bitmap does not lie in the image's file".to_owned());
        }
        let mut bits = vec![0; header.cluster_bytes() as usize];
        file.read_exact_at(&mut bits, offset).map_err(|error| error.to_string())?;
        for (byte, bits) in (0_u64..).zip(bits).filter(|(_, bits)| *bits != 0) {
            for bit in (0..8).filter(|bit| bits & (1 << bit) != 0) {
                let from = start.saturating_add((byte * 8 + bit) * self.granularity_bytes);
                let to = from.saturating_add(self.granularity_bytes).min(header.size_bytes);
                // Bits past the end of the disk say nothing.
                push_joined(list, Extent::between(from, to));
            }
            if list.len() > EXTENTS_MAX {
                return Err("it changed in too many places".to_owned());
            }
        }
        Ok(())
    }
}
