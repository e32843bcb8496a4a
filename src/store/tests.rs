//! Packs, key slots and documents, written and read back, and damaged.

use super::header::Header;
use super::pack::{PACK_FOOTER_BYTES, PACK_OBJECTS_MAX, PackFooter};
use super::*;
use crate::chunk::CutParameters;
use crate::fsio::{FileSystem, RealFileSystem};
use crate::testing::MemoryIndex;
use crate::units::{ChunkName, ObjectName, RepositoryId, RunId};
use proptest::prelude::*;
use std::sync::Arc;
use zeroize::Zeroizing;

struct Scene {
    folder: tempfile::TempDir,
    fs: Arc<dyn FileSystem>,
    secret: Option<Secret>,
}

fn key_file(byte: u8) -> Secret {
    Secret::KeyFile(Zeroizing::new(vec![byte; 40]))
}

impl Scene {
    fn new(encrypted: bool) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let scene =
            Self { folder, fs: RealFileSystem::shared(), secret: encrypted.then(|| key_file(7)) };
        let options = InitOptions {
            cut: CutParameters::with_average(16 * 1024).unwrap(),
            secret: scene.secret.as_ref(),
            recovery_key: None,
            now: jiff::Timestamp::UNIX_EPOCH,
        };
        Repository::init(&scene.fs, &scene.root(), &options).unwrap();
        scene
    }

    fn root(&self) -> std::path::PathBuf {
        self.folder.path().join("repository")
    }

    fn open(&self) -> Repository {
        Repository::open(&self.fs, &self.root(), self.secret.as_ref(), 1).unwrap()
    }
}

/// Puts chunks and gives their names.
fn put_all(repository: &Repository, index: &MemoryIndex, chunks: &[Vec<u8>]) -> Vec<ChunkName> {
    let writer = repository.writer(index, RunId::random().unwrap()).unwrap();
    let (namer, mut codec) = (repository.keys().namer(), Codec::new(1).unwrap());
    let put = |content: &Vec<u8>| {
        let name = namer.chunk(content);
        writer.put_chunk(name, content, &mut codec).unwrap();
        name
    };
    let names = chunks.iter().map(put).collect();
    writer.flush().unwrap();
    names
}

fn read_all(
    repository: &Repository,
    index: &MemoryIndex,
    wanted: &[Wanted],
) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut found = vec![Vec::new(); wanted.len()];
    let mut reader = repository.reader(index)?;
    reader.chunks::<StoreError>(wanted, |at, content| {
        assert!(found[at].is_empty(), "chunk {at} came twice");
        found[at] = content.to_vec();
        Ok(())
    })?;
    Ok(found)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_was_put_is_read_back_in_any_order_and_number(
        encrypted in any::<bool>(),
        chunks in prop::collection::vec(
            (any::<u8>(), 1_usize..5000, any::<bool>()).prop_map(|(byte, len, noisy)| {
                let mut state = u32::from(byte) + 1;
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if noisy { (state >> 24) as u8 } else { byte }
                };
                (0..len).map(|_| next()).collect::<Vec<u8>>()
            }),
            1..40,
        ),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
    ) {
        let scene = Scene::new(encrypted);
        let (repository, index) = (scene.open(), MemoryIndex::default());
        let names = put_all(&repository, &index, &chunks);
        let picked: Vec<usize> = order.iter().map(|it| it.index(chunks.len())).collect();
        let wanted: Vec<Wanted> = picked
            .iter()
            .map(|&at| Wanted { name: names[at], len: chunks[at].len() as u32 })
            .collect();
        let found = read_all(&repository, &index, &wanted).unwrap();
        for (at, content) in picked.into_iter().zip(found) {
            prop_assert!(content == chunks[at]);
        }
        // The trailer says the same as the sink was told.
        let (pack, bytes) = repository.list_packs().unwrap()[0];
        let record = repository.read_pack_record(pack).unwrap();
        prop_assert_eq!(record.bytes, bytes);
        for place in record.locations() {
            let told = index.locate(&[place.entry.name]).unwrap();
            prop_assert_eq!(told, vec![Some(place)]);
        }
    }
}

