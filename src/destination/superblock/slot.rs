//! Encoding of one slot; pure.
//!
//! ```text
//! 0   magic 8          "AIREPSB" and a zero byte
//! 8   version u32      little-endian, as all numbers
//! 12  payload length u32
//! 16  generation u64   even in the first slot, odd in the second
//! 24  SHA-256          of the header, with zeros here, and the payload
//! 56  payload          JSON
//! ```
//!
//! Invariant: this frame stays in all later formats, so that every program can tell a newer
//! superblock from a damaged one.

use super::ReplicaRecord;
use crate::units::{Breakage, is_broken};
use sha2::{Digest, Sha256};

/// Of a replica that is fed from backups. A program that knows only this one reads it.
const VERSION_BACKUP: u32 = 1;
/// Newest format version that is read. It is written of a replica that is fed straight from its
/// machine.
pub(super) const VERSION: u32 = 2;
/// Length of a slot in bytes: more than one write of any medium.
pub(super) const SLOT_BYTES: usize = 64 * 1024;
/// What is read of a slot at first, in bytes: the record of some disks fits in it.
pub(super) const FIRST_READ_BYTES: usize = 4096;
/// Length of the file in bytes.
pub(super) const FILE_BYTES: usize = 2 * SLOT_BYTES;
const MAGIC: [u8; 8] = *b"AIREPSB\0";
const DIGEST_AT: usize = 24;
const HEADER_BYTES: usize = DIGEST_AT + 32;
const _: () = assert!(SLOT_BYTES.is_multiple_of(4096) && HEADER_BYTES < SLOT_BYTES);
/// Beyond this no store can have come, even one each microsecond; it leaves room to add.
const GENERATION_MAX: u64 = 1 << 62;

/// Why a slot does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SlotFault {
    /// It lies past the file's end.
    #[error("a slot is cut off")]
    CutOff,
    /// It begins with something else.
    #[error("a slot does not begin as it should")]
    NotASlot,
    /// Its checksum is wrong.
    #[error("a slot's checksum is wrong")]
    Checksum,
    /// It is whole but belongs at the other place.
    #[error("a slot is at the wrong place")]
    Misplaced,
    /// It is whole but says nothing that makes sense.
    #[error("a slot's content makes no sense")]
    Senseless,
}

/// A whole slot.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub generation: u64,
    /// Of a newer format only the version is known.
    pub record: Result<Box<ReplicaRecord>, u32>,
}

/// Where the slot of a generation begins, in bytes.
pub(super) fn slot_offset(generation: u64) -> u64 {
    generation % 2 * SLOT_BYTES as u64
}

fn digest(header: &[u8], payload: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(header).chain_update([0; 32]).chain_update(payload).finalize().into()
}

/// The first format that can hold the record.
fn version_of(record: &ReplicaRecord) -> u32 {
    if record.direct.is_some() { VERSION } else { VERSION_BACKUP }
}

/// The whole slot, or why the record does not fit.
pub(super) fn encode(record: &ReplicaRecord, generation: u64) -> Result<Vec<u8>, String> {
    if !record.is_possible() {
        // It would be written, and then not be read.
        return Err("a disk is in it twice, is too large, or has an unknown target".to_owned());
    }
    let payload = serde_json::to_vec(record).map_err(|e| e.to_string())?;
    let len_max = SLOT_BYTES - HEADER_BYTES;
    if payload.len() > len_max {
        return Err(format!("it has {} bytes, at most {len_max} fit", payload.len()));
    }
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend(MAGIC);
    slot.extend(version_of(record).to_le_bytes());
    slot.extend((payload.len() as u32).to_le_bytes());
    slot.extend(generation.to_le_bytes());
    slot.extend(digest(&slot, &payload));
    slot.extend(payload);
    slot.resize(SLOT_BYTES, 0);
    Ok(slot)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], SlotFault> {
    let (head, rest) = bytes.split_first_chunk::<N>().ok_or(SlotFault::CutOff)?;
    *bytes = rest;
    Ok(*head)
}

/// How long the slot is that begins with `bytes`, without what fills it up; 0 if it is none.
pub(super) fn len_of(bytes: &[u8]) -> usize {
    let len =
        bytes.get(12..).and_then(|rest| rest.first_chunk()).filter(|_| bytes.starts_with(&MAGIC));
    len.map_or(0, |len| HEADER_BYTES + u32::from_le_bytes(*len) as usize)
}

/// Reads the slot that was found at place `index`, 0 or 1.
pub(super) fn decode(slot: &[u8], index: u64) -> Result<Slot, SlotFault> {
    let mut bytes = slot;
    if take::<8>(&mut bytes)? != MAGIC {
        return Err(SlotFault::NotASlot);
    }
    let version = u32::from_le_bytes(take(&mut bytes)?);
    let len = u32::from_le_bytes(take(&mut bytes)?) as usize;
    let generation = u64::from_le_bytes(take(&mut bytes)?);
    let stored: [u8; 32] = take(&mut bytes)?;
    let payload = bytes.get(..len).ok_or(SlotFault::CutOff)?;
    let header = slot.get(..DIGEST_AT).ok_or(SlotFault::CutOff)?;
    if stored != digest(header, payload) && !is_broken(Breakage::SlotUnchecked) {
        return Err(SlotFault::Checksum);
    }
    if generation % 2 != index {
        return Err(SlotFault::Misplaced);
    }
    let record = match version {
        VERSION_BACKUP | VERSION => {
            let record: Box<ReplicaRecord> =
                serde_json::from_slice(payload).map_err(|_| SlotFault::Senseless)?;
            if !record.is_possible() || version_of(&record) != version {
                return Err(SlotFault::Senseless);
            }
            Ok(record)
        }
        newer => Err(newer),
    };
    if generation > GENERATION_MAX || version == 0 {
        return Err(SlotFault::Senseless);
    }
    Ok(Slot { generation, record })
}
