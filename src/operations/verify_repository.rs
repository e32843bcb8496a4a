//! Verifying a repository, and what its damage means for points and replicas.

use super::error::known;
use super::find::find;
use super::open::{OpenRepository, open_repository, workers};
use super::run::{About, Done, RunResult, execute, now};
use super::{OperationError, status};
use crate::catalog::{History, PointVerified, RunKind, RunStatus, VerifiedHow};
use crate::fsio::{FileSystem, RealFileSystem};
use crate::point::Point;
use crate::progress::Progress;
use crate::recover::{PointChoice, RestoreError, choose_point};
use crate::report::{DamageLine, DamagedPointLine, Message, MissingDisk, PointAt, PointLabel};
use crate::scrub::{
    Finding, PointVerdict, Scope, Verdict, VerifyRequest, verify_files, verify_repository,
};
use crate::settings::Settings;
use crate::store::{Layout, StoreError};
use crate::units::{Name, PointId, RunId, format_bytes, format_count};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Points that a message lists one by one.
const POINTS_LISTED_MAX: usize = 10;

/// What of a repository is verified.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyScope {
    /// Every byte.
    All,
    /// This share of the packs, in percent.
    Sample(u32),
    /// Every file against its name, without keys.
    NoKey,
}

/// Where lines about damage go while it is told.
pub type Tell<'t> = &'t mut dyn FnMut(Message);

/// Verifies the repository `name` of the settings.
///
/// # Errors
/// [`OperationError::DamageFound`] when anything is damaged.
pub fn verify_whole(
    settings: &Settings,
    name: &Name,
    scope: VerifyScope,
    progress: &Progress,
    tell: Tell<'_>,
) -> RunResult {
    let about = About::repository(RunKind::Verify, name);
    execute(settings, about, progress, |run| match scope {
        VerifyScope::NoKey => without_key(settings, name, progress, tell),
        VerifyScope::All | VerifyScope::Sample(_) => {
            whole(settings, name, scope, run, progress, tell)
        }
    })
}

fn whole(
    settings: &Settings,
    name: &Name,
    scope: VerifyScope,
    run: RunId,
    progress: &Progress,
    tell: Tell<'_>,
) -> Result<Done, OperationError> {
    let open = open_repository(settings, name)?;
    let mut warnings = Vec::new();
    let last_read = match History::open(&settings.state_dir) {
        Ok(history) => history.packs_read(open.repository.header().id)?,
        Err(error) => {
            warnings.push(format!("when packs were last read is not known: {error}"));
            BTreeMap::new()
        }
    };
    let (scope, how) = match scope {
        VerifyScope::Sample(percent) => {
            (Scope::Sample { percent, last_read: &last_read }, VerifiedHow::Sample)
        }
        _ => (Scope::All, VerifiedHow::All),
    };
    let request = VerifyRequest { scope, workers: workers(settings) };
    let verdict = verify_repository(&open.repository, &open.catalog, &request, progress)?;
    warnings.extend(record(settings, &open, &verdict, how, run));
    let mut done = Judgement { settings, name, verdict: &verdict, knows_points: true }.judge(tell);
    done.warnings.extend(warnings);
    Ok(done)
}

/// Verifies every byte that one point needs. `point` is as for a restore.
///
/// # Errors
/// [`OperationError::DamageFound`] when anything of it is damaged.
pub fn verify_point(
    settings: &Settings,
    machine: &str,
    point: &str,
    progress: &Progress,
    tell: Tell<'_>,
) -> RunResult {
    let about = match machine.parse() {
        Ok(machine) => About::machine(RunKind::Verify, &machine),
        // It is refused below, with the nearest name.
        Err(_) => About::anything(RunKind::Verify),
    };
    execute(settings, about, progress, |run| {
        let choice = PointChoice::parse(point, &TimeZone::system()).map_err(RestoreError::from)?;
        let found = find(settings, machine)?;
        if let (true, Some(damage)) = (found.points.is_empty(), found.damages.first()) {
            return Err(StoreError::from(damage.clone()).into());
        }
        let point = choose_point(&found.points, &found.machine, &choice)
            .map_err(RestoreError::from)?
            .clone();
        let open = &found.open;
        let request = VerifyRequest { scope: Scope::Point(point.id), workers: workers(settings) };
        let verdict = verify_repository(&open.repository, &open.catalog, &request, progress)?;
        let warning = record(settings, open, &verdict, VerifiedHow::Point, run);
        let name = &found.repository;
        let judgement = Judgement { settings, name, verdict: &verdict, knows_points: true };
        let mut done = judgement.judge(tell);
        done.point = Some(PointAt::from(&point));
        done.warnings.extend(warning);
        Ok(done)
    })
}

