//! A machine, its repository, a second one, a replica and the state of the program, all in one folder
//! that may fail, and what is known of it outside.

use super::ended::{self, Ended};
use super::model::{DISKS, Disks, KEEP, Model, changed, first_disks};
use super::place::Place;
use super::task::Task;
use afterimage::testing::Random;
use afterimage::units::Breakage;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

/// The program; `AFTERIMAGE_PROGRAM` names another one.
fn program() -> String {
    let own = env!("CARGO_BIN_EXE_afterimage");
    std::env::var("AFTERIMAGE_PROGRAM").unwrap_or_else(|_| own.to_owned())
}

/// Where catalogs and history may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Beside,
    Elsewhere,
    MayBeElsewhere,
}

pub struct World {
    /// Where all of it lies that may fail.
    pub folder: PathBuf,
    /// Catalogs and history: there, or on another disk that keeps all that it got.
    pub state: PathBuf,
    /// The settings, and what is restored to be looked at.
    outside: Place,
    pub random: Random,
    pub encrypted: bool,
    /// What the program does wrong on purpose.
    pub breakage: Option<Breakage>,
    source: Disks,
    pub model: Model,
    /// How long a command takes, by its place in [`Task::ALL`].
    typical: [Duration; Task::ALL.len()],
    restores: u64,
}

/// A command that is about to run.
pub struct Begun {
    pub task: Task,
    pub args: Vec<String>,
    /// What is backed up.
    disks: Disks,
    /// Where a point is restored to, and which.
    restore: Option<(PathBuf, String)>,
    /// What a copy must bring over.
    there: Vec<(u64, Disks)>,
}

fn settings(folder: &Path, state: &Path, encrypted: bool) -> String {
    let (folder, state) = (folder.display(), state.display());
    let key = |name: &str| {
        if encrypted { format!("{{ key_file = \"{folder}/{name}\" }}") } else { "\"none\"".into() }
    };
    let (main_key, second_key) = (key("main.key"), key("second.key"));
    let mut text = format!(
        "state_dir = \"{state}\"\n\
         [repository.main]\nurl = \"{folder}/repository\"\nencryption = {main_key}\n\
         [repository.second]\nurl = \"{folder}/second\"\nencryption = {second_key}\n\
         [machine.web01]\nrepository = \"main\"\nkeep = {{ last = {KEEP} }}\n"
    );
    for disk in DISKS {
        text += &format!(
            "[[machine.web01.disk]]\nname = \"{disk}\"\n\
             source = {{ image = \"{folder}/{disk}.img\", format = \"raw\" }}\n"
        );
    }
    text += "[replica.standby]\nmachine = \"web01\"\ntrigger = \"manual\"\n";
    for disk in DISKS {
        text += &format!(
            "[[replica.standby.disk]]\nname = \"{disk}\"\n\
             target = {{ image = \"{folder}/standby/{disk}.raw\" }}\n"
        );
    }
    text
}

impl World {
    /// A world in an empty folder, with a point that is replicated and copied; all of it is safe.
    pub fn new(folder: PathBuf, mut random: Random, elsewhere: State) -> Self {
        let source = first_disks(&mut random);
        let encrypted = random.chance(60);
        let outside = Place::new();
        let is_elsewhere = match elsewhere {
            State::Beside => false,
            State::Elsewhere => true,
            State::MayBeElsewhere => random.chance(40),
        };
        let state = if is_elsewhere { outside.path("state") } else { folder.join("state") };
        let mut world = Self {
            folder,
            state,
            outside,
            encrypted,
            breakage: None,
            random,
            source,
            model: Model::default(),
            typical: [Duration::from_millis(50); Task::ALL.len()],
            restores: 0,
        };
        let text = settings(&world.folder, &world.state, encrypted);
        std::fs::write(world.outside.path("settings.toml"), text).unwrap();
        world.succeed(&["init", "--no-recovery-key"]).unwrap();
        for task in [Task::Backup, Task::Replicate, Task::Copy] {
            let begun = world.begin(task);
            let ended = ended::run(world.command(&begun.args));
            assert!(ended.is_done(), "{ended:?}");
            world.learn(&begun, &ended);
        }
        let folder = std::fs::File::open(&world.folder).unwrap();
        rustix::fs::syncfs(folder).unwrap();
        world
    }

    /// The program with these arguments.
    pub fn command(&self, args: &[impl AsRef<std::ffi::OsStr>]) -> Command {
        self.command_under(&[], args)
    }