#[test]
fn places_where_no_object_can_be_are_refused_without_asking_for_memory() {
    for encrypted in [false, true] {
        let scene = Scene::new(encrypted);
        let (repository, index) = (scene.open(), MemoryIndex::default());
        let chunks = [vec![1; 3000], vec![2; 3000]];
        let names = put_all(&repository, &index, &chunks);
        let wanted = names.iter().map(|&name| Wanted { name, len: 3000 }).collect::<Vec<_>>();
        let object = ObjectName::from(names[0]);
        let good = index.locate(&[object]).unwrap()[0].unwrap();
        let change = |change: fn(&mut Location)| {
            let mut place = good;
            change(&mut place);
            index.set(object, place);
            read_all(&repository, &index, &wanted).unwrap_err()
        };
        for harm in [
            (|it| it.entry.stored_len = u32::MAX) as fn(&mut Location),
            |it| it.offset = u32::MAX,
            |it| it.offset = 0,
            |it| it.entry.plain_len = u32::MAX,
            |it| it.entry.plain_len = 0,
        ] {
            let error = change(harm);
            assert!(matches!(error, StoreError::Misplaced { .. }), "{error}");
        }
        // Possible, but wrong: overlapping its neighbour, elsewhere, in another encoding.
        for harm in [
            (|it| it.entry.stored_len += 5) as fn(&mut Location),
            |it| it.entry.stored_len = 1,
            |it| it.offset += 1,
            |it| it.offset += 1 << 20,
            |it| it.entry.encoding = Encoding::Raw,
            |it| it.entry.kind = ObjectKind::Leaf,
            |it| it.pack.0[5] ^= 1,
        ] {
            let error = change(harm);
            assert!(matches!(error, StoreError::Damaged(_)), "{error}");
        }
        index.set(object, good);
        assert!(read_all(&repository, &index, &wanted).unwrap() == chunks);
    }
}

#[test]
fn a_footer_promises_no_more_than_its_objects_need() {
    let footer = |trailer_len: u32, objects: u32| {
        let mut bytes = [0; PACK_FOOTER_BYTES];
        bytes[..4].copy_from_slice(&trailer_len.to_le_bytes());
        bytes[4..8].copy_from_slice(&objects.to_le_bytes());
        bytes[40..].copy_from_slice(b"AIPACKED");
        PackFooter::decode(&bytes, 200 << 20).is_ok()
    };
    assert!(footer(42, 1) && footer(42 + 16, 1));
    let most = PACK_OBJECTS_MAX as u32;
    assert!(footer(most * 42, most));
    for (trailer_len, objects) in [
        (42, 2),
        (100 << 20, 1),
        (u32::MAX, u32::MAX),
        (u32::MAX, 1),
        (42, u32::MAX),
        ((most + 1) * 42, most + 1),
        ((u32::MAX / 42) * 42, u32::MAX / 42),
    ] {
        assert!(!footer(trailer_len, objects), "{objects} objects in {trailer_len} bytes");
    }
}

/// A repository whose master key is in several slots.
fn with_slots(secrets: &[&Secret]) -> (Scene, RepositoryId, super::keys::SecretKey) {
    let scene = Scene::new(false);
    let repository = scene.open();
    let id = repository.header().id;
    let session = repository.begin_writing(RunId([3; 16])).unwrap();
    let master = super::keys::SecretKey::new([42; 32]);
    for secret in secrets {
        let now = jiff::Timestamp::UNIX_EPOCH;
        let slot = slots::wrap(id, secret, None, &master, now).unwrap();
        slots::publish(&session, &slot).unwrap();
    }
    drop(session);
    (scene, id, master)
}

#[test]
fn any_slot_opens_with_its_own_secret_and_no_other() {
    let passphrase = Secret::Passphrase(Zeroizing::new(b"correct horse".to_vec()));
    let (scene, id, master) = with_slots(&[&key_file(1), &passphrase, &key_file(2)]);
    let layout = Layout::new(scene.root());
    let unlock = |secret: &Secret| slots::unlock(scene.fs.as_ref(), &layout, id, secret);
    for secret in [&key_file(1), &key_file(2), &passphrase] {
        assert!(unlock(secret).unwrap() == master);
    }
    let wrong = unlock(&key_file(3)).unwrap_err();
    assert!(matches!(wrong, StoreError::WrongKey { tried: 2, .. }), "{wrong}");
    let wrong = unlock(&Secret::Passphrase(Zeroizing::new(b"correct hors".to_vec()))).unwrap_err();
    assert!(matches!(wrong, StoreError::WrongKey { tried: 1, .. }), "{wrong}");
    // A slot is bound to its repository.
    let other = RepositoryId([9; 16]);
    assert!(slots::unlock(scene.fs.as_ref(), &layout, other, &key_file(1)).is_err());
}

