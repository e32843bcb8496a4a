//! Sealed JSON documents: manifests of points, pins and locks, records of removed points, lists of
//! condemned packs.
//!
//! What begins like a document is taken as a file of the plain repository; anything else as the
//! body of one, which is sealed for the encrypted repository, so that only what is in it can be
//! wrong.

use super::world::{self, assert_json_survives, sha256};
use afterimage::point::{
    Hold, HoldKind, Manifest, Removal, check_note, load_point, prepare_point, readable_holds,
    removed_among,
};
use afterimage::store::{DOCUMENT_HEADER_BYTES, Repository, Stage, seal_document};
use afterimage::units::{DISK_BYTES_MAX, Hex, PointId, seed_random};
use std::collections::BTreeSet;

/// A document in its place.
struct Placed<'w> {
    repository: &'w Repository,
    name: [u8; 32],
    body: Vec<u8>,
}

/// Runs `check` with the document that `bytes` are, or are the body of, in `folder`.
fn placed(
    bytes: &[u8],
    magic: &[u8; 8],
    folder: &str,
    check: impl FnOnce(&Placed<'_>) -> bool,
) -> bool {
    world::with(|world| {
        let (repository, file, body) = if bytes.starts_with(&magic[..2]) {
            let body = bytes.get(DOCUMENT_HEADER_BYTES..).unwrap_or_default();
            (&world.plain, bytes.to_vec(), body.to_vec())
        } else {
            seed_random(Some(1));
            let file = seal_document(world.sealed.keys(), magic, 1, bytes).unwrap();
            (&world.sealed, file, bytes.to_vec())
        };
        let name = sha256(&file);
        let path = repository.layout().root().join(folder).join(Hex(name).to_string());
        world.put(&path, &file);
        let accepted = check(&Placed { repository, name, body });
        world.remove(&path);
        accepted
    })
}

pub fn manifest(bytes: &[u8]) -> bool {
    placed(bytes, b"AIPOINT\0", "points", |placed| {
        let id = PointId(placed.name);
        let Ok(point) = load_point(placed.repository, id) else { return false };
        assert_eq!(point.id, id);
        check_manifest(&point.manifest, placed.repository);
        assert_json_survives(&placed.body, &point.manifest);
        // It can be a point again, which is to say that it is read as what it was.
        prepare_point(placed.repository, point.manifest).unwrap();
        true
    })
}

/// What holds of every manifest, wherever it was read.
pub fn check_manifest(manifest: &Manifest, repository: &Repository) {
    assert_eq!(manifest.repository, repository.keys().repository());
    let disks: BTreeSet<_> = manifest.disks.iter().map(|disk| &disk.name).collect();
    let files: BTreeSet<_> = manifest.definition.iter().map(|file| &file.name).collect();
    assert_eq!((disks.len(), files.len()), (manifest.disks.len(), manifest.definition.len()));
    assert!(disks.len() <= 1024 && files.len() <= 1024);
    assert!(manifest.trees().all(|tree| tree.size_bytes <= DISK_BYTES_MAX));
}

pub fn hold(bytes: &[u8]) -> bool {
    placed(bytes, b"AIHOLD\0\0", "holds", |placed| {
        let (holds, damages) = readable_holds(placed.repository).unwrap();
        let all: Vec<(_, &Hold)> = holds.iter().collect();
        assert_eq!(all.len() + damages.len(), 1, "a hold is there or damaged");
        let Some((id, hold)) = all.first() else { return false };
        assert_eq!(id.0, placed.name);
        assert_json_survives(&placed.body, *hold);
        match &hold.kind {
            HoldKind::Pin { note } => {
                assert!(note.as_deref().is_none_or(|note| check_note(note).is_ok()));
                assert_eq!(holds.pins(hold.point).count(), 1);
            }
            HoldKind::Lock { until } => assert_eq!(holds.locked_until(hold.point), Some(*until)),
        }
        true
    })
}

pub fn removal(bytes: &[u8]) -> bool {
    placed(bytes, b"AIGONE\0\0", "removed", |placed| {
        // The points are private to the record: they are asked for one by one.
        let removal = serde_json::from_slice::<Removal>(&placed.body);
        let points = removal.as_ref().map(|it| it.points.clone()).unwrap_or_default();
        let (removed, damages) = removed_among(placed.repository, &points).unwrap();
        if !damages.is_empty() {
            assert!(removed.is_empty());
            return false;
        }
        assert_eq!(removed, points);
        assert_json_survives(&placed.body, &removal.unwrap());
        true
    })
}

pub fn condemned(bytes: &[u8]) -> bool {
    placed(bytes, b"AICONDM\0", "condemned", |placed| {
        let Ok(current) = placed.repository.condemned() else { return false };
        assert_eq!(current.id.map(|id| id.0), Some(placed.name));
        let list = current.list.as_ref().unwrap();
        assert_json_survives(&placed.body, list);
        assert!(list.stage != Stage::Idle || list.packs.is_empty(), "idle, and yet not");
        assert_eq!((current.epoch(), current.stage()), (list.epoch, list.stage));
        assert!(current.older.is_empty());
        true
    })
}
