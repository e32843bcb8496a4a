//! Whether all that was acknowledged is there.

use super::model::{DISKS, Disks};
use super::world::World;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

/// What was looked at.
#[derive(Debug, Default, Clone, Copy)]
pub struct Checked {
    /// Points that had to be listed.
    pub points: usize,
    /// Points that were restored and compared.
    pub restored: usize,
    /// Runs that had to be in the history.
    pub runs: usize,
    /// Verifications of the replica and of repositories.
    pub verified: usize,
}

impl std::ops::AddAssign for Checked {
    fn add_assign(&mut self, other: Self) {
        self.points += other.points;
        self.restored += other.restored;
        self.runs += other.runs;
        self.verified += other.verified;
    }
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { points, restored, runs, verified } = self;
        write!(
            f,
            "{points} acknowledged points found, {restored} restored and compared, {runs} records \
             of runs found, {verified} verifications"
        )
    }
}

/// Compares images with what they must be.
fn compare(folder: &Path, disks: &Disks, what: &str) -> Result<(), String> {
    for (name, expected) in DISKS.iter().zip(disks.iter()) {
        let path = folder.join(format!("{name}.raw"));
        let found = std::fs::read(&path).map_err(|e| format!("{what}: {}: {e}", path.display()))?;
        if found != *expected {
            let differs = found.iter().zip(expected).position(|(a, b)| a != b);
            let (len, right) = (found.len(), expected.len());
            return Err(format!(
                "{what}: {} has {len} bytes of {right} and differs at {differs:?}",
                path.display()
            ));
        }
    }
    Ok(())
}

impl World {
    /// What must hold at once, before anything runs.
    fn check_files(&self) -> Result<(), String> {
        let content = |id: &String| self.model.contents.get(id);
        if let Some(disks) = self.model.standby.as_ref().and_then(content) {
            compare(&self.folder.join("standby"), disks, "the replica that was acknowledged")?;
        }
        if let Some((folder, id)) = &self.model.restored {
            compare(folder, &self.model.contents[id], "the restore that was acknowledged")?;
        }
        Ok(())
    }

    /// All that must hold, and what the next commands make of it.
    pub fn check(&mut self) -> Result<Checked, String> {
        let mut checked = Checked::default();
        self.check_files()?;
        self.check_points(&mut checked)?;
        let newest = self.model.newest().id.clone();
        self.check_restore(&newest, &mut checked)?;
        let points = self.model.points.len() as u64;
        let any = self.model.points[self.random.below(points) as usize].id.clone();
        if any != newest {
            self.check_restore(&any, &mut checked)?;
        }
        self.check_replica(&mut checked)?;
        self.check_now_and_then(&mut checked)?;
        self.check_history(&mut checked)?;
        Ok(checked)
    }

    /// The points that are listed: all that must be there, and only what may be.
    fn check_points(&mut self, checked: &mut Checked) -> Result<(), String> {
        let listed = self.succeed(&["points"])?.lines("point");
        let of = |repository: &str| -> BTreeMap<String, u64> {
            let lines = listed.iter().filter(|line| line["repository"] == repository);
            let id = |line: &Value| line["point"].as_str().unwrap().to_owned();
            lines.map(|line| (id(line), line["sequence"].as_u64().unwrap())).collect()
        };
        let (main, second) = (of("main"), of("second"));
        checked.points += self.model.points.len() + self.model.copied.len();
        let second: BTreeSet<u64> = second.into_values().collect();
        if let Some(lost) = self.model.copied.keys().find(|number| !second.contains(number)) {
            return Err(format!("point #{lost} was copied, and is not in the second repository"));
        }
        if let Some(back) = self.model.gone.iter().find(|id| main.contains_key(*id)) {
            return Err(format!("the point {back} was removed, and is there again"));
        }
        for point in std::mem::take(&mut self.model.points) {
            let is_there = main.contains_key(&point.id);
            if !is_there && !self.model.may_go.contains(&point.id) {
                return Err(format!("the point {} was acknowledged, and is lost", point.id));
            }
            if is_there {
                self.model.points.push(point);
            }
        }
        self.model.may_go.clear();
        self.adopt(&main, checked)
    }

