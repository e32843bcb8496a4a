//! What several of these tests need: tasks, ledgers, and a planner with a clock that is moved by hand.

use afterimage::catalog::{
    History, RunKind, RunOrigin, RunOutcome, RunRecord, RunStatus, SlotFacts, SlotFate, SlotLine,
    TaskFacts,
};
use afterimage::schedule::{
    Decision, DueTimes, Ended, Now, Outcome, Planner, ScheduledTask, Skip, SkipReason, Start, When,
    record,
};
use afterimage::settings::{MissedPolicy, RetrySettings, Schedule, TimingSettings};
use afterimage::units::{RunId, Window};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn timing(zone: &str) -> TimingSettings {
    TimingSettings {
        timezone: zone.to_owned(),
        allowed: Vec::new(),
        missed: MissedPolicy::Run,
        jitter: Duration::ZERO,
        retry: RetrySettings::default(),
    }
}

pub fn when(expression: &str, zone: &str) -> When {
    let schedule = Schedule { expression: expression.to_owned(), timezone: zone.to_owned() };
    When::Schedule(Box::new(DueTimes::new(&schedule).unwrap()))
}

/// A task in UTC that catches up.
pub fn task(key: &str, expression: &str) -> ScheduledTask {
    ScheduledTask::new(key.to_owned(), when(expression, "UTC"), &timing("UTC")).unwrap()
}

pub fn after(key: &str, other: &str) -> ScheduledTask {
    ScheduledTask::new(key.to_owned(), When::After(other.to_owned()), &timing("UTC")).unwrap()
}

pub fn window(from_hour: u16, to_hour: u16) -> Window {
    Window { from_min: from_hour * 60, to_min: to_hour * 60 }
}

pub fn queued_record(start: &Start) -> RunRecord {
    RunRecord {
        id: RunId::random().unwrap(),
        kind: RunKind::Backup,
        repository: None,
        machine: None,
        replica: None,
        started: start.due,
        origin: RunOrigin {
            trigger: start.trigger,
            due: Some(start.due),
            attempt: start.attempt,
            by: None,
            task: None,
        },
        outcome: RunOutcome::open(RunStatus::Queued),
    }
}

/// Where decisions are kept.
pub trait Ledger {
    /// Keeps all, and returns the runs that were granted and those that were refused.
    fn apply(&mut self, now: Timestamp, decisions: &[Decision]) -> (Vec<Start>, Vec<Start>);
    fn facts(&self) -> SlotFacts;
    /// Of a task, the oldest first.
    fn lines(&self, key: &str) -> Vec<SlotLine>;
}

impl Ledger for History {
    fn apply(&mut self, now: Timestamp, decisions: &[Decision]) -> (Vec<Start>, Vec<Start>) {
        let recorded = record(self, now, decisions, queued_record).unwrap();
        (recorded.granted.into_iter().map(|(start, _)| start).collect(), recorded.refused)
    }

    fn facts(&self) -> SlotFacts {
        self.slot_facts().unwrap()
    }

    fn lines(&self, key: &str) -> Vec<SlotLine> {
        let mut lines = self.slots(key, usize::MAX).unwrap();
        lines.reverse();
        lines
    }
}

/// The same in memory, for speed.
#[derive(Debug, Default)]
pub struct MemoryLedger {
    lines: BTreeMap<String, Vec<SlotLine>>,
    scheduled: BTreeMap<String, (String, Timestamp)>,
    clock: Option<String>,
}

impl MemoryLedger {
    fn claim(&mut self, start: &Start) -> bool {
        let lines = self.lines.entry(start.key.clone()).or_default();
        let run = RunId([0; 16]);
        if start.attempt > 1 {
            let before = start.attempt - 1;
            let line = lines.iter_mut().rev().find(|line| line.first == start.due);
            return match line.map(|line| &mut line.fate) {
                Some(SlotFate::Run { attempt, .. }) if *attempt == before => {
                    *attempt = start.attempt;
                    true
                }
                _ => false,
            };
        }
        let is_free = lines.last().is_none_or(|line| line.last < start.due);
        if is_free {
            let fate = SlotFate::Run { run, attempt: 1 };
            lines.push(SlotLine { first: start.due, last: start.due, count: 1, fate });
        }
        is_free
    }

    fn skip(&mut self, skip: &Skip) {
        let lines = self.lines.entry(skip.key.clone()).or_default();
        let fate = SlotFate::Skipped(skip.reason.to_string());
        match lines.last_mut() {
            Some(line) if line.last >= skip.first => {}
            Some(line) if line.fate == fate => {
                line.last = skip.last;
                line.count += skip.count;
            }
            _ => {
                lines.push(SlotLine { first: skip.first, last: skip.last, count: skip.count, fate })
            }
        }
    }

    fn set_aside(&mut self, after: Timestamp) {
        for lines in self.lines.values_mut() {
            lines.retain(|line| line.first <= after);
            if let Some(line) = lines.last_mut() {
                line.last = line.last.min(after);
            }
        }
        for (_, since) in self.scheduled.values_mut() {
            *since = (*since).min(after);
        }
    }
}

