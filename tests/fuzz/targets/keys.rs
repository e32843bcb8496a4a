//! The header of a repository, its key slots with their index, and exports of keys.

use super::world::{self, World, assert_json_survives, sha256};
use afterimage::store::{
    Encryption, Header, KeyExport, Keys, RecoveryKey, Repository, Secret, SlotProblem, StoreError,
    check_slots, list_slots, put_back,
};
use afterimage::units::{Hex, RepositoryId, SlotId, seed_random};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const SLOTS_HEADER: &[u8] = include_bytes!("../../../fixtures/slots-2/repository/repository.json");
const SLOTS_KEY: &[u8] = include_bytes!("../../../fixtures/slots-2/test.key");
const SLOTS_RECOVERY_KEY: &str = include_str!("../../../fixtures/slots-2/recovery-key");
/// More than this is no trial for a fuzzer, though it is one that is allowed.
const ARGON2_KIB_PASSES_MAX: u64 = 4096;

/// A `repository.json` of a plain repository; then the same with the right code.
pub fn header(bytes: &[u8]) -> bool {
    let as_it_is = check_header(bytes);
    let header = serde_json::from_slice::<Value>(bytes)
        .ok()
        .and_then(|mut file| serde_json::from_value::<Header>(file.get_mut("header")?.take()).ok());
    // Written anew, since the fields' order counts.
    let repaired = header.is_some_and(|header| {
        let mac = Hex(sha256(&serde_json::to_vec(&header).unwrap()));
        check_header(&serde_json::to_vec(&Sealed { header: &header, mac }).unwrap())
    });
    as_it_is || repaired
}

#[derive(serde::Serialize)]
struct Sealed<'a> {
    header: &'a Header,
    mac: Hex<32>,
}

fn check_header(bytes: &[u8]) -> bool {
    world::with(|world| {
        let root = Path::new("/header");
        world.put(&root.join("repository.json"), bytes);
        let opened = Repository::open(&world.fs, root, None, 3);
        let Ok(repository) = opened else {
            let error = opened.map(drop).unwrap_err();
            assert!(!error.to_string().is_empty());
            return false;
        };
        let header = repository.header();
        assert_eq!((header.format, header.encryption), (1, Encryption::None));
        header.cut.check().unwrap();
        assert_eq!(repository.keys().repository(), header.id);
        let text: Value = serde_json::from_slice(bytes).unwrap();
        assert_json_survives(&serde_json::to_vec(&text["header"]).unwrap(), header);
        repository.check_header_bytes().unwrap();
        true
    })
}

fn secrets() -> [Secret; 2] {
    [
        Secret::KeyFile(SLOTS_KEY.to_vec().into()),
        Secret::RecoveryKey(RecoveryKey::parse(SLOTS_RECOVERY_KEY).unwrap()),
    ]
}

/// A repository in memory that has only a header and what lies in `keys/`.
fn keys_world<T>(work: impl FnOnce(&World, &Path) -> T) -> T {
    world::with(|world| {
        let root = Path::new("/slots");
        world.put(&root.join("repository.json"), SLOTS_HEADER);
        world.fs.create_dir_all(&root.join("keys")).unwrap();
        for entry in world.fs.list(&root.join("keys")).unwrap() {
            world.remove(&root.join("keys").join(entry.name));
        }
        work(world, root)
    })
}

/// A key slot, under the name that it gives itself.
pub fn slot(bytes: &[u8]) -> bool {
    keys_world(|world, root| {
        let file: Option<Value> = serde_json::from_slice(bytes).ok();
        let field = |name: &str| file.as_ref().and_then(|file| file.get(name));
        let id = field("id").and_then(|id| id.as_str()?.parse().ok()).unwrap_or(SlotId([1; 16]));
        let layout = world::layout("/slots");
        world.put(&layout.slot(id), bytes);
        let fs = world.fs.as_ref();
        let listed = list_slots(fs, &layout).unwrap();
        let problems = check_slots(fs, &layout, None).unwrap();
        let is_damaged = problems.iter().any(|it| matches!(it, SlotProblem::Damaged { .. }));
        assert!(listed.len() <= 1 && !(is_damaged && listed.len() == 1));
        for info in &listed {
            assert_eq!(info.id, id);
            let label = info.label.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(!label.chars().any(char::is_control) && label.chars().count() <= 64);
        }
        for problem in problems {
            assert!(!problem.to_string().chars().any(char::is_control), "{problem}");
        }
        let mut opens = false;
        for secret in secrets() {
            opens |= check_open(world, root, &secret);
        }
        let cost = |name| field("wrapping").and_then(|it| it.get(name)?.as_u64()).unwrap_or(0);
        let (kib, passes) = (cost("memory_kib"), cost("passes"));
        let is_refused = kib > 256 * 1024 || passes > 64;
        if is_refused || kib.saturating_mul(passes) <= ARGON2_KIB_PASSES_MAX {
            let passphrase = Secret::Passphrase(b"passphrase".to_vec().into());
            let opened = check_open(world, root, &passphrase);
            assert!(!opened || !is_refused, "it asks for more than is allowed");
            opens |= opened;
        }
        opens || !listed.is_empty()
    })
}