    /// What is there besides must be what a backup was about to store.
    fn adopt(&mut self, main: &BTreeMap<String, u64>, checked: &mut Checked) -> Result<(), String> {
        let known: BTreeSet<String> = self.model.points.iter().map(|it| it.id.clone()).collect();
        let in_flight = std::mem::take(&mut self.model.in_flight);
        for (id, sequence) in main.iter().filter(|(id, _)| !known.contains(*id)) {
            let folder = self.restore_outside(id, "main")?;
            let fitting = in_flight.iter().find(|disks| compare(&folder, disks, "").is_ok());
            let Some(disks) = fitting else {
                return Err(format!("the point {id} is there, and nobody made it"));
            };
            self.model.add_point(id, *sequence, &Rc::clone(disks));
            checked.restored += 1;
        }
        Ok(())
    }

    fn restore_outside(
        &mut self,
        id: &str,
        repository: &str,
    ) -> Result<std::path::PathBuf, String> {
        let folder = self.empty_outside("restored");
        let to = folder.to_str().unwrap().to_owned();
        let args = ["restore", "web01", "--repository", repository, "--point", id, "--to", &to];
        self.succeed(&args)?;
        Ok(folder)
    }

    fn check_restore(&mut self, id: &str, checked: &mut Checked) -> Result<(), String> {
        let folder = self.restore_outside(id, "main")?;
        checked.restored += 1;
        compare(&folder, &self.model.contents[id], &format!("the point {id}"))
    }

    fn check_copy(&mut self, checked: &mut Checked) -> Result<(), String> {
        let copied = self.random.below(self.model.copied.len() as u64) as usize;
        let Some((&number, disks)) = self.model.copied.iter().nth(copied) else { return Ok(()) };
        let disks = Rc::clone(disks);
        let folder = self.restore_outside(&format!("#{number}"), "second")?;
        checked.restored += 1;
        compare(&folder, &disks, &format!("the copy of point #{number}"))
    }

    fn check_replica(&mut self, checked: &mut Checked) -> Result<(), String> {
        self.succeed(&["replicate", "now"])?;
        let newest = self.model.newest().clone();
        compare(&self.folder.join("standby"), &newest.disks, "the replica after the next run")?;
        self.model.standby = Some(newest.id);
        if self.random.chance(15) {
            self.succeed(&["verify", "--replica", "standby"])?;
            checked.verified += 1;
        }
        Ok(())
    }

    /// What takes longer is done now and then.
    fn check_now_and_then(&mut self, checked: &mut Checked) -> Result<(), String> {
        if self.random.chance(8) {
            self.succeed(&["verify", "--all"])?;
            self.succeed(&["catalog", "check"])?;
            checked.verified += 1;
        }
        if self.random.chance(10) {
            self.check_copy(checked)?;
        }
        if self.encrypted && self.random.chance(5) {
            self.succeed(&["key", "rotate", "main"])?;
        }
        if self.random.chance(15) {
            let begun = self.begin(super::task::Task::Backup);
            let args: Vec<&str> = begun.args.iter().map(String::as_str).collect();
            let ended = self.succeed(&args)?;
            self.learn(&begun, &ended);
            self.check_no_leftovers()?;
        }
        Ok(())
    }

    /// A writer has swept what others left.
    fn check_no_leftovers(&self) -> Result<(), String> {
        let folder = self.folder.join("repository/tmp");
        let entries =
            std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let left: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("left in {}: {left:?}", folder.display()))
        }
    }

    /// Every run that was acknowledged has its record. The commands before have opened the history.
    fn check_history(&self, checked: &mut Checked) -> Result<(), String> {
        let error = |error: rusqlite::Error| format!("the history: {error}");
        let path = self.state.join("history.sqlite");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let history = rusqlite::Connection::open_with_flags(path, flags).map_err(error)?;
        let query = "SELECT lower(hex(id)) FROM run \
                     WHERE record ->> '$.status' IN ('completed', 'skipped')";
        let mut query = history.prepare(query).map_err(error)?;
        let found = query.query_map([], |row| row.get(0)).map_err(error)?;
        let found: BTreeSet<String> = found.collect::<Result<_, _>>().map_err(error)?;
        checked.runs += self.model.runs.len();
        match self.model.runs.difference(&found).next() {
            Some(lost) => Err(format!("the run {lost} was acknowledged, and has no record")),
            None => Ok(()),
        }
    }
}