    /// The program, started by another one.
    pub fn command_under(
        &self,
        starter: &[String],
        args: &[impl AsRef<std::ffi::OsStr>],
    ) -> Command {
        let mut command = match starter {
            [] => Command::new(program()),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program());
                command
            }
        };
        command.env("AFTERIMAGE_CONFIG", self.outside.path("settings.toml"));
        command.env("RUST_BACKTRACE", "0").current_dir("/");
        if let Some(breakage) = self.breakage {
            command.env("AFTERIMAGE_BREAK", format!("{breakage:?}"));
        }
        command.arg("--json").args(args);
        command
    }

    /// Runs what must succeed, and leave a record in the history.
    pub fn succeed(&mut self, args: &[&str]) -> Result<Ended, String> {
        let ended = ended::run(self.command(args));
        let incomplete = ended.out.contains("there is no complete record");
        if !ended.is_done() || incomplete {
            let mut errors = ended.errors();
            errors.push(format!("{:?} {}", ended.code, ended.summary()["warnings"]));
            let errors = errors.join("; ");
            return Err(format!("{args:?} did not succeed: {errors}\n{ended:#?}"));
        }
        self.model.note_runs(&ended);
        Ok(ended)
    }

    /// A task that fits this world.
    pub fn any_task(&mut self) -> Task {
        match Task::any(&mut self.random) {
            Task::Rotate if !self.encrypted => Task::Backup,
            task => task,
        }
    }

    /// Prepares a task.
    pub fn begin(&mut self, task: Task) -> Begun {
        let mut restore = None;
        let args: Vec<&str> = match task {
            Task::Backup => {
                self.write_source();
                vec!["backup", "now"]
            }
            Task::Replicate => {
                // Until it says so, the images are at no point that is known here.
                self.model.standby = None;
                vec!["replicate", "now"]
            }
            Task::Prune => {
                self.model.expect_prune();
                vec!["prune", "--yes"]
            }
            Task::Gc => vec!["gc", "main"],
            Task::Rotate => vec!["key", "rotate", "main"],
            Task::Copy => vec!["copy", "main", "second"],
            Task::Rebuild => vec!["catalog", "rebuild", "main"],
            Task::Restore => {
                restore = Some(self.begin_restore());
                vec!["restore", "web01"]
            }
        };
        let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        if let Some((folder, point)) = &restore {
            let folder = folder.to_str().unwrap();
            args.extend(["--point", point, "--to", folder].map(str::to_owned));
        }
        let model = &self.model;
        let there = model.points.iter().filter(|point| !model.may_go.contains(&point.id));
        let there = there.map(|point| (point.sequence, Rc::clone(&point.disks))).collect();
        Begun { task, args, disks: Rc::clone(&self.source), restore, there }
    }

    fn write_source(&mut self) {
        self.source = changed(&self.source, &mut self.random);
        for (name, disk) in DISKS.iter().zip(self.source.iter()) {
            // The source is no part of what is tested: it is there again, whatever was lost of it.
            std::fs::write(self.folder.join(format!("{name}.img")), disk).unwrap();
        }
    }

    fn begin_restore(&mut self) -> (PathBuf, String) {
        if let Some((old, _)) = self.model.restored.take() {
            std::fs::remove_dir_all(old).unwrap();
        }
        self.restores += 1;
        let folder = self.folder.join(format!("restored-{}", self.restores));
        (folder, self.any_point())
    }

    /// A point that must be there.
    fn any_point(&mut self) -> String {
        let model = &self.model;
        let there = model.points.iter().filter(|point| !model.may_go.contains(&point.id));
        let ids: Vec<&String> = there.map(|point| &point.id).collect();
        ids[self.random.below(ids.len() as u64) as usize].clone()
    }

    /// Takes note of how a task ended.
    pub fn learn(&mut self, begun: &Begun, ended: &Ended) {
        if !ended.is_done() {
            self.learn_nothing(begun);
            return;
        }
        self.model.note_runs(ended);
        let summary = ended.summary();
        let point = summary["point"].as_str().map(str::to_owned);
        let model = &mut self.model;
        match begun.task {
            Task::Backup => {
                let sequence = summary["sequence"].as_u64().unwrap();
                model.add_point(&point.unwrap(), sequence, &begun.disks);
            }
            Task::Replicate => model.standby = point,
            Task::Prune => model.pruned(ended),
            Task::Restore => model.restored.clone_from(&begun.restore),
            Task::Copy => model.copied.extend(begun.there.iter().cloned()),
            Task::Gc | Task::Rotate | Task::Rebuild => {}
        }
    }

    /// A task acknowledged nothing. What it was about may be there all the same.
    pub fn learn_nothing(&mut self, begun: &Begun) {
        if begun.task == Task::Backup {
            self.model.in_flight.push(Rc::clone(&begun.disks));
        }
    }

    /// How long a task takes when nothing disturbs it, as far as is known.
    pub fn typical(&self, task: Task) -> Duration {
        self.typical[task as usize]
    }

    /// It took so long.
    pub fn took(&mut self, task: Task, time: Duration) {
        let typical = &mut self.typical[task as usize];
        *typical = (*typical * 3 + time) / 4;
    }

    /// Leaves what lies outside, to be looked at.
    pub fn keep(&self) -> PathBuf {
        self.outside.keep()
    }

    /// A folder outside, which is empty.
    pub fn empty_outside(&self, name: &str) -> PathBuf {
        let folder = self.outside.path(name);
        let _ = std::fs::remove_dir_all(&folder);
        folder
    }
}
