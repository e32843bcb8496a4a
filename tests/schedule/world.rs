//! A world in which a planner runs: virtual clocks, runs that take their time and fail, a daemon that
//! dies, a host that sleeps, clocks that are set. It holds every decision against what is promised.

use crate::tools::{Ledger, timing, when, window};
use afterimage::catalog::{Pause, RunTrigger};
use afterimage::schedule::{
    Decision, Ended, Now, Outcome, Planner, SUBJECT_ALL, ScheduledTask, Start, When,
};
use afterimage::settings::{MissedPolicy, RetrySettings};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Numbers from a seed (splitmix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// What a task's schedule is, for the reference.
#[derive(Debug, Clone)]
pub struct Plan {
    pub key: String,
    pub expression: &'static str,
    pub zone: &'static str,
}

const EXPRESSIONS: [&str; 12] = [
    "0 2 * * *",
    "30 2 * * *",
    "0 * * * *",
    "15 */2 * * *",
    "0 0 * * *",
    "45 23 * * 1-5",
    "0 3 * * 0",
    "10 1 1 * *",
    "*/30 1-4 * * *",
    "30 2,14 * * *",
    "20 */6 * * *",
    "0 12 * * 6,0",
];
const ZONES: [&str; 8] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/St_Johns",
    "Asia/Gaza",
    "Antarctica/Troll",
    "Africa/Casablanca",
    "UTC",
];

/// Some 50 tasks, of which each fifth follows another.
pub fn tasks(chance: &mut Chance) -> (Vec<ScheduledTask>, Vec<Plan>) {
    let (mut tasks, mut plans) = (Vec::new(), Vec::new());
    for index in 0..50 {
        let zone = chance.pick(&ZONES);
        let expression = match index {
            0 => "*/5 * * * *",
            1 | 2 => "*/15 * * * *",
            _ => chance.pick(&EXPRESSIONS),
        };
        let mut timing = timing(zone);
        if chance.one_in(4) {
            timing.allowed =
                chance.pick(&[&[window(22, 6)][..], &[window(1, 3), window(12, 13)]]).to_vec();
        }
        timing.missed = chance.pick(&[MissedPolicy::Run, MissedPolicy::Run, MissedPolicy::Skip]);
        timing.jitter = Duration::from_secs(chance.pick(&[0, 0, 300, 7200]));
        timing.retry = RetrySettings {
            times: chance.below(4) as u32,
            wait: Duration::from_secs(60),
            wait_max: Duration::from_secs(1800),
        };
        let key = format!("task {index}");
        let is_follower = index >= 10 && index % 5 == 0;
        let what = match is_follower {
            true => When::After(format!("task {}", index - 7)),
            false => when(expression, zone),
        };
        let mut task = ScheduledTask::new(key.clone(), what, &timing).unwrap();
        task.subjects = vec![format!("machine {}", index % 7)];
        task.prunes = !is_follower && index % 6 == 1;
        tasks.push(task);
        if !is_follower {
            plans.push(Plan { key, expression, zone });
        }
    }
    (tasks, plans)
}

struct Run {
    start: Start,
    ends: Duration,
    outcome: Outcome,
}

/// What happens in a world.
pub struct Options {
    pub days: u64,
    /// Clocks are set, also by years.
    pub clocks_jump: bool,
}

pub struct World<L: Ledger> {
    pub ledger: L,
    pub tasks: Vec<ScheduledTask>,
    pub now: Now,
    chance: Chance,
    planner: Planner,
    boot_id: u32,
    runs: Vec<Run>,
    pauses: Vec<Pause>,
    by_key: BTreeMap<String, usize>,
    /// What was begun: none of it is begun again.
    begun: BTreeSet<(String, Timestamp, u32)>,
    /// By how much the clock is wrong, and when it was set last.
    off: SignedDuration,
    set_at: Duration,
    pub starts: u64,
    pub disruptions: u64,
}

