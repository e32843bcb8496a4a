//! Repairing a repository, with all that the settings know of where its content may still be.

use super::error::known;
use super::open::{OpenRepository, open_repository, workers};
use super::run::{About, Done, RunResult, execute, now};
use super::verify_repository::{Judgement, record};
use super::{OperationError, Tell, capture};
use crate::catalog::{RunKind, RunStatus, VerifiedHow};
use crate::nbd::{Address, Options};
use crate::point::Point;
use crate::progress::Progress;
use crate::scrub::{self, HealSource, RepairReport, RepairRequest, TreeSource, Verdict};
use crate::settings::{PlaceKind, Settings};
use crate::source::{self, ImageFormat, Source, SourceSpec};
use crate::store::Lease;
use crate::units::{Name, TreeName};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// How to repair.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Folders with copies of the repository's files, or repositories of the settings that are
    /// looked into first.
    pub from: Vec<String>,
    /// Nothing is changed.
    pub dry_run: bool,
}

/// Verifies the repository `name` of the settings and repairs what is damaged. `agree` is asked
/// after the verification, when everything that is damaged was told.
///
/// # Errors
/// [`OperationError::DamageFound`] when something stays damaged.
pub fn repair_repository(
    settings: &Settings,
    name: &Name,
    options: &RepairOptions,
    progress: &Progress,
    tell: Tell<'_>,
    agree: &mut dyn FnMut() -> bool,
) -> RunResult {
    execute(settings, About::repository(RunKind::Repair, name), progress, |run| {
        let open = open_repository(settings, name)?;
        let others = Others::open(settings, name, &options.from);
        let mut sources = own_disks(settings, name)?;
        sources.extend(others.points());
        let copies: Vec<PathBuf> = options
            .from
            .iter()
            .filter(|text| !settings.repositories.keys().any(|name| name.as_str() == *text))
            .map(PathBuf::from)
            .collect();
        let request = RepairRequest {
            run,
            now: now(),
            workers: workers(settings),
            copies: &copies,
            sources: &sources,
        };
        let mut agreed = None;
        let mut ask = |verdict: &Verdict| {
            Judgement { settings, name, verdict, knows_points: true }.tell(tell);
            let answer = !options.dry_run && agree();
            *agreed.insert(answer)
        };
        let (repository, catalog) = (&open.repository, &open.catalog);
        let report = scrub::repair(repository, catalog, &request, progress, &mut ask)?;
        let verdict = report.after.as_ref().unwrap_or(&report.before);
        let warning = record(settings, &open, verdict, VerifiedHow::All, run);
        let mut done = conclude(settings, name, &report, agreed, options);
        done.warnings.extend(others.notes.iter().chain(&report.notes).cloned());
        done.warnings.extend(warning);
        Ok(done)
    })
}

fn conclude(
    settings: &Settings,
    name: &Name,
    report: &RepairReport,
    agreed: Option<bool>,
    options: &RepairOptions,
) -> Done {
    let mut done = Done::new(RunStatus::Completed);
    let Some(after) = &report.after else {
        if agreed.is_some() {
            done.status = RunStatus::Skipped;
            let why = if options.dry_run { "dry run" } else { "not confirmed" };
            done.reason = Some(format!("{why}: nothing was changed"));
        } else {
            done.detail = Some("nothing is damaged".to_owned());
        }
        return done;
    };
    done.detail = Some(format!(
        "files copied in: {}, objects healed: {}, objects saved from damaged packs: {}, files set \
         apart: {}",
        report.copied.len(),
        report.healed,
        report.salvaged,
        report.set_apart.len()
    ));
    if !after.is_good() {
        let judgement = Judgement { settings, name, verdict: after, knows_points: true };
        let points = judgement.points_in_words();
        done.status = RunStatus::Incomplete;
        done.reason = Some(format!(
            "points that cannot be restored in full: {points}; `afterimage backup now` stores what \
             it still meets of them, `afterimage restore --skip-damaged` brings back the rest"
        ));
        done.warnings.extend(done.reason.clone());
    }
    done
}

