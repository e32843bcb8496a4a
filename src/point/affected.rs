//! Which points a damage touches.

use super::manifest::load_point;
use super::tree::TreeReader;
use super::{Leaf, Point};
use crate::store::{Damage, ObjectIndex, ObjectReader, Repository, StoreError};
use crate::units::{ObjectName, PackName, PointId, TreeName};
use std::collections::{HashMap, HashSet};

/// A damage and the points that it touches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DamageReport {
    /// Points that need what is damaged.
    pub points: Vec<PointId>,
    /// Points whose manifests cannot be read at all.
    pub unreadable: Vec<PointId>,
}

/// Finds all points that need something from the damaged pack, or the damaged object itself. A
/// point whose tree cannot be read to its end counts as touched.
///
/// # Errors
/// When the repository cannot be listed.
pub fn affected_points(
    repository: &Repository,
    index: &dyn ObjectIndex,
    damage: &Damage,
) -> Result<DamageReport, StoreError> {
    let mut search = Search {
        objects: repository.reader(index)?,
        index,
        pack: damage.pack(),
        object: match damage {
            Damage::Object { object, .. } | Damage::Tree { object, .. } => Some(*object),
            Damage::Pack { .. } | Damage::Manifest { .. } | Damage::Document { .. } => None,
        },
        leaves: HashMap::new(),
    };
    let mut report = DamageReport::default();
    for id in repository.list_points()? {
        match load_point(repository, id) {
            Ok(point) if search.needs(&point) => report.points.push(id),
            Ok(_) => {}
            Err(_) => report.unreadable.push(id),
        }
    }
    Ok(report)
}

struct Search<'r> {
    objects: ObjectReader<'r>,
    index: &'r dyn ObjectIndex,
    pack: Option<PackName>,
    object: Option<ObjectName>,
    /// Leaves that were looked through, which most points share.
    leaves: HashMap<TreeName, bool>,
}

impl Search<'_> {
    fn needs(&mut self, point: &Point) -> bool {
        let cut = self.objects.repository().header().cut;
        for tree in point.manifest.trees() {
            let mut leaves: HashSet<(TreeName, u32)> = HashSet::new();
            let walked = TreeReader::new(&mut self.objects).differing::<StoreError>(
                &super::TreeRef::EMPTY,
                &tree,
                &mut |change| {
                    let len = cut.region_len(change.region, tree.size_bytes);
                    leaves.extend(change.new.map(|name| (name, len)));
                    Ok(())
                },
            );
            if walked.is_err() || leaves.into_iter().any(|(name, len)| self.leaf_needs(name, len)) {
                return true;
            }
        }
        false
    }

    fn leaf_needs(&mut self, name: TreeName, len: u32) -> bool {
        if let Some(&needs) = self.leaves.get(&name) {
            return needs;
        }
        let leaf = TreeReader::new(&mut self.objects).leaf(name, len);
        let needs = leaf.map_or(true, |leaf| self.touches(&leaf));
        self.leaves.insert(name, needs);
        needs
    }

    fn touches(&self, leaf: &Leaf) -> bool {
        let names = leaf.chunk_names();
        match self.object {
            Some(object) => names.contains(&object),
            None => self.index.locate(&names).map_or(true, |places| {
                places.iter().any(|place| place.is_none_or(|at| Some(at.pack) == self.pack))
            }),
        }
    }
}