impl<L: Ledger> World<L> {
    pub fn new(start: &str, ledger: L, mut chance: Chance) -> (Self, Vec<Plan>) {
        let now = Now { wall: start.parse().unwrap(), boot: Duration::from_secs(5000) };
        let (tasks, plans) = tasks(&mut chance);
        let planner = Planner::new(now, Some("0"), tasks.clone(), &ledger.facts());
        let by_key = tasks.iter().enumerate().map(|(at, task)| (task.key.clone(), at)).collect();
        let mut world = Self {
            ledger,
            tasks,
            now,
            chance,
            planner,
            boot_id: 0,
            runs: Vec::new(),
            pauses: Vec::new(),
            by_key,
            begun: BTreeSet::new(),
            off: SignedDuration::ZERO,
            set_at: Duration::ZERO,
            starts: 0,
            disruptions: 0,
        };
        world.tick();
        (world, plans)
    }

    pub fn run(&mut self, options: &Options) {
        let end = self.now.boot + Duration::from_secs(options.days * 86_400);
        let mut next_disruption = self.now.boot;
        while self.now.boot < end {
            let ends = self.runs.iter().map(|run| run.ends).min().unwrap_or(Duration::MAX);
            let wake = self.now.boot + self.planner.wake_after();
            // A timer is late now and then.
            let wake = wake + Duration::from_millis(self.chance.pick(&[1, 40, 900]));
            self.pass(wake.min(ends).saturating_sub(self.now.boot));
            self.end_runs();
            self.tick();
            if self.now.boot >= next_disruption {
                self.disrupt(options);
                self.disruptions += 1;
                next_disruption =
                    self.now.boot + Duration::from_secs(self.chance.below(2 * 86_400));
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.wall += time;
        self.now.boot += time;
    }

    fn end_runs(&mut self) {
        let boot = self.now.boot;
        for run in self.runs.extract_if(.., |run| run.ends <= boot).collect::<Vec<_>>() {
            let Start { due, attempt, .. } = run.start;
            let ended = Ended { due: Some(due), attempt, outcome: run.outcome };
            self.planner.ended(&run.start.key, &ended, self.now);
        }
    }

    fn tick(&mut self) {
        let decisions = self.planner.tick(self.now);
        if decisions.is_empty() {
            return;
        }
        match self.chance.below(200) {
            // The disk was full.
            0 => return self.planner.undo(&decisions),
            // The daemon dies before it writes, or after.
            1 => return self.restart(60),
            2 => {
                self.apply(&decisions);
                return self.restart(60);
            }
            _ => {}
        }
        self.apply(&decisions);
    }

    fn apply(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            if let Decision::SetAside { after } = decision {
                self.begun.retain(|(_, due, _)| due <= after);
            }
        }
        let (granted, refused) = self.ledger.apply(self.now.wall, decisions);
        assert_eq!(refused, [], "the planner decided what was decided");
        let keys: BTreeSet<&str> = granted.iter().map(|start| start.key.as_str()).collect();
        assert_eq!(keys.len(), granted.len(), "a storm");
        for start in granted {
            self.check(&start);
            self.starts += 1;
            let outcome = match self.chance.below(10) {
                0 => Outcome::Final,
                1 | 2 => Outcome::Retryable,
                _ => Outcome::Completed,
            };
            let most = self.chance.pick(&[5, 60, 60, 600, 10_000]);
            let ends = self.now.boot + Duration::from_secs(1 + self.chance.below(most));
            self.runs.push(Run { start, ends, outcome });
        }
    }

    /// Holds a start against what is promised.
    fn check(&mut self, start: &Start) {
        let what = format!("{start:?} at {}", self.now.wall);
        let task = &self.tasks[self.by_key[&start.key]];
        let is_new = self.begun.insert((start.key.clone(), start.due, start.attempt));
        assert!(is_new, "begun twice: {what}");
        let other = self.runs.iter().find(|run| run.start.key == start.key);
        assert!(other.is_none(), "two at once: {what}");
        assert!(task.allowed.is_open(self.now.wall), "outside of its window: {what}");
        assert!(start.attempt <= task.retry.times + 1, "tried too often: {what}");
        let is_held = |pause: &Pause| {
            (pause.subject == SUBJECT_ALL || task.subjects.contains(&pause.subject))
                && pause.until.is_none_or(|until| until > self.now.wall)
        };
        assert!(!self.pauses.iter().any(is_held), "paused: {what}");
        if start.attempt > 1 {
            let before = (start.key.clone(), start.due, start.attempt - 1);
            assert!(self.begun.contains(&before), "no try before it: {what}");
            let newest = (start.key.clone(), start.due, u32::MAX);
            let newer = self.begun.range(newest..).next();
            assert!(newer.is_none_or(|it| it.0 != start.key), "a newer slot began: {what}");
        }
        if task.missed == MissedPolicy::Skip {
            assert_ne!(start.trigger, RunTrigger::CatchUp, "{what}");
        }
        if task.prunes {
            let agrees = self.now.boot.saturating_sub(self.set_at);
            assert!(agrees >= Duration::from_secs(3600), "pruned by a doubtful clock: {what}");
            let off_hours = self.off.as_hours().abs();
            assert!(off_hours <= 30 * 24, "pruned by a clock that is off by {off_hours} h: {what}");
        }
    }

    fn disrupt(&mut self, options: &Options) {
        let asleep = self.chance.pick(&[1, 30, 600, 9000, 300_000]);
        let asleep = 1 + self.chance.below(asleep);
        match self.chance.below(if options.clocks_jump { 8 } else { 6 }) {
            // The host sleeps.
            0 | 1 => self.pass(Duration::from_secs(asleep)),
            2 => self.restart(asleep),
            // The host starts anew.
            3 => {
                self.boot_id += 1;
                self.restart(asleep);
            }
            4 => {
                self.pauses.clear();
                let subjects = [SUBJECT_ALL, "machine 1", "machine 2", "machine 3"];
                if self.chance.one_in(2) {
                    let until = self.now.wall + Duration::from_secs(asleep);
                    self.pauses.push(Pause {
                        subject: self.chance.pick(&subjects).to_owned(),
                        note: None,
                        until: Some(until).filter(|_| self.chance.one_in(2)),
                        since: self.now.wall,
                        by: "uid:0".to_owned(),
                    });
                }
                self.planner.set_pauses(&self.pauses);
            }
            5 => self.planner.reload(self.now, self.tasks.clone()),
            _ => self.set_clock(),
        }
    }

    /// Sets the clock wrong, or right again.
    fn set_clock(&mut self) {
        let day_s = 86_400;
        let off_s = match self.chance.below(6) {
            0 => 4 * 365 * day_s,
            1 => -(3 * 365 * day_s),
            2 => 5 * day_s,
            3 => -(2 * 3600 + 1),
            _ => 0,
        };
        let off = SignedDuration::from_secs(off_s);
        self.now.wall = self.now.wall.checked_add(off - self.off).unwrap();
        if self.off != off {
            self.set_at = self.now.boot;
        }
        self.off = off;
        self.tick();
    }

    /// The daemon dies and is started anew after some seconds.
    fn restart(&mut self, seconds: u64) {
        let cut_off = std::mem::take(&mut self.runs);
        self.pass(Duration::from_secs(seconds));
        let boot_id = self.boot_id.to_string();
        let facts = self.ledger.facts();
        self.planner = Planner::new(self.now, Some(&boot_id), self.tasks.clone(), &facts);
        self.planner.set_pauses(&self.pauses);
        for run in cut_off {
            let Start { key, due, attempt, .. } = &run.start;
            self.planner.restore_failed(key, *due, *attempt, self.now);
        }
    }
}
