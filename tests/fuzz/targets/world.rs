//! What the targets stand on: a disk in memory with a plain and an encrypted repository, and a
//! folder for what only real files can be read from.

use afterimage::fsio::{FileSystem, OpenMode};
use afterimage::store::{Keys, Layout, Repository, Secret};
use afterimage::testing::disk::SimulatedDisk;
use afterimage::units::RepositoryId;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PLAIN_HEADER: &[u8] =
    include_bytes!("../../../fixtures/format-1/plain/repository/repository.json");
const SEALED_HEADER: &[u8] =
    include_bytes!("../../../fixtures/format-1/key-file/repository/repository.json");
const SEALED_SLOT: &[u8] = include_bytes!(
    "../../../fixtures/format-1/key-file/repository/keys/95178e8a13c4bdf6c0c4982a38ffd051.json"
);
const SEALED_KEY: &[u8] = include_bytes!("../../../fixtures/format-1/key-file/test.key");

/// One for each thread.
pub struct World {
    pub disk: Arc<SimulatedDisk>,
    pub fs: Arc<dyn FileSystem>,
    /// The one of `fixtures/format-1/plain`, so that what lies there is good here too.
    pub plain: Repository,
    /// The one of `fixtures/format-1/key-file`.
    pub sealed: Repository,
    /// Real files, in memory where the host has that.
    pub folder: tempfile::TempDir,
}

thread_local! {
    static WORLD: World = World::new();
}

/// Runs `work` in this thread's world. It holds nothing of the input before.
pub fn with<T>(work: impl FnOnce(&World) -> T) -> T {
    WORLD.with(work)
}

impl World {
    fn new() -> Self {
        let disk = Arc::new(SimulatedDisk::new());
        let fs: Arc<dyn FileSystem> = disk.clone();
        let (plain, sealed) = (Path::new("/plain"), Path::new("/sealed"));
        for root in [plain, sealed] {
            for folder in ["packs", "points", "keys", "tmp", "locks"] {
                fs.create_dir_all(&root.join(folder)).unwrap();
            }
        }
        put(&disk, &plain.join("repository.json"), PLAIN_HEADER);
        put(&disk, &sealed.join("repository.json"), SEALED_HEADER);
        put(&disk, &sealed.join("keys/95178e8a13c4bdf6c0c4982a38ffd051.json"), SEALED_SLOT);
        let key = Secret::KeyFile(SEALED_KEY.to_vec().into());
        let plain = Repository::open(&fs, plain, None, 3).unwrap();
        let sealed = Repository::open(&fs, sealed, Some(&key), 3).unwrap();
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        // Named after the process: a fuzzer ends without destructors, and its starter cleans up.
        let prefix = format!("afterimage-fuzz-{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(base).unwrap();
        Self { disk, fs, plain, sealed, folder }
    }

    /// Makes `bytes` the whole content of a file in memory.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        put(&self.disk, path, bytes);
    }

    /// Removes a file in memory.
    pub fn remove(&self, path: &Path) {
        self.fs.remove_file(path).unwrap();
        self.disk.settle();
        self.disk.forget_removed();
    }

    /// Makes `bytes` the whole content of a real file.
    pub fn real(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn put(disk: &SimulatedDisk, path: &Path, bytes: &[u8]) {
    disk.create_dir_all(path.parent().unwrap()).unwrap();
    let mode = match disk.content(path) {
        Some(_) => OpenMode::Write,
        None => OpenMode::CreateNew,
    };
    let file = disk.open(path, mode).unwrap();
    file.set_len(0).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    // Otherwise the changes that a crash could take back would pile up.
    disk.settle();
}

/// The layout of a repository that lies nowhere else.
pub fn layout(root: &str) -> Layout {
    Layout::new(PathBuf::from(root))
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Keys of the plain repository with this id.
pub fn plain_keys(repository: RepositoryId) -> Keys {
    Keys::plain(repository)
}

/// Takes a number of `N` bytes from the front.
pub fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

/// Takes pieces from the front, each behind its length; the last one may be cut short.
pub fn pieces(mut bytes: &[u8], pieces_max: usize) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    while pieces.len() < pieces_max
        && let Some(len) = take::<3>(&mut bytes)
    {
        let len = u32::from_le_bytes([len[0], len[1], len[2], 0]) as usize;
        let (piece, rest) = bytes.split_at(len.min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// The opposite of [`pieces`].
#[allow(dead_code, reason = "only what makes inputs needs it")]
pub fn joined(pieces: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(&(piece.len() as u32).to_le_bytes()[..3]);
        bytes.extend_from_slice(piece);
    }
    bytes
}

/// What was read of `text` says the same once it was written and read again, and every key that
/// stood in `text` is one that is written: nothing was passed over but what may be.
pub fn assert_json_survives<T>(text: &[u8], read: &T)
where
    T: serde::Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let written = serde_json::to_vec(read).unwrap();
    let again: T = serde_json::from_slice(&written).unwrap();
    assert_eq!(&again, read, "what is written is read as something else");
    // A text that serde takes twice, such as one with a key twice, was refused before.
    let given: serde_json::Value = serde_json::from_slice(text).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_no_key_lost(&given, &written);
}

fn assert_no_key_lost(given: &serde_json::Value, written: &serde_json::Value) {
    use serde_json::Value;
    match (given, written) {
        (Value::Object(given), Value::Object(written)) => {
            for (key, value) in given {
                match written.get(key) {
                    // What a newer version noted of a disk is as if nothing were known of it.
                    Some(_) if key == "bases" => {}
                    Some(written) => assert_no_key_lost(value, written),
                    // An option that is spelt out, or digits in upper case that stand for a key.
                    None => assert!(
                        value.is_null() || written.contains_key(&key.to_ascii_lowercase()),
                        "the key {key:?} was passed over"
                    ),
                }
            }
        }
        (Value::Array(given), Value::Array(written)) => {
            given.iter().zip(written).for_each(|(given, written)| {
                assert_no_key_lost(given, written);
            });
        }
        _ => {}
    }
}
