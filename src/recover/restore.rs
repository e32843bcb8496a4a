//! Writing a point out, to images or devices.
//!
//! Invariant: a file has its final name only when it is complete, every chunk was checked by its
//! name, and it is durable. Until then it is called `NAME.partial`. What it replaces is in nobody's
//! use, nor a source or replica, at that moment.

use super::RestoreError;
use super::missing::{Missing, map_path, readable_bytes, remove_map, write_map};
use crate::destination::{
    CopyMode, CopyOptions, Damaged, Target, TargetAccess, TargetKind, copy_tree,
};
use crate::extent::Extent;
use crate::fsio::{FileKind, FileStat, FileSystem, existing_folder, is_same_file, parent_dir};
use crate::point::{Point, TreeRef, load_point, thin_bytes};
use crate::progress::Progress;
use crate::store::{ObjectIndex, Repository};
use crate::units::{Breakage, Name, PointId, is_broken};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How to restore.
#[derive(Debug, Clone)]
pub struct RestoreOptions {
    /// Only this disk.
    pub disk: Option<Name>,
    /// Where to.
    pub to: PathBuf,
    /// Existing files are replaced, devices overwritten.
    pub force: bool,
    /// Files and devices that are never overwritten, with what they are.
    pub protected: Vec<(FileStat, String)>,
    /// Threads that fetch and write.
    pub workers: usize,
    /// What becomes of content that the repository cannot give back.
    pub damaged: Damaged,
}

/// What will be written where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The point.
    pub point: PointId,
    /// Each item.
    pub items: Vec<RestoreItem>,
}

/// A disk or a file of the definition, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreItem {
    /// Its name.
    pub name: Name,
    /// Its content.
    pub tree: TreeRef,
    /// Its final path.
    pub path: PathBuf,
    /// What is written.
    pub kind: TargetKind,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Final paths, in the order of the plan.
    pub paths: Vec<PathBuf>,
    /// What is missing in them.
    pub missing: Vec<Missing>,
}

/// Decides what will be written where, and refuses what must not be. Nothing is written.
///
/// # Errors
/// [`RestoreError`], with the path and what to do.
pub fn plan_restore(
    fs: &dyn FileSystem,
    repository: &Repository,
    index: &dyn ObjectIndex,
    point: &Point,
    options: &RestoreOptions,
) -> Result<RestorePlan, RestoreError> {
    // What the catalog says of the point is a copy: only the manifest itself is authenticated.
    let point = &load_point(repository, point.id)?;
    let disks = chosen_disks(point, options)?;
    let items = match fs.stat(&options.to)? {
        Some(FileStat { kind: FileKind::BlockDevice, .. }) => {
            let item = single(point, &disks, &options.to, TargetKind::Device)?;
            if !options.force {
                return Err(RestoreError::DeviceNeedsForce { path: options.to.clone() });
            }
            vec![item]
        }
        Some(FileStat { kind: FileKind::File, .. }) => {
            vec![single(point, &disks, &options.to, TargetKind::Image)?]
        }
        Some(FileStat { kind: FileKind::Other, .. }) => {
            return Err(RestoreError::NotATarget { path: options.to.clone() });
        }
        None if options.disk.is_some() && !ends_with_slash(&options.to) => {
            vec![single(point, &disks, &options.to, TargetKind::Image)?]
        }
        Some(FileStat { kind: FileKind::Directory, .. }) | None => {
            folder_items(point, &disks, options)
        }
    };
    for item in &items {
        check_item(fs, repository, item, options)?;
    }
    check_room(fs, repository, index, &items, options)?;
    Ok(RestorePlan { point: point.id, items })
}