/// Whether it opens. What opens is the repository of the header.
fn check_open(world: &World, root: &Path, secret: &Secret) -> bool {
    match Repository::open(&world.fs, root, Some(secret), 3) {
        Ok(repository) => repository.keys().is_encrypted(),
        Err(StoreError::WrongKey { .. }) => false,
        Err(error) => panic!("a slot was taken that is none: {error}"),
    }
}

/// The index of key slots. The field order is that of the format.
#[derive(serde::Serialize, serde::Deserialize)]
struct Index {
    format: u64,
    repository: RepositoryId,
    slots: BTreeMap<SlotId, Hex<32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Change {
    adding: BTreeMap<SlotId, Hex<32>>,
    removing: BTreeSet<SlotId>,
    in_place: bool,
}

#[derive(serde::Serialize)]
struct SealedIndex<'a> {
    index: &'a Index,
    mac: Hex<32>,
}

/// An index of key slots, as it is; then, as that of a plain repository, with the right code.
pub fn slot_index(bytes: &[u8]) -> bool {
    let as_it_is = check_index(bytes, None);
    let index = serde_json::from_slice::<Value>(bytes)
        .ok()
        .and_then(|mut file| serde_json::from_value::<Index>(file.get_mut("index")?.take()).ok());
    let repaired = index.is_some_and(|index| {
        let json = serde_json::to_vec(&index).unwrap();
        let mac = Hex(sha256(&[b"afterimage key index\0", &json[..]].concat()));
        let mut text = serde_json::to_vec_pretty(&SealedIndex { index: &index, mac }).unwrap();
        text.push(b'\n');
        let keys = world::plain_keys(index.repository);
        let good = check_index(&text, Some(&keys));
        assert_eq!(good, index.format == 1, "only the format can be wrong with it");
        assert!(!check_index(&text[..text.len() - 1], Some(&keys)), "bytes were passed over");
        good
    });
    as_it_is || repaired
}

fn check_index(bytes: &[u8], keys: Option<&Keys>) -> bool {
    keys_world(|world, _| {
        let layout = world::layout("/slots");
        world.put(&layout.slot_index(), bytes);
        let problems = check_slots(world.fs.as_ref(), &layout, keys).unwrap();
        for problem in &problems {
            assert!(!problem.to_string().chars().any(char::is_control), "{problem}");
        }
        assert!(!problems.contains(&SlotProblem::IndexMissing));
        !problems.iter().any(|it| matches!(it, SlotProblem::IndexDamaged { .. }))
    })
}

/// An export of keys, as it is; then with the right digest. What is good is put back.
pub fn key_export(bytes: &[u8]) -> bool {
    let as_it_is = check_export(bytes);
    let export = serde_json::from_slice::<Value>(bytes).ok().and_then(|mut file| {
        serde_json::from_value::<KeyExport>(file.get_mut("export")?.take()).ok()
    });
    let repaired = export.is_some_and(|export| {
        let sha256 = Hex(sha256(&serde_json::to_vec(&export).unwrap()));
        check_export(&serde_json::to_vec(&SealedExport { export: &export, sha256 }).unwrap())
    });
    as_it_is || repaired
}

#[derive(serde::Serialize)]
struct SealedExport<'a> {
    export: &'a KeyExport,
    sha256: Hex<32>,
}

fn check_export(bytes: &[u8]) -> bool {
    world::with(|world| {
        seed_random(Some(1));
        let path = Path::new("/exports/export.json");
        world.put(path, bytes);
        let Ok(export) = KeyExport::read(world.fs.as_ref(), path) else { return false };
        let text: Value = serde_json::from_slice(bytes).unwrap();
        assert_json_survives(&serde_json::to_vec(&text["export"]).unwrap(), &export);
        let copy = Path::new("/exports/copy.json");
        if world.fs.stat(copy).unwrap().is_some() {
            world.remove(copy);
        }
        export.clone().write(&world.fs, copy).unwrap();
        assert_eq!(KeyExport::read(world.fs.as_ref(), copy).unwrap(), export);
        check_put_back(world, path, &export);
        true
    })
}

fn check_put_back(world: &World, export_path: &Path, export: &KeyExport) {
    let root = Path::new("/restored");
    for file in world.disk.files().iter().filter(|file| file.starts_with(root)) {
        world.remove(file);
    }
    for folder in ["keys", "tmp", "locks", "packs", "points"] {
        world.fs.create_dir_all(&root.join(folder)).unwrap();
    }
    let Ok(done) = put_back(&world.fs, root, export_path, &secrets()) else { return };
    assert!(done.without_index && done.files.len() <= export.slots() + 2);
    for file in &done.files {
        let depth = file.components().count();
        assert!(file.is_relative() && depth <= 2, "{} was written", file.display());
    }
    // What was checked with a key opens with that key.
    if done.is_checked {
        let opens = |secret| Repository::open(&world.fs, root, Some(secret), 3).is_ok();
        assert!(secrets().iter().any(opens), "what was put back does not open");
    }
}