fn without_key(
    settings: &Settings,
    name: &Name,
    progress: &Progress,
    tell: Tell<'_>,
) -> Result<Done, OperationError> {
    let (_, place) = known(settings, "repository", &settings.repositories, name.as_str())?;
    let (fs, layout) = (RealFileSystem, Layout::new(place.path.clone()));
    if fs.stat(&layout.header())?.is_none() {
        return Err(StoreError::Missing { path: place.path.clone() }.into());
    }
    let found = verify_files(&fs, &layout, workers(settings), progress)?;
    let bytes = format_bytes(found.bytes);
    let files = format_count(found.files as u64, "file");
    let verdict = Verdict::from(found);
    let judgement = Judgement { settings, name, verdict: &verdict, knows_points: false };
    let mut done = judgement.judge(tell);
    done.detail = Some(format!(
        "{files} ({bytes}) compared with their names; not checked without keys: the header, whether \
         the index of key slots is authentic, what the objects in packs decode to, and whether points \
         have all that they need"
    ));
    Ok(done)
}

/// Notes the result for each point; gives back why that failed.
pub(super) fn record(
    settings: &Settings,
    open: &OpenRepository,
    verdict: &Verdict,
    how: VerifiedHow,
    run: RunId,
) -> Option<String> {
    let time = now();
    let verified = |point: &PointVerdict| PointVerified {
        point: point.id,
        run,
        time,
        how,
        is_good: point.is_good(),
        damaged_bytes: point.damaged_bytes(),
    };
    let points: Vec<PointVerified> = verdict.points.iter().map(verified).collect();
    let write = || {
        let present = open.catalog.packs()?.into_keys().collect();
        let repository = open.repository.header().id;
        let history = History::open(&settings.state_dir)?;
        history.note_verified(repository, &points, &verdict.good_packs, &present, time)
    };
    write().err().map(|error| format!("the result for each point is not recorded: {error}"))
}

/// Turns a verdict into lines and the end of a run.
pub(super) struct Judgement<'a> {
    pub settings: &'a Settings,
    pub name: &'a Name,
    pub verdict: &'a Verdict,
    /// Whether the points were looked at: without keys they are not.
    pub knows_points: bool,
}