/// Replicas and sources of the machines that this repository keeps.
fn own_disks<'a>(
    settings: &'a Settings,
    name: &Name,
) -> Result<Vec<HealSource<'a>>, OperationError> {
    let mut sources = Vec::new();
    let machines = || settings.machines.values().filter(|machine| &machine.repository == name);
    for replica in settings.replicas.values() {
        if !machines().any(|machine| machine.name == replica.machine) {
            continue;
        }
        for disk in &replica.disks {
            let what = format!("replica {}, disk {}", replica.name, disk.name);
            let of = (replica.machine.clone(), disk.name.clone());
            if disk.target_kind == PlaceKind::Export {
                sources.push(HealSource { what, of, open: Box::new(|| open_export(&disk.target)) });
                continue;
            }
            let spec = SourceSpec {
                path: disk.target.clone(),
                format: Some(ImageFormat::Raw),
                must_be_device: disk.target_kind == PlaceKind::Device,
                quiesced: false,
            };
            sources.push(disk_source(what, of, spec));
        }
    }
    for machine in machines() {
        for (disk, spec) in capture::source_specs(settings, &machine.name)? {
            let what = format!("the source of disk {disk} of machine {}", machine.name);
            sources.push(disk_source(what, (machine.name.clone(), disk), spec));
        }
    }
    Ok(sources)
}

fn open_export(address: &Path) -> Result<Box<dyn Source>, String> {
    let address = address.to_string_lossy().parse::<Address>().map_err(|e| e.to_string())?;
    let source = source::open_nbd(&address, &Options::default()).map_err(|e| e.to_string())?;
    Ok(Box::new(source))
}

fn disk_source<'a>(what: String, of: (Name, Name), spec: SourceSpec) -> HealSource<'a> {
    let open = move || source::open(&spec).map_err(|error| error.to_string());
    HealSource { what, of, open: Box::new(open) }
}

/// Other repositories of the settings, as far as they can be opened.
struct Others {
    open: Vec<(Name, OpenRepository, Vec<Point>)>,
    /// Nothing is removed from them meanwhile.
    _leases: Vec<Option<Lease>>,
    notes: Vec<String>,
}

impl Others {
    /// Those of `first` before the others.
    fn open(settings: &Settings, except: &Name, first: &[String]) -> Self {
        let mut others = Self { open: Vec::new(), _leases: Vec::new(), notes: Vec::new() };
        let mut names: Vec<&Name> =
            settings.repositories.keys().filter(|name| *name != except).collect();
        names.sort_by_key(|name| !first.iter().any(|text| text == name.as_str()));
        for name in names {
            if let Err(error) = others.add(settings, name) {
                others.notes.push(format!("repository {name} was not looked into: {error}"));
            }
        }
        others
    }

    fn add(&mut self, settings: &Settings, name: &Name) -> Result<(), OperationError> {
        known(settings, "repository", &settings.repositories, name.as_str())?;
        let open = open_repository(settings, name)?;
        let lease = open.repository.lock_for_reading("a repair of another repository")?;
        open.catalog.sync(&open.repository)?;
        let mut points = open.catalog.points(None)?;
        // The newest first: it is the most likely to be whole.
        points.reverse();
        self._leases.push(lease);
        self.open.push((name.clone(), open, points));
        Ok(())
    }

    /// Every disk of every point, each content once.
    fn points(&self) -> Vec<HealSource<'_>> {
        let mut sources = Vec::new();
        for (name, open, points) in &self.open {
            let mut seen: HashSet<(Option<TreeName>, u64)> = HashSet::new();
            for point in points {
                let manifest = &point.manifest;
                let disks = manifest.disks.iter().map(|disk| (&disk.name, disk.tree()));
                let files = manifest.definition.iter().map(|file| (&file.name, file.tree()));
                for (disk, tree) in disks.chain(files) {
                    if !seen.insert((tree.root, tree.size_bytes)) {
                        continue;
                    }
                    let at = format!("{} #{}", manifest.machine, manifest.sequence.0);
                    let what = format!("repository {name}, point {at}, disk {disk}");
                    let read = move || {
                        TreeSource::new(&open.repository, &open.catalog, &tree)
                            .map(|source| Box::new(source) as Box<dyn Source>)
                            .map_err(|error| error.to_string())
                    };
                    let of = (manifest.machine.clone(), disk.clone());
                    sources.push(HealSource { what, of, open: Box::new(read) });
                }
            }
        }
        sources
    }
}
