//! What lies beside a replica: superblock, journal, and the notes in locks.

use super::world::{self, World, sha256};
use afterimage::destination::{
    JournalReader, JournalRef, JournalWriter, Record, ReplicaRecord, State, Superblock,
    SuperblockError, VerifiedJournal,
};
use afterimage::fsio::{FileLock, LockError, LockHolder, LockMode, RealFileSystem};
use afterimage::units::{DISK_BYTES_MAX, JournalDigest, seed_random};
use std::collections::BTreeSet;
use std::path::Path;

const SLOT_BYTES: usize = 64 * 1024;
const DIGEST_AT: usize = 24;
const PAYLOAD_AT: usize = 56;

/// A whole superblock, as it is.
pub fn superblock(bytes: &[u8]) -> bool {
    world::with(|world| check_superblock(world, bytes))
}

/// Two pieces, the slots, each with its checksum set right.
pub fn superblock_repaired(bytes: &[u8]) -> bool {
    let mut file = Vec::new();
    for (number, slot) in world::pieces(bytes, 2).into_iter().enumerate() {
        file.resize(number * SLOT_BYTES, 0);
        file.extend_from_slice(&slot[..slot.len().min(SLOT_BYTES)]);
        repair_slot(&mut file[number * SLOT_BYTES..]);
    }
    world::with(|world| check_superblock(world, &file))
}

fn repair_slot(slot: &mut [u8]) {
    let Some(len) = slot.get(12..16) else { return };
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
    let Some(payload) = slot.get(PAYLOAD_AT..).and_then(|rest| rest.get(..len)) else { return };
    let digest = sha256(&[&slot[..DIGEST_AT], &[0; 32], payload].concat());
    slot[DIGEST_AT..PAYLOAD_AT].copy_from_slice(&digest);
}

fn check_superblock(world: &World, bytes: &[u8]) -> bool {
    let path = Path::new("/replica/superblock");
    world.put(path, bytes);
    let asked = "standby".parse().unwrap();
    let read = match Superblock::read_only(world.fs.as_ref(), path, &asked) {
        // It says whose it is: ask again.
        Err(SuperblockError::Foreign { found, .. }) => {
            Superblock::read_only(world.fs.as_ref(), path, &found)
        }
        other => other,
    };
    let Ok(record) = read else { return false };
    check_record(&record);
    let text = serde_json::to_vec(&record).unwrap();
    let again: ReplicaRecord = serde_json::from_slice(&text).unwrap();
    assert_eq!(again, record);
    world::assert_json_survives(&current_payload(bytes, &record), &record);
    check_store(world, path, &record);
    true
}

/// The payload that `record` was read from.
fn current_payload(bytes: &[u8], record: &ReplicaRecord) -> Vec<u8> {
    let payload = |start: usize| {
        let slot = bytes.get(start..)?;
        let len = slot.get(12..16)?;
        let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
        slot.get(PAYLOAD_AT..)?.get(..len)
    };
    let is_it =
        |text: &&[u8]| serde_json::from_slice(text).is_ok_and(|it: ReplicaRecord| it == *record);
    [0, SLOT_BYTES].into_iter().filter_map(payload).find(is_it).unwrap().to_vec()
}

fn check_record(record: &ReplicaRecord) {
    let names: BTreeSet<_> = record.disks.iter().map(|disk| &disk.name).collect();
    assert_eq!(names.len(), record.disks.len(), "a disk is in it twice");
    assert!(record.disks.iter().all(|disk| disk.size_bytes <= DISK_BYTES_MAX));
    let is_seeding = matches!(record.state, State::Seeding { .. });
    assert!(is_seeding || record.disks.iter().all(|disk| disk.identity.is_some()));
}

/// Whatever it holds, a comparison of everything can begin, and is what is read afterwards.
fn check_store(world: &World, path: &Path, record: &ReplicaRecord) {
    let mut superblock = Superblock::open(world.fs.as_ref(), path, &record.replica).unwrap();
    assert_eq!(superblock.current(), record);
    let to = match &record.state {
        State::Clean { point } | State::Promoted { point } => *point,
        State::Seeding { to } | State::Applying { to, .. } => *to,
    };
    let mut next = ReplicaRecord { state: State::Seeding { to }, ..record.clone() };
    next.epoch.0 = next.epoch.0.saturating_add(1);
    match superblock.store(next.clone()) {
        Ok(()) => {}
        // An epoch that cannot rise any more, and a record that another form made too long.
        Err(SuperblockError::Transition { .. } | SuperblockError::Unstorable { .. }) => return,
        Err(error) => panic!("{error}"),
    }
    let read = Superblock::read_only(world.fs.as_ref(), path, &record.replica).unwrap();
    assert_eq!(read, next);
}

/// A whole journal, as it is, and named by the digest in its footer.
pub fn journal(bytes: &[u8]) -> bool {
    world::with(|world| check_journal(world, bytes))
}

/// A journal with the right digest at its end, and an end that sums up its records.
pub fn journal_repaired(bytes: &[u8]) -> bool {
    let mut bytes = bytes.to_vec();
    if let Some(body) = bytes.len().checked_sub(32) {
        repair_end(&mut bytes[..body]);
        let digest = sha256(&bytes[..body]);
        bytes[body..].copy_from_slice(&digest);
    }
    world::with(|world| check_journal(world, &bytes))
}

