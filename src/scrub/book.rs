//! Findings as they come in, and which damaged object belongs to which of them.

use super::finding::{Finding, FindingKind};
use crate::units::{ObjectName, PackName, PointId};
use std::collections::HashMap;

/// All findings of a verification.
#[derive(Debug, Default)]
pub(super) struct Book {
    findings: Vec<Finding>,
    by_pack: HashMap<PackName, usize>,
    causes: HashMap<ObjectName, Vec<usize>>,
    lost_objects: Option<usize>,
    /// Packs of which nobody knows what lay in them.
    unlisted: Vec<usize>,
    /// Findings that this verification made itself.
    confirmed: Vec<usize>,
}

impl Book {
    /// Adds a finding.
    pub fn add(&mut self, finding: Finding) -> usize {
        self.findings.push(finding);
        self.findings.len() - 1
    }

    /// The finding about `pack`, which is made if there is none.
    pub fn pack(&mut self, kind: FindingKind, pack: PackName, reason: &str) -> usize {
        if let Some(index) = self.by_pack.get(&pack) {
            return *index;
        }
        let index = self.add(Finding::pack(kind, pack, reason));
        self.by_pack.insert(pack, index);
        index
    }

    /// The finding about `pack`.
    pub fn of_pack(&self, pack: PackName) -> Option<usize> {
        self.by_pack.get(&pack).copied()
    }

    /// Nobody knows what lay in the pack that the finding `index` is about.
    pub fn unlisted(&mut self, index: usize) {
        if !self.unlisted.contains(&index) {
            self.unlisted.push(index);
        }
    }

    /// This verification has met itself what the finding `index` is about.
    pub fn confirm(&mut self, index: usize) {
        self.confirmed.push(index);
    }

    /// Leaves out what neither harms a point nor was met by this verification itself.
    pub fn only_relevant(&mut self) {
        let (confirmed, mut index) = (std::mem::take(&mut self.confirmed), 0);
        self.findings.retain(|finding| {
            index += 1;
            !finding.points.is_empty() || confirmed.contains(&(index - 1))
        });
        // The numbers are of no use any more.
        (self.lost_objects, self.unlisted) = (None, Vec::new());
    }

    /// A copy of `object` belongs to the finding `index`.
    pub fn blame(&mut self, object: ObjectName, index: usize) {
        let causes = self.causes.entry(object).or_default();
        if !causes.contains(&index) {
            causes.push(index);
            self.findings[index].add_object(object);
        }
    }

    /// Whether any finding is about `object`.
    pub fn is_blamed(&self, object: ObjectName) -> bool {
        self.causes.contains_key(&object)
    }

    /// The objects that belong to any finding.
    pub fn objects(&self) -> impl Iterator<Item = ObjectName> + '_ {
        self.causes.keys().copied()
    }

    /// A point lacks `object`: so it needs what the findings about that are about. One that no
    /// finding is about lies in no pack, and nobody remembers in which it lay.
    pub fn needed(&mut self, object: ObjectName, point: PointId) {
        if !self.causes.contains_key(&object) {
            let index = match self.lost_objects {
                Some(index) => index,
                None => {
                    let reason = "points need objects that lie in no pack";
                    let index = self.add(Finding::new(FindingKind::LostObjects, "", reason));
                    *self.lost_objects.insert(index)
                }
            };
            self.blame(object, index);
        }
        for index in self.causes.get(&object).into_iter().flatten() {
            self.findings[*index].points.insert(point);
        }
    }

    /// All findings, and what is only worth a warning: a pack that is gone and that no point
    /// needs was most likely removed on purpose, by another host.
    pub fn close(mut self) -> (Vec<Finding>, Vec<String>) {
        // With one pack that nobody knows the content of, it is known where the objects were that
        // are missing.
        let is_bare = |index: &&usize| self.findings[**index].object_count == 0;
        let unlisted: Vec<usize> = self.unlisted.iter().filter(is_bare).copied().collect();
        if let (Some(lost), [unlisted]) = (self.lost_objects, unlisted.as_slice()) {
            let Finding { objects, object_count, points, .. } = self.findings[lost].clone();
            let pack = &mut self.findings[*unlisted];
            (pack.objects, pack.object_count, pack.points) = (objects, object_count, points);
            self.findings.remove(lost);
        }
        let harmless = |it: &Finding| it.kind == FindingKind::LostPack && it.points.is_empty();
        let (harmless, mut findings): (Vec<_>, Vec<_>) =
            self.findings.into_iter().partition(harmless);
        let warning = |it: Finding| {
            let pack = it.pack.map(|pack| pack.short()).unwrap_or_default();
            format!("pack {pack} is gone; no point needs it")
        };
        findings.sort_by(|a, b| (a.kind, &a.file).cmp(&(b.kind, &b.file)));
        (findings, harmless.into_iter().map(warning).collect())
    }
}