fn ends_with_slash(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

fn chosen_disks(
    point: &Point,
    options: &RestoreOptions,
) -> Result<Vec<(Name, TreeRef)>, RestoreError> {
    let all = || point.manifest.disks.iter();
    let Some(name) = &options.disk else {
        return Ok(all().map(|disk| (disk.name.clone(), disk.tree())).collect());
    };
    match point.manifest.disk(name) {
        Some(disk) => Ok(vec![(disk.name.clone(), disk.tree())]),
        None => Err(RestoreError::NoSuchDisk {
            point: point.id.short(),
            disk: name.clone(),
            has: all().map(|disk| disk.name.as_str()).collect::<Vec<_>>().join(", "),
        }),
    }
}

fn single(
    point: &Point,
    disks: &[(Name, TreeRef)],
    path: &Path,
    kind: TargetKind,
) -> Result<RestoreItem, RestoreError> {
    match disks {
        [(name, tree)] => {
            Ok(RestoreItem { name: name.clone(), tree: *tree, path: path.to_owned(), kind })
        }
        _ => {
            let (point, count) = (point.id.short(), disks.len());
            Err(RestoreError::SeveralDisks { point, count })
        }
    }
}

fn folder_items(
    point: &Point,
    disks: &[(Name, TreeRef)],
    options: &RestoreOptions,
) -> Vec<RestoreItem> {
    let kind = TargetKind::Image;
    let item = |name: &Name, tree, path| RestoreItem { name: name.clone(), tree, path, kind };
    let mut items: Vec<RestoreItem> = disks
        .iter()
        .map(|(name, tree)| item(name, *tree, options.to.join(format!("{name}.raw"))))
        .collect();
    if options.disk.is_none() {
        let folder = options.to.join("definition");
        let definition = point.manifest.definition.iter();
        items.extend(definition.map(|f| item(&f.name, f.tree(), folder.join(f.name.as_str()))));
    }
    items
}

fn check_item(
    fs: &dyn FileSystem,
    repository: &Repository,
    item: &RestoreItem,
    options: &RestoreOptions,
) -> Result<(), RestoreError> {
    let root = repository.layout().root();
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    if existing_folder(&item.path).canonicalize().is_ok_and(|folder| folder.starts_with(&root)) {
        let what = "inside the repository".to_owned();
        return Err(RestoreError::Protected { path: item.path.clone(), what });
    }
    let Some(stat) = fs.stat(&item.path)? else { return Ok(()) };
    check_protected(&item.path, options, |other| is_same_file(other, &stat))?;
    if options.force { Ok(()) } else { Err(RestoreError::Exists { path: item.path.clone() }) }
}

fn check_protected(
    path: &Path,
    options: &RestoreOptions,
    is_it: impl Fn(&FileStat) -> bool,
) -> Result<(), RestoreError> {
    match options.protected.iter().find(|(other, _)| is_it(other)) {
        None => Ok(()),
        Some((_, what)) => {
            Err(RestoreError::Protected { path: path.to_owned(), what: what.clone() })
        }
    }
}

/// Looks again at what an image is about to replace, as names may lead elsewhere by now than when
/// it was planned and the user was asked; and claims it: a guest that runs on it would go on in a
/// file without a name. A folder cannot be replaced, and nothing else is of any worth.
fn claim_replaced(
    fs: &dyn FileSystem,
    repository: &Repository,
    item: &RestoreItem,
    options: &RestoreOptions,
) -> Result<Option<Target>, RestoreError> {
    check_item(fs, repository, item, options)?;
    let kind = fs.stat(&item.path)?.map(|stat| stat.kind);
    if !options.force || !matches!(kind, Some(FileKind::File | FileKind::BlockDevice)) {
        return Ok(None);
    }
    let claimed = Target::open(fs, &item.path, None, TargetAccess::Write);
    claimed.map(Some).map_err(|error| RestoreError::target(&item.name, error))
}

fn check_room(
    fs: &dyn FileSystem,
    repository: &Repository,
    index: &dyn ObjectIndex,
    items: &[RestoreItem],
    options: &RestoreOptions,
) -> Result<(), RestoreError> {
    let images = items.iter().filter(|item| item.kind == TargetKind::Image);
    let mut needed_bytes = 0;
    for item in images {
        needed_bytes += match options.damaged {
            Damaged::Fail => thin_bytes(repository, index, &item.tree)?,
            Damaged::Skip => readable_bytes(repository, index, &item.tree)?,
        };
    }
    let path = if options.to.is_dir() { options.to.clone() } else { existing_folder(&options.to) };
    let free_bytes = fs.free_bytes(&path)?;
    if needed_bytes <= free_bytes {
        Ok(())
    } else {
        Err(RestoreError::NoSpace { path, needed_bytes, free_bytes })
    }
}

/// Writes what was planned.
///
/// # Errors
/// Partial files are removed; a device that was being overwritten holds nothing of use.
pub fn restore(
    fs: &Arc<dyn FileSystem>,
    repository: &Repository,
    index: &dyn ObjectIndex,
    plan: &RestorePlan,
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<Restored, RestoreError> {
    for item in &plan.items {
        progress.add_total(item.tree.size_bytes);
    }
    let mut restored = Restored { paths: Vec::new(), missing: Vec::new() };
    for item in &plan.items {
        progress.step(format!("write {}", item.name));
        let missing = match item.kind {
            TargetKind::Image => {
                restore_image(fs, repository, index, (plan.point, item), options, progress)?
            }
            TargetKind::Device | TargetKind::Export => {
                restore_device(fs.as_ref(), repository, index, item, options, progress)?
            }
        };
        if !missing.is_empty() {
            let map = (item.kind == TargetKind::Image).then(|| map_path(&item.path));
            let disk = item.name.clone();
            restored.missing.push(Missing { disk, ranges: missing, map });
        }
        restored.paths.push(item.path.clone());
    }
    Ok(restored)
}

/// A partial file, removed unless it was given its final name.
struct Partial<'a> {
    fs: &'a dyn FileSystem,
    path: PathBuf,
    done: bool,
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if !self.done {
            // Best effort: its name says that it is not complete.
            let _ = self.fs.remove_file(&self.path);
        }
    }
}