/// Finds the records, and corrects the numbers in the last one when it is an end.
fn repair_end(body: &mut [u8]) {
    let Some(len) = body.get(12..16) else { return };
    let mut at = u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize;
    let (mut records, mut data_bytes) = (0_u64, 0_u64);
    while let Some(header) = at.checked_add(19).and_then(|end| body.get_mut(at..end)) {
        let mut len = [0; 8];
        len.copy_from_slice(&header[11..19]);
        let len = u64::from_le_bytes(len);
        match header[0] {
            1 => {
                data_bytes = data_bytes.wrapping_add(len);
                at = at.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
            }
            2 => {}
            _ => {
                header[3..11].copy_from_slice(&records.to_le_bytes());
                header[11..19].copy_from_slice(&data_bytes.to_le_bytes());
                return;
            }
        }
        records += 1;
        at = at.saturating_add(19);
    }
}

/// A record with neighbours joined, as a writer would have it.
#[derive(Debug, PartialEq, Eq)]
struct Joined {
    disk: u16,
    offset: u64,
    len: u64,
    /// `None` for zeros.
    data: Option<Vec<u8>>,
}

fn check_journal(world: &World, bytes: &[u8]) -> bool {
    let path = Path::new("/replica/journal");
    world.put(path, bytes);
    let Some((verified, named)) = open_journal(world, path, bytes) else { return false };
    let disks = verified.header().disks.clone();
    assert!((1..=256).contains(&disks.len()));
    let names: BTreeSet<_> = disks.iter().map(|disk| &disk.name).collect();
    assert_eq!(names.len(), disks.len());
    assert!(disks.iter().all(|it| it.size_bytes.max(it.size_before_bytes) <= DISK_BYTES_MAX));
    let mut data_bytes = 0;
    visit(&verified, |record| {
        let (disk, offset, len) = match record {
            Record::Data { disk, offset, bytes } => {
                assert!((1..=1 << 20).contains(&bytes.len()));
                data_bytes += bytes.len();
                (disk, offset, bytes.len() as u64)
            }
            Record::Zeros { disk, extent } => (disk, extent.start(), extent.len()),
        };
        assert!(len > 0 && offset + len <= disks[usize::from(disk)].size_bytes);
    });
    assert!(data_bytes < bytes.len());
    // One byte more or less is another journal.
    let other = JournalRef { bytes: named.bytes + 1, ..named };
    assert!(JournalReader::open(world.fs.as_ref(), path).unwrap().verify(&other).is_err());
    check_rewritten(world, &verified);
    true
}

fn open_journal(world: &World, path: &Path, bytes: &[u8]) -> Option<(VerifiedJournal, JournalRef)> {
    let reader = JournalReader::open(world.fs.as_ref(), path).ok()?;
    let mut digest = [0; 32];
    digest.copy_from_slice(bytes.get(bytes.len().checked_sub(32)?..)?);
    let (file, len) = ("journal".parse().unwrap(), bytes.len() as u64);
    let named = JournalRef { file, bytes: len, sha256: JournalDigest(digest) };
    Some((reader.verify(&named).ok()?, named))
}

fn visit(journal: &VerifiedJournal, mut look: impl FnMut(Record<'_>)) {
    let visited = journal.for_each::<afterimage::destination::JournalError>(|record| {
        look(record);
        Ok(())
    });
    visited.unwrap();
}

fn joined(journal: &VerifiedJournal) -> Vec<Joined> {
    let mut list: Vec<Joined> = Vec::new();
    visit(journal, |record| {
        let next = match record {
            Record::Data { disk, offset, bytes } => {
                Joined { disk, offset, len: bytes.len() as u64, data: Some(bytes.to_vec()) }
            }
            Record::Zeros { disk, extent } => {
                Joined { disk, offset: extent.start(), len: extent.len(), data: None }
            }
        };
        match list.last_mut() {
            Some(last) if last.disk == next.disk && last.offset + last.len == next.offset => {
                match (&mut last.data, next.data) {
                    (Some(data), Some(more)) => data.extend(more),
                    (None, None) => {}
                    (_, data) => {
                        list.push(Joined { data, ..next });
                        return;
                    }
                }
                last.len += next.len;
            }
            _ => list.push(next),
        }
    });
    list
}

/// A journal that is written from what was read says the same.
fn check_rewritten(world: &World, verified: &VerifiedJournal) {
    let path = Path::new("/rewritten/journal");
    world.fs.create_dir_all(path.parent().unwrap()).unwrap();
    if world.fs.stat(path).unwrap().is_some() {
        world.remove(path);
    }
    let before = joined(verified);
    let mut writer = JournalWriter::create(&world.fs, path, verified.header().clone()).unwrap();
    for Joined { disk, offset, len, data } in &before {
        let extent = afterimage::extent::Extent::new(*offset, *len).unwrap();
        match data {
            Some(data) => writer.data(*disk, *offset, data).unwrap(),
            None => writer.zeros(*disk, extent).unwrap(),
        }
    }
    let named = writer.finish().unwrap();
    let reader = JournalReader::open(world.fs.as_ref(), path).unwrap();
    assert_eq!(joined(&reader.verify(&named).unwrap()), before);
    world.disk.settle();
}

/// The note in the file of a lock that somebody holds, which is told to who waits for it.
pub fn lock_note(bytes: &[u8]) -> bool {
    world::with(|world| {
        seed_random(Some(1));
        let path = world.real("note.lock", b"");
        let own = LockHolder::this_process("fuzzing");
        let take = || FileLock::try_take(&RealFileSystem, &path, LockMode::Exclusive, &own);
        let held = take().unwrap();
        std::fs::write(&path, bytes).unwrap();
        let Err(error) = take() else { panic!("two hold one lock") };
        drop(held);
        let text = error.to_string();
        assert!(!text.chars().any(char::is_control), "a note disturbs the terminal: {text:?}");
        matches!(error, LockError::Busy { holder: Some(_), .. })
    })
}