impl Ledger for MemoryLedger {
    fn apply(&mut self, _now: Timestamp, decisions: &[Decision]) -> (Vec<Start>, Vec<Start>) {
        let (mut granted, mut refused) = (Vec::new(), Vec::new());
        for decision in decisions {
            match decision {
                Decision::Start(start) if self.claim(start) => granted.push(start.clone()),
                Decision::Start(start) => refused.push(start.clone()),
                Decision::Skip(skip) => self.skip(skip),
                Decision::Since { key, schedule, since } => {
                    self.scheduled.insert(key.clone(), (schedule.clone(), *since));
                }
                Decision::Gone { key } => {
                    self.scheduled.remove(key);
                }
                Decision::SetAside { after } => self.set_aside(*after),
                Decision::NoteClock(mark) => {
                    self.clock = Some(serde_json::to_string(mark).unwrap());
                }
            }
        }
        (granted, refused)
    }

    fn facts(&self) -> SlotFacts {
        let of = |key: &String| self.lines.get(key).map_or(&[][..], Vec::as_slice);
        let claimed = |line: &SlotLine| match line.fate {
            SlotFate::Run { attempt, .. } => Some((line.first, attempt)),
            SlotFate::Skipped(_) => None,
        };
        let facts = self.scheduled.iter().map(|(key, (schedule, since))| {
            let facts = TaskFacts {
                schedule: schedule.clone(),
                since: *since,
                highest: of(key).last().map(|line| line.last),
                claimed: of(key).iter().rev().find_map(claimed),
            };
            (key.clone(), facts)
        });
        SlotFacts { tasks: facts.collect(), clock: self.clock.clone(), latest: None }
    }

    fn lines(&self, key: &str) -> Vec<SlotLine> {
        self.lines.get(key).cloned().unwrap_or_default()
    }
}

/// A planner, its ledger and a clock that is moved by hand.
pub struct Bench {
    pub planner: Planner,
    pub ledger: MemoryLedger,
    pub now: Now,
    pub boot_id: String,
    pub tasks: Vec<ScheduledTask>,
    /// All that was skipped.
    pub skips: Vec<Skip>,
    /// What was begun, and when.
    begun: Vec<(Start, Timestamp)>,
}

impl Bench {
    pub fn new(start: &str, tasks: Vec<ScheduledTask>) -> Self {
        let now = Now { wall: time(start), boot: Duration::from_secs(1000) };
        let ledger = MemoryLedger::default();
        let planner = Planner::new(now, Some("a"), tasks.clone(), &ledger.facts());
        let mut bench = Self {
            planner,
            ledger,
            now,
            boot_id: "a".to_owned(),
            tasks,
            skips: Vec::new(),
            begun: Vec::new(),
        };
        assert_eq!(bench.tick(), []);
        bench
    }

    /// Ends the planner and makes a new one from the ledger.
    pub fn restart(&mut self) {
        let facts = self.ledger.facts();
        self.planner = Planner::new(self.now, Some(&self.boot_id), self.tasks.clone(), &facts);
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now.wall += Duration::from_secs(seconds);
        self.now.boot += Duration::from_secs(seconds);
    }

    /// Lets time pass, with ticks as they are asked for, up to an instant. Returns what was begun.
    pub fn until(&mut self, instant: &str) -> Vec<Start> {
        let mut begun = Vec::new();
        while self.now.wall < time(instant) {
            begun.extend(self.next(instant));
        }
        begun
    }

    /// Lets time pass until something begins, up to an instant.
    pub fn next(&mut self, instant: &str) -> Vec<Start> {
        let mut begun = Vec::new();
        while begun.is_empty() && self.now.wall < time(instant) {
            let left = time(instant).as_second() - self.now.wall.as_second();
            let wait = self.planner.wake_after().as_secs_f64().ceil() as u64;
            self.pass(wait.clamp(1, u64::try_from(left).unwrap().max(1)));
            begun.extend(self.tick());
        }
        begun
    }

    pub fn tick(&mut self) -> Vec<Start> {
        let decisions = self.planner.tick(self.now);
        self.skips.extend(decisions.iter().filter_map(|it| match it {
            Decision::Skip(skip) => Some(skip.clone()),
            _ => None,
        }));
        let (granted, refused) = self.ledger.apply(self.now.wall, &decisions);
        refused.iter().for_each(|start| self.planner.refused(&start.key));
        self.begun.extend(granted.iter().map(|start| (start.clone(), self.now.wall)));
        granted
    }

    /// When a run was begun.
    pub fn begun_at(&self, start: &Start) -> Timestamp {
        self.begun.iter().rev().find(|(begun, _)| begun == start).unwrap().1
    }

    pub fn ledger_knows(&self, key: &str) -> bool {
        self.ledger.facts().tasks.contains_key(key)
    }

    pub fn ended(&mut self, start: &Start, outcome: Outcome) {
        let ended = Ended { due: Some(start.due), attempt: start.attempt, outcome };
        self.planner.ended(&start.key, &ended, self.now);
    }

    /// A run that nobody but a person began.
    pub fn manual_ended(&mut self, key: &str, outcome: Outcome) {
        self.planner.ended(key, &Ended { due: None, attempt: 0, outcome }, self.now);
    }

    /// What was skipped since this was asked last: the key, how many, and why.
    pub fn skipped(&mut self) -> Vec<(String, u64, SkipReason)> {
        self.skips.drain(..).map(|skip| (skip.key, skip.count, skip.reason)).collect()
    }
}
