//! Documents that are gone: what the catalog remembers of them, held against what is there. Each
//! loss is told once: then the catalog has forgotten it.

use super::VerifyError;
use super::audit::list_or_empty;
use super::finding::{Finding, FindingKind};
use crate::catalog::{Catalog, DocumentFolder, KnownDocument};
use crate::point::{Holds, readable_holds, removed_among};
use crate::store::{CurrentList, Repository, StoreError};
use crate::units::{Hex, PointId};
use std::collections::BTreeSet;

/// Adds to the `findings` what is gone, and to those about pins and locks their points, as far as
/// that is known; then makes the catalog remember what is there. Gives back what it is to forget
/// once this can be told: a verification that is stopped before must not be the only one to know.
pub(super) fn compare(
    repository: &Repository,
    catalog: &Catalog,
    findings: &mut Vec<Finding>,
) -> Result<Vec<KnownDocument>, VerifyError> {
    // What is known first, then what is there: what others add to both meanwhile is not gone.
    let known = catalog.documents()?;
    let there = There::read(repository)?;
    for document in &known {
        let file = file(document);
        let about = findings.iter_mut().filter(|it| it.file == file);
        about.for_each(|finding| finding.points.extend(document.point));
    }
    let gone: Vec<&KnownDocument> = known.iter().filter(|it| !there.has(it)).collect();
    for document in there.lost(repository, catalog, &gone)? {
        let reason = reason(document.folder);
        let mut finding = Finding::new(FindingKind::LostDocument, file(&document), reason);
        finding.points.extend(document.point);
        findings.push(finding);
    }
    remember(repository, catalog, &there, findings)?;
    // A list that cannot be read may be the one that takes the place of another.
    let is_settled =
        |it: &&KnownDocument| it.folder != DocumentFolder::Condemned || there.current.is_some();
    Ok(gone.into_iter().filter(is_settled).copied().collect())
}

fn file(document: &KnownDocument) -> String {
    format!("{}/{}", document.folder.name(), document.name)
}

fn reason(folder: DocumentFolder) -> &'static str {
    match folder {
        DocumentFolder::Holds => {
            "this pin or lock is gone, and nothing on this host removed it: unless another host \
             unpinned the point, bring it back with `afterimage repair --from`, or pin the point \
             again; this is told once"
        }
        DocumentFolder::Removed => {
            "this record of removed points is gone, and nothing removes such records: bring it \
             back with `afterimage repair --from`; this is told once"
        }
        DocumentFolder::Condemned => {
            "this list of condemned packs is gone, and no later one takes its place: bring it \
             back with `afterimage repair --from`; this is told once"
        }
    }
}

/// The documents that are there.
struct There {
    names: BTreeSet<(DocumentFolder, [u8; 32])>,
    holds: Holds,
    /// `None` when a list cannot be read.
    current: Option<CurrentList>,
}

impl There {
    fn read(repository: &Repository) -> Result<Self, VerifyError> {
        let (fs, layout) = (repository.file_system().as_ref(), repository.layout());
        let mut names = BTreeSet::new();
        for folder in DocumentFolder::ALL {
            for entry in list_or_empty(fs, &layout.root().join(folder.name()))? {
                let name = entry.name.parse::<Hex<32>>().ok();
                let name = name.filter(|name| name.to_string() == entry.name);
                names.extend(name.map(|name| (folder, name.0)));
            }
        }
        let (holds, _) = readable_holds(repository)?;
        // After the names: a list is removed only when the one that takes its place is there.
        let current = match repository.condemned() {
            Ok(current) => Some(current),
            Err(StoreError::Damaged(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { names, holds, current })
    }

    fn has(&self, document: &KnownDocument) -> bool {
        self.names.contains(&(document.folder, document.name.0))
    }

    /// Those of `gone` that nobody removed on purpose, as far as can be told here.
    fn lost(
        &self,
        repository: &Repository,
        catalog: &Catalog,
        gone: &[&KnownDocument],
    ) -> Result<Vec<KnownDocument>, VerifyError> {
        if gone.is_empty() {
            return Ok(Vec::new());
        }
        // Another process of this host may have removed one since.
        let still_known = catalog.documents()?;
        let held: BTreeSet<PointId> = gone.iter().filter_map(|it| it.point).collect();
        // A prune of another host takes away what held the points that it removes.
        let (removed, _) = removed_among(repository, &held)?;
        let is_lost = |it: &&KnownDocument| match it.folder {
            DocumentFolder::Holds => it.point.is_none_or(|point| !removed.contains(&point)),
            DocumentFolder::Removed => true,
            DocumentFolder::Condemned => {
                self.current.as_ref().is_some_and(|current| it.epoch >= Some(current.epoch()))
            }
        };
        let lost = gone.iter().copied().filter(|it| still_known.contains(it));
        Ok(lost.filter(is_lost).copied().collect())
    }
}

fn remember(
    repository: &Repository,
    catalog: &Catalog,
    there: &There,
    findings: &[Finding],
) -> Result<(), VerifyError> {
    let plain = |folder, name| KnownDocument { folder, name, point: None, epoch: None };
    let holds = there.holds.iter().map(|(id, hold)| KnownDocument {
        point: Some(hold.point),
        ..plain(DocumentFolder::Holds, Hex(id.0))
    });
    let mut documents: Vec<KnownDocument> = holds.collect();
    let records = there.names.iter().filter(|(folder, _)| *folder == DocumentFolder::Removed);
    let records = records.map(|(folder, name)| plain(*folder, Hex(*name)));
    let is_good = |it: &KnownDocument| findings.iter().all(|finding| finding.file != file(it));
    documents.extend(records.filter(is_good));
    // Of the lists, the one that counts is enough.
    if let Some(current) = &there.current
        && let Some(id) = current.id
    {
        let epoch = Some(current.epoch());
        documents.push(KnownDocument { epoch, ..plain(DocumentFolder::Condemned, Hex(id.0)) });
    }
    catalog.add_documents(&documents)?;
    // One that was removed since it was read must not be missed next time.
    for (id, _) in there.holds.iter() {
        if repository.file_system().stat(&repository.layout().hold(id))?.is_none() {
            catalog.forget_document(DocumentFolder::Holds, Hex(id.0))?;
        }
    }
    Ok(())
}