fn restore_image(
    fs: &Arc<dyn FileSystem>,
    repository: &Repository,
    index: &dyn ObjectIndex,
    (point, item): (PointId, &RestoreItem),
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<Vec<Extent>, RestoreError> {
    // Before the copy as well, so that nobody waits for it in vain.
    drop(claim_replaced(fs.as_ref(), repository, item, options)?);
    fs.create_dir_all(&parent_dir(&item.path))?;
    let mut path = item.path.clone().into_os_string();
    path.push(".partial");
    let path = PathBuf::from(path);
    remove_stale(fs.as_ref(), &item.name, &path)?;
    let error = |error| RestoreError::target(&item.name, error);
    let target = Target::create(fs.as_ref(), &path).map_err(error)?;
    let partial = Partial { fs: fs.as_ref(), path, done: false };
    target.resize(item.tree.size_bytes).map_err(error)?;
    let RestoreOptions { workers, damaged, .. } = *options;
    let copy = CopyOptions { mode: CopyMode::Fresh, workers, damaged };
    let outcome = copy_tree(repository, index, &item.tree, &target, copy, progress)
        .map_err(|error| RestoreError::copy(&item.name, error))?;
    if !is_broken(Breakage::RestoreUnsynced) {
        target.sync().map_err(error)?;
    }
    put_in_place(fs, repository, (point, item), options, partial, &outcome.missing)?;
    Ok(outcome.missing)
}

/// Gives a complete image its final name, by which another one may go.
fn put_in_place(
    fs: &Arc<dyn FileSystem>,
    repository: &Repository,
    (point, item): (PointId, &RestoreItem),
    options: &RestoreOptions,
    mut partial: Partial<'_>,
    missing: &[Extent],
) -> Result<(), RestoreError> {
    let _replaced = claim_replaced(fs.as_ref(), repository, item, options)?;
    if !missing.is_empty() {
        write_map(fs, point, item, missing)?;
    }
    let renamed = match options.force {
        true => fs.rename(&partial.path, &item.path),
        false => fs.rename_no_replace(&partial.path, &item.path),
    };
    renamed.map_err(|error| match error.already_exists() {
        true => RestoreError::Exists { path: item.path.clone() },
        false => error.into(),
    })?;
    partial.done = true;
    fs.sync_dir(&parent_dir(&item.path))?;
    if missing.is_empty() { remove_map(fs.as_ref(), &item.path) } else { Ok(()) }
}

/// What an interrupted restore left goes, unless another one is still writing to it.
fn remove_stale(fs: &dyn FileSystem, disk: &Name, path: &Path) -> Result<(), RestoreError> {
    let Some(stat) = fs.stat(path)? else { return Ok(()) };
    if stat.kind != FileKind::File {
        return Err(RestoreError::NotATarget { path: path.to_owned() });
    }
    // Held until the name is gone: nobody else can begin to write to it in between.
    let _claimed = Target::open(fs, path, Some(TargetKind::Image), TargetAccess::Write)
        .map_err(|error| RestoreError::target(disk, error))?;
    Ok(fs.remove_file(path)?)
}

fn restore_device(
    fs: &dyn FileSystem,
    repository: &Repository,
    index: &dyn ObjectIndex,
    item: &RestoreItem,
    options: &RestoreOptions,
    progress: &Progress,
) -> Result<Vec<Extent>, RestoreError> {
    let error = |error| RestoreError::target(&item.name, error);
    let target =
        Target::open(fs, &item.path, Some(item.kind), TargetAccess::Write).map_err(error)?;
    // The name may lead to another one by now than when this was planned.
    let raw_device = target.identity().map_err(error)?.raw_device;
    check_protected(&item.path, options, |other| other.raw_device == raw_device)?;
    target.check_room(item.tree.size_bytes).map_err(error)?;
    let RestoreOptions { workers, damaged, .. } = *options;
    let copy = CopyOptions { mode: CopyMode::Overwrite, workers, damaged };
    let outcome = copy_tree(repository, index, &item.tree, &target, copy, progress)
        .map_err(|error| RestoreError::copy(&item.name, error))?;
    target.sync().map_err(error)?;
    Ok(outcome.missing)
}
