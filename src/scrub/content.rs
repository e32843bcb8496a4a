//! Reading everything that one point needs, and nothing else.

use super::VerifyError;
use crate::catalog::Catalog;
use crate::point::{Branch, Leaf, Point, Span, TreeReader, TreeRef, surviving};
use crate::progress::Progress;
use crate::store::{Damage, ObjectReader, Repository, StoreError, Wanted};
use crate::units::TreeName;
use crate::workers::in_parallel;
use std::sync::{Mutex, PoisonError};

/// A leaf and the length of its region.
type Work = (TreeName, u32);

/// Reads every chunk of `point` and gives back the damage that was met, of copies too in whose
/// place another one served. Leaves and nodes are for the survey of trees.
pub(super) fn read_point(
    repository: &Repository,
    catalog: &Catalog,
    point: &Point,
    workers: usize,
    progress: &Progress,
) -> Result<Vec<Damage>, VerifyError> {
    let found: Mutex<Vec<Damage>> = Mutex::default();
    point.manifest.trees().for_each(|tree| progress.add_total(tree.size_bytes));
    for tree in point.manifest.trees() {
        in_parallel(
            workers,
            |send| walk(repository, catalog, &tree, progress, send),
            || Ok(repository.reader(catalog)?),
            |objects, (name, len)| {
                progress.check()?;
                let damages = read_leaf(objects, name, len, progress)?;
                found.lock().unwrap_or_else(PoisonError::into_inner).extend(damages);
                progress.add_done(u64::from(len));
                Ok(())
            },
        )?;
    }
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn walk(
    repository: &Repository,
    catalog: &Catalog,
    tree: &TreeRef,
    progress: &Progress,
    send: &dyn Fn(Work) -> bool,
) -> Result<(), VerifyError> {
    let cut = repository.header().cut;
    let mut objects = repository.reader(catalog)?;
    let mut next = 0;
    surviving::<VerifyError>(&mut TreeReader::new(&mut objects), tree, &mut |branch| {
        let (start, end) = match branch {
            Branch::Lost(extent, _) => (extent.start(), extent.start()),
            Branch::Leaf(region, name) => {
                let len = cut.region_len(region, tree.size_bytes);
                // That nobody listens is told by the workers.
                let _ = send((name, len));
                let start = cut.region_start(region);
                (start, start + u64::from(len))
            }
        };
        progress.add_done(start - next);
        next = end;
        Ok(())
    })?;
    progress.add_done(tree.size_bytes - next.min(tree.size_bytes));
    Ok(())
}

fn read_leaf(
    objects: &mut ObjectReader<'_>,
    name: TreeName,
    len: u32,
    progress: &Progress,
) -> Result<Vec<Damage>, VerifyError> {
    let leaf = match TreeReader::new(objects).leaf(name, len) {
        Ok(leaf) => leaf,
        // The survey of trees tells of it.
        Err(StoreError::Damaged(_) | StoreError::Unknown { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    objects.take_faults();
    let wanted = wanted(&leaf);
    let whole = read(objects, &wanted, progress)? && objects.take_faults().is_empty();
    let mut damages = Vec::new();
    if !whole {
        // Once more, one by one: which of them, and every copy that is damaged.
        for chunk in wanted {
            read(objects, &[chunk], progress)?;
            damages.extend(objects.take_faults());
        }
    }
    Ok(damages)
}

fn wanted(leaf: &Leaf) -> Vec<Wanted> {
    let chunk = |span: &Span| match *span {
        Span::Chunk { name, len } => Some(Wanted { name, len }),
        Span::Hole { .. } => None,
    };
    leaf.spans.iter().filter_map(chunk).collect()
}

/// Whether all of them could be read.
fn read(
    objects: &mut ObjectReader<'_>,
    wanted: &[Wanted],
    progress: &Progress,
) -> Result<bool, VerifyError> {
    let read = objects.chunks::<StoreError>(wanted, |_, content| {
        progress.add_read(content.len() as u64);
        Ok(())
    });
    match read {
        Ok(()) => Ok(true),
        Err(StoreError::Damaged(_) | StoreError::Unknown { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
