//! Taking what is still good out of damaged packs.

use super::super::VerifyError;
use super::is_damage;
use crate::catalog::Catalog;
use crate::progress::Progress;
use crate::store::{Codec, Location, ObjectIndex, ObjectKind, PackWriter, Repository, StoreError};
use crate::units::{ChunkName, ObjectName, PackName, TreeName};
use std::collections::HashSet;

/// Puts every object that can only be read from `packs` into new packs; gives back which.
/// `forgotten` is what the catalog knew of packs that have another length now.
pub(super) fn salvage(
    repository: &Repository,
    catalog: &Catalog,
    writer: &PackWriter<'_>,
    packs: &[PackName],
    forgotten: &[Location],
    progress: &Progress,
) -> Result<HashSet<ObjectName>, VerifyError> {
    let damaged: HashSet<PackName> = packs.iter().copied().collect();
    let mut places = catalog.objects_in(packs)?;
    places.extend(forgotten.iter().filter(|place| damaged.contains(&place.pack)));
    for pack in packs {
        match repository.read_pack_record(*pack) {
            Ok(record) => places.extend(record.locations()),
            Err(StoreError::Damaged(_) | StoreError::File(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // In the order in which they lie, each once.
    places.sort_by_key(|place| (place.pack, place.offset, place.entry.name));
    places.dedup();
    let noted: HashSet<_> = catalog.damaged_copies()?.into_iter().collect();
    let mut objects = repository.reader(catalog)?;
    let mut codec = Codec::new(repository.compression_level())?;
    let mut salvaged = HashSet::new();
    for place in &places {
        let name = place.entry.name;
        let is_elsewhere = |copy: &Location| {
            !damaged.contains(&copy.pack) && !noted.contains(&(copy.entry.name, copy.pack))
        };
        if salvaged.contains(&name) || catalog.copies(name)?.iter().any(is_elsewhere) {
            continue;
        }
        let content = match objects.object_at(place) {
            Ok(content) => content,
            Err(error) if is_damage(&error) => continue,
            Err(error) => return Err(error.into()),
        };
        progress.pace(content.len() as u64);
        put(writer, name, place.entry.kind, content, &mut codec)?;
        salvaged.insert(name);
    }
    Ok(salvaged)
}

/// Puts an object under its name, which the writer checks again.
pub(super) fn put(
    writer: &PackWriter<'_>,
    name: ObjectName,
    kind: ObjectKind,
    content: &[u8],
    codec: &mut Codec,
) -> Result<(), StoreError> {
    match kind {
        ObjectKind::Chunk => writer.put_chunk(ChunkName(name.0), content, codec)?,
        ObjectKind::Leaf | ObjectKind::Node => {
            writer.put_tree(TreeName(name.0), kind, content, codec)?
        }
    };
    Ok(())
}