impl Judgement<'_> {
    fn judge(&self, tell: Tell<'_>) -> Done {
        self.tell(tell);
        let verdict = self.verdict;
        let mut done = Done::new(RunStatus::Completed);
        done.detail = Some(self.detail());
        done.warnings.extend(verdict.warnings.iter().cloned());
        done.warnings.extend(verdict.unchecked.iter().map(|it| format!("not checked: {it}")));
        if verdict.quarantined.0 > 0 {
            let (files, bytes) = (verdict.quarantined.0, format_bytes(verdict.quarantined.1));
            done.warnings.push(format!(
                "{} holds {} ({bytes}) that a repair set apart; remove the folder when nothing of \
                 it is wanted any more",
                self.quarantine(),
                format_count(files as u64, "damaged file")
            ));
        }
        if !verdict.is_good() {
            let error = OperationError::DamageFound {
                repository: self.name.clone(),
                count: verdict.findings.len(),
                points: match self.knows_points {
                    true => {
                        let points = self.points_in_words();
                        format!("points that cannot be restored in full: {points}")
                    }
                    false => "which points need it cannot be told without keys".to_owned(),
                },
            };
            done.status = RunStatus::Failed;
            done.reason = Some(error.to_string());
            done.error = Some(error);
        } else if !verdict.unchecked.is_empty() {
            done.status = RunStatus::Incomplete;
        }
        done
    }

    /// A line for each damage and for each point that is harmed.
    pub fn tell(&self, tell: Tell<'_>) {
        let replicas = self.replicas();
        for finding in &self.verdict.findings {
            tell(Message::Damage(self.damage_line(finding, &replicas)));
        }
        for point in self.verdict.points.iter().filter(|point| !point.is_good()) {
            tell(Message::DamagedPoint(self.point_line(point, &replicas)));
        }
    }

    fn quarantine(&self) -> String {
        let place = self.settings.repositories.get(self.name);
        let path = place.map(|place| Layout::new(place.path.clone()).quarantine());
        path.unwrap_or_default().display().to_string()
    }

    fn detail(&self) -> String {
        let verdict = self.verdict;
        let read = format_bytes(verdict.bytes_read);
        // Of one point, all that it needs was read, wherever it lies.
        if matches!((verdict.bytes_total, verdict.points.len()), (0, 1)) {
            return format!("read {read}");
        }
        let total = format_bytes(verdict.bytes_total);
        let points = format_count(verdict.points.len() as u64, "point");
        format!("read {read} of {total} in packs, {points}")
    }

    /// The points that are harmed.
    pub fn points_in_words(&self) -> String {
        let harmed: Vec<String> = self
            .verdict
            .points
            .iter()
            .filter(|point| !point.is_good())
            .map(|point| label(point).to_string())
            .collect();
        match harmed.len() {
            0 => "none".to_owned(),
            count @ ..=POINTS_LISTED_MAX => harmed[..count].join(", "),
            count => {
                let more = count - POINTS_LISTED_MAX;
                format!("{} and {more} more", harmed[..POINTS_LISTED_MAX].join(", "))
            }
        }
    }

    fn damage_line(
        &self,
        finding: &Finding,
        replicas: &BTreeMap<PointId, Vec<Name>>,
    ) -> DamageLine {
        let points = self.verdict.points.iter().filter(|it| finding.points.contains(&it.id));
        let mut labels: Vec<PointLabel> = points.map(label).collect();
        if labels.is_empty() {
            let unknown = |id: &PointId| PointLabel { machine: None, sequence: None, point: *id };
            labels = finding.points.iter().map(unknown).collect();
        }
        let at = finding.points.iter().filter_map(|id| replicas.get(id)).flatten();
        let mut replicas: Vec<Name> = at.cloned().collect();
        replicas.sort();
        replicas.dedup();
        DamageLine {
            repository: self.name.clone(),
            kind: finding.kind.describe().to_owned(),
            file: (!finding.file.is_empty()).then(|| finding.file.clone()),
            pack: finding.pack,
            reason: finding.reason.clone(),
            object_count: finding.object_count,
            objects: finding.objects.clone(),
            points: labels,
            points_unknown: !self.knows_points,
            replicas,
        }
    }

    fn point_line(
        &self,
        point: &PointVerdict,
        replicas: &BTreeMap<PointId, Vec<Name>>,
    ) -> DamagedPointLine {
        let disks = point.harmed.iter().map(|disk| MissingDisk {
            disk: disk.name.clone(),
            missing_bytes: disk.damaged_bytes,
            ranges: disk.ranges.iter().map(|&range| range.into()).collect(),
        });
        DamagedPointLine {
            repository: self.name.clone(),
            label: label(point),
            unreadable: point.unreadable.clone(),
            damaged_bytes: point.damaged_bytes(),
            disks: disks.collect(),
            replicas: replicas.get(&point.id).cloned().unwrap_or_default(),
        }
    }

    /// Replicas by the points that their superblocks name.
    fn replicas(&self) -> BTreeMap<PointId, Vec<Name>> {
        let mut found: BTreeMap<PointId, Vec<Name>> = BTreeMap::new();
        for replica in self.settings.replicas.values() {
            // What cannot be read is told by `status`.
            let Ok(Some(record)) = status::record(self.settings, replica) else { continue };
            for point in record.points() {
                found.entry(point.id).or_default().push(replica.name.clone());
            }
        }
        found
    }
}

fn label(point: &PointVerdict) -> PointLabel {
    let manifest = point.point.as_ref().map(|point: &Point| &point.manifest);
    PointLabel {
        machine: manifest.map(|manifest| manifest.machine.clone()),
        sequence: manifest.map(|manifest| manifest.sequence),
        point: point.id,
    }
}
