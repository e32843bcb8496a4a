//! Encoding of a journal's header and record headers; pure.

use super::{DATA_BYTES_MAX, DISKS_MAX, JournalDisk, JournalHeader, VERSION};
use crate::extent::Extent;
use crate::units::{DISK_BYTES_MAX, NAME_CHARS_MAX, PointId, ReplicaId};

const MAGIC: [u8; 8] = *b"AIJRNL\0\0";
/// Magic, version and length of the header: enough to know how much more to read.
pub(super) const PREFIX_BYTES: usize = 8 + 4 + 4;
const FIXED_BYTES: usize = PREFIX_BYTES + 16 + 32 + 32 + 2;
/// Longest header, in bytes.
pub(super) const HEADER_BYTES_MAX: usize = FIXED_BYTES + DISKS_MAX * (1 + NAME_CHARS_MAX + 16);
/// Length of a record without its data, in bytes.
pub(super) const RECORD_HEADER_BYTES: usize = 1 + 2 + 8 + 8;
/// Length of the digest at the end, in bytes.
pub(super) const FOOTER_BYTES: usize = 32;

const _: () = assert!(NAME_CHARS_MAX <= u8::MAX as usize, "a name's length is one byte");
const _: () = assert!(DISKS_MAX <= u16::MAX as usize, "a disk's index is two bytes");
const _: () = assert!(HEADER_BYTES_MAX < 64 * 1024);

/// Why bytes are not a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    Newer(u32),
    Damaged(&'static str),
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecordKind {
    Data,
    Zeros,
    End,
}

/// A record without its data. Of an end record `offset` counts records, `len` bytes of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub kind: RecordKind,
    pub disk: u16,
    pub offset: u64,
    pub len: u64,
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

pub(super) fn encode_header(header: &JournalHeader) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.extend(header.replica_id.0);
    rest.extend(header.from.0);
    rest.extend(header.to.0);
    rest.extend((header.disks.len() as u16).to_le_bytes());
    for disk in &header.disks {
        rest.push(disk.name.as_str().len() as u8);
        rest.extend(disk.name.as_str().as_bytes());
        rest.extend(disk.size_before_bytes.to_le_bytes());
        rest.extend(disk.size_bytes.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(PREFIX_BYTES + rest.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(((PREFIX_BYTES + rest.len()) as u32).to_le_bytes());
    bytes.extend(rest);
    bytes
}

/// Length of the whole header, from its first bytes.
pub(super) fn decode_prefix(prefix: [u8; PREFIX_BYTES]) -> Result<usize, HeaderFault> {
    const SHORT: HeaderFault = HeaderFault::Damaged("it has no header");
    let mut bytes = prefix.as_slice();
    if take::<8>(&mut bytes) != Some(MAGIC) {
        return Err(HeaderFault::Damaged("it does not begin as a journal does"));
    }
    let version = u32::from_le_bytes(take(&mut bytes).ok_or(SHORT)?);
    let len = u32::from_le_bytes(take(&mut bytes).ok_or(SHORT)?) as usize;
    match version {
        VERSION if (FIXED_BYTES..=HEADER_BYTES_MAX).contains(&len) => Ok(len),
        VERSION => Err(HeaderFault::Damaged("its header's length is impossible")),
        0 => Err(HeaderFault::Damaged("it has format 0, which never was")),
        newer => Err(HeaderFault::Newer(newer)),
    }
}

/// The header from all of its bytes, prefix included.
pub(super) fn decode_header(bytes: &[u8]) -> Result<JournalHeader, HeaderFault> {
    parse_header(bytes).ok_or(HeaderFault::Damaged("its header makes no sense"))
}

fn parse_header(mut bytes: &[u8]) -> Option<JournalHeader> {
    let bytes = &mut bytes;
    take::<PREFIX_BYTES>(bytes)?;
    let replica_id = ReplicaId(take(bytes)?);
    let from = PointId(take(bytes)?);
    let to = PointId(take(bytes)?);
    let count = u16::from_le_bytes(take(bytes)?);
    let mut disks = Vec::new();
    for _ in 0..count {
        let [len] = take::<1>(bytes)?;
        let (name, rest) = bytes.split_at_checked(usize::from(len))?;
        *bytes = rest;
        disks.push(JournalDisk {
            name: std::str::from_utf8(name).ok()?.parse().ok()?,
            size_before_bytes: u64::from_le_bytes(take(bytes)?),
            size_bytes: u64::from_le_bytes(take(bytes)?),
        });
    }
    let header = JournalHeader { replica_id, from, to, disks };
    (bytes.is_empty() && check_disks(&header.disks).is_ok()).then_some(header)
}

/// Whether a journal can have these disks, or why not.
pub(super) fn check_disks(disks: &[JournalDisk]) -> Result<(), String> {
    if disks.is_empty() || disks.len() > DISKS_MAX {
        return Err(format!("it has {} disks, 1 to {DISKS_MAX} are possible", disks.len()));
    }
    for (index, disk) in disks.iter().enumerate() {
        let larger = disk.size_bytes.max(disk.size_before_bytes);
        if larger > DISK_BYTES_MAX {
            return Err(format!("disk {} has {larger} bytes, too many", disk.name));
        }
        if disks.iter().take(index).any(|other| other.name == disk.name) {
            return Err(format!("disk {} is in it twice", disk.name));
        }
    }
    Ok(())
}

pub(super) fn encode_record(header: RecordHeader) -> [u8; RECORD_HEADER_BYTES] {
    let mut bytes = [0; RECORD_HEADER_BYTES];
    bytes[0] = match header.kind {
        RecordKind::Data => 1,
        RecordKind::Zeros => 2,
        RecordKind::End => 3,
    };
    bytes[1..3].copy_from_slice(&header.disk.to_le_bytes());
    bytes[3..11].copy_from_slice(&header.offset.to_le_bytes());
    bytes[11..].copy_from_slice(&header.len.to_le_bytes());
    bytes
}

pub(super) fn decode_record(mut bytes: &[u8]) -> Option<RecordHeader> {
    let kind = match take(&mut bytes)? {
        [1] => RecordKind::Data,
        [2] => RecordKind::Zeros,
        [3] => RecordKind::End,
        _ => return None,
    };
    Some(RecordHeader {
        kind,
        disk: u16::from_le_bytes(take(&mut bytes)?),
        offset: u64::from_le_bytes(take(&mut bytes)?),
        len: u64::from_le_bytes(take(&mut bytes)?),
    })
}

/// The range of a data or zeros record, or why it is not one of this journal's.
pub(super) fn check_range(
    disks: &[JournalDisk],
    disk: u16,
    offset: u64,
    len: u64,
) -> Result<Extent, String> {
    let Some(found) = disks.get(usize::from(disk)) else {
        return Err(format!("a record is for disk {disk}, there are {}", disks.len()));
    };
    match Extent::new(offset, len) {
        Some(extent) if !extent.is_empty() && extent.end() <= found.size_bytes => Ok(extent),
        _ => Err(format!(
            "a record of disk {} covers {len} bytes from {offset}, the disk has {}",
            found.name, found.size_bytes
        )),
    }
}

/// As [`check_range`], of a record that was read.
pub(super) fn check_record(disks: &[JournalDisk], record: RecordHeader) -> Result<Extent, String> {
    if record.kind == RecordKind::Data && record.len > DATA_BYTES_MAX as u64 {
        return Err(format!("a record has {} bytes of data, too many", record.len));
    }
    check_range(disks, record.disk, record.offset, record.len)
}