#[test]
fn a_damaged_slot_beside_a_good_one_does_no_harm() {
    let (scene, id, master) = with_slots(&[&key_file(1), &key_file(1)]);
    let layout = Layout::new(scene.root());
    let unlock = || slots::unlock(scene.fs.as_ref(), &layout, id, &key_file(1));
    for entry in std::fs::read_dir(layout.slots()).unwrap() {
        let path = entry.unwrap().path();
        let whole = std::fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x11;
            std::fs::write(&path, damaged).unwrap();
            assert!(unlock().unwrap() == master, "byte {at}");
        }
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        assert!(unlock().unwrap() == master);
        std::fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_document_opens_whole_and_in_its_own_repository_only() {
    let master = super::keys::SecretKey::new([1; 32]);
    let plain = Keys::plain(RepositoryId([1; 16]));
    let sealed = Keys::from_master(RepositoryId([1; 16]), &master);
    let others = [
        Keys::plain(RepositoryId([2; 16])),
        Keys::from_master(RepositoryId([2; 16]), &master),
        Keys::from_master(RepositoryId([1; 16]), &super::keys::SecretKey::new([2; 32])),
    ];
    let magic = b"TESTTEST";
    for keys in [&plain, &sealed] {
        let bytes = seal_document(keys, magic, 3, b"body").unwrap();
        let open = |keys: &Keys, bytes: &[u8], magic, format| {
            let mut bytes = bytes.to_vec();
            open_document(keys, magic, format, &mut bytes).map(<[u8]>::to_vec)
        };
        assert_eq!(open(keys, &bytes, magic, 3).unwrap(), b"body");
        assert!(open(keys, &bytes, b"OTHERONE", 3).is_err());
        assert!(open(keys, &bytes, magic, 4).unwrap_err().contains("format 3"));
        for other in others.iter().chain([&plain, &sealed]) {
            let is_same = other.is_encrypted() == keys.is_encrypted() && std::ptr::eq(other, keys);
            assert_eq!(open(other, &bytes, magic, 3).is_ok(), is_same, "{other:?}");
        }
        for len in 0..DOCUMENT_HEADER_BYTES {
            assert!(open(keys, &bytes[..len], magic, 3).is_err(), "{len}");
        }
    }
    // Of a sealed one every bit counts; a plain one is named by its hash.
    let bytes = seal_document(&sealed, magic, 3, b"body").unwrap();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        assert!(open_document(&sealed, magic, 3, &mut flipped).is_err(), "byte {at}");
    }
}

#[test]
fn a_header_that_was_changed_in_any_place_is_refused() {
    for encrypted in [false, true] {
        let scene = Scene::new(encrypted);
        let path = Layout::new(scene.root()).header();
        let whole = std::fs::read(&path).unwrap();
        let header: Header = scene.open().header().clone();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            let opened = Repository::open(&scene.fs, &scene.root(), scene.secret.as_ref(), 1);
            // White space may change, and what is read is then the same.
            assert!(opened.is_err() || *opened.unwrap().header() == header, "byte {at}");
        }
    }
}

#[test]
fn an_inspection_finds_every_byte_that_is_turned_over() {
    for encrypted in [false, true] {
        let scene = Scene::new(encrypted);
        let (repository, index) = (scene.open(), MemoryIndex::default());
        put_all(&repository, &index, &[vec![b'a'; 300], crate::testing::noise(1, 200)]);
        let (pack, bytes) = repository.list_packs().unwrap()[0];
        let inspect = || repository.inspector().unwrap().inspect_medium(pack).unwrap();
        assert_eq!(inspect(), PackState::Good);
        let path = repository.layout().pack(pack);
        let good = std::fs::read(&path).unwrap();
        assert_eq!(good.len() as u64, bytes);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let found = inspect();
            assert!(matches!(found, PackState::Damaged(_)), "byte {at}: {found:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(inspect(), PackState::Missing);
    }
}
