//! What runs when: a state machine without a clock, a thread or a file of its own.
//!
//! Invariants:
//! - Of each task, everything up to an instant is decided, and nothing after it. A slot is decided
//!   once: it begins a run, or is skipped for a reason. The instant never goes back, but when the
//!   clock went back by more than a day.
//! - A task whose run waits or is under way begins no other.
//! - A tick makes at most [`DECISIONS_MAX`] decisions about slots (and one for each task when the
//!   clock jumped), and looks only at tasks for which the time has come.

mod decide;
mod events;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::clock::{ClockDoubt, ClockMark, ClockWatch, DAY, Step};
use super::task::{Decision, Now, ScheduledTask, SkipReason, When};
use crate::catalog::{Pause, SlotFacts, TaskFacts};

/// The most decisions about slots in one tick; the next tick goes on.
pub const DECISIONS_MAX: usize = 1000;
/// How often the clock is looked at, whatever is due.
pub const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How soon something is looked at again that could not be decided or written.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Decides what runs when.
#[derive(Debug)]
pub struct Planner {
    clock: ClockWatch,
    now: Now,
    tasks: Vec<TaskState>,
    by_key: HashMap<String, usize>,
    /// Which tasks run after a task.
    followers: HashMap<String, Vec<usize>>,
    /// How many runs of a task wait or are under way; also of tasks that are scheduled no more.
    busy: HashMap<String, u32>,
    /// When each task is looked at next.
    wakes: BTreeSet<(Timestamp, usize)>,
    /// Until when what is paused.
    pauses: HashMap<String, Option<Timestamp>>,
    /// What the next tick tells first.
    pending: Vec<Decision>,
}

/// What is known of a task.
#[derive(Debug)]
struct TaskState {
    task: ScheduledTask,
    /// Slots up to here are decided. In whole seconds.
    decided: Timestamp,
    /// The last slot that began a run.
    claimed: Option<Timestamp>,
    retry: Option<Retry>,
    trigger: Option<TriggerState>,
    /// Its entry in `wakes`.
    wake: Option<Timestamp>,
}

/// The next try of a slot.
#[derive(Debug, Clone, Copy)]
struct Retry {
    due: Timestamp,
    attempt: u32,
    /// When, by the time since the system started.
    at: Duration,
}

/// A run that another task's run leads to.
#[derive(Debug, Clone, Copy)]
struct TriggerState {
    /// Its slot.
    due: Timestamp,
    /// When it may begin.
    at: Timestamp,
}

impl TaskState {
    fn new(task: ScheduledTask, decided: Timestamp) -> Self {
        Self { task, decided, claimed: None, retry: None, trigger: None, wake: None }
    }
}

/// `instant` without its part of a second.
fn whole(instant: Timestamp) -> Timestamp {
    Timestamp::from_second(super::due::instant_s(instant)).unwrap_or(instant)
}

impl Planner {
    /// Goes on where `facts` end. A task of which they know nothing, or which is scheduled in
    /// another way now, begins anew. `boot_id` tells one start of the system from another.
    pub fn new(
        now: Now,
        boot_id: Option<&str>,
        tasks: Vec<ScheduledTask>,
        facts: &SlotFacts,
    ) -> Self {
        let mark: Option<ClockMark> =
            facts.clock.as_deref().and_then(|json| serde_json::from_str(json).ok());
        let (clock, step) = ClockWatch::new(now, boot_id, mark.as_ref(), facts.latest);
        let mut planner = Self {
            clock,
            now,
            tasks: Vec::new(),
            by_key: HashMap::new(),
            followers: HashMap::new(),
            busy: HashMap::new(),
            wakes: BTreeSet::new(),
            pauses: HashMap::new(),
            pending: Vec::new(),
        };
        for task in tasks {
            let state = planner.state_from(task, &facts.tasks);
            planner.add(state);
        }
        for key in facts.tasks.keys() {
            if !planner.by_key.contains_key(key) {
                planner.pending.push(Decision::Gone { key: key.clone() });
            }
        }
        planner.after_step(step);
        planner.wake_all();
        planner
    }

    fn state_from(
        &mut self,
        task: ScheduledTask,
        facts: &std::collections::BTreeMap<String, TaskFacts>,
    ) -> TaskState {
        match facts.get(&task.key).filter(|facts| facts.schedule == task.schedule()) {
            Some(facts) => {
                let decided = facts.highest.map_or(facts.since, |it| it.max(facts.since));
                let mut state = TaskState::new(task, whole(decided));
                state.claimed = facts.claimed.map(|(due, _)| due);
                state
            }
            None => self.begun(task),
        }
    }

    /// A task that is scheduled from now on.
    fn begun(&mut self, task: ScheduledTask) -> TaskState {
        let since = whole(self.now.wall);
        self.pending.push(Decision::Since {
            key: task.key.clone(),
            schedule: task.schedule(),
            since,
        });
        TaskState::new(task, since)
    }

    fn add(&mut self, state: TaskState) {
        let index = self.tasks.len();
        if self.by_key.contains_key(&state.task.key) {
            return;
        }
        self.by_key.insert(state.task.key.clone(), index);
        if let When::After(key) = &state.task.when {
            self.followers.entry(key.clone()).or_default().push(index);
        }
        self.tasks.push(state);
    }

    /// Takes over new settings. What goes on is known by its key.
    pub fn reload(&mut self, now: Now, tasks: Vec<ScheduledTask>) {
        self.now = now;
        self.wakes.clear();
        self.by_key.clear();
        self.followers.clear();
        let mut before: HashMap<String, TaskState> =
            self.tasks.drain(..).map(|state| (state.task.key.clone(), state)).collect();
        for task in tasks {
            let state = match before.remove(&task.key) {
                Some(state) if state.task.schedule() == task.schedule() => {
                    TaskState { task, wake: None, ..state }
                }
                Some(mut state) => {
                    self.leave_off(&mut state);
                    let decided = state.decided;
                    let begun = self.begun(task);
                    TaskState { decided: begun.decided.max(decided), ..begun }
                }
                None => self.begun(task),
            };
            self.add(state);
        }
        for (key, mut state) in before {
            self.leave_off(&mut state);
            self.pending.push(Decision::Gone { key });
        }
        self.wake_all();
    }

    /// Ends a schedule: what it did not begin is skipped.
    fn leave_off(&mut self, state: &mut TaskState) {
        let until = self.now.wall;
        self.pending.extend(decide::skip(state, until, SkipReason::Rescheduled));
    }

    /// What is to be done at `now`. It is written by [`record`](crate::schedule::record), or taken
    /// back by [`undo`](Self::undo).
    pub fn tick(&mut self, now: Now) -> Vec<Decision> {
        self.now = now;
        let step = self.clock.look(now);
        self.after_step(step);
        if step != Step::None {
            self.wake_all();
        }
        let mut decisions = std::mem::take(&mut self.pending);
        let enough = decisions.len() + DECISIONS_MAX;
        while decisions.len() < enough
            && let Some((at, index)) = self.wakes.first().copied()
            && at <= now.wall
        {
            self.wakes.pop_first();
            self.tasks[index].wake = None;
            self.decide(index, &mut decisions);
            self.set_wake_later(index);
        }
        decisions.extend(self.clock.note().map(Decision::NoteClock));
        decisions
    }

    /// How long the next tick can wait; zero when there is more to be done at once.
    pub fn wake_after(&self) -> Duration {
        let due = self.wakes.first().map_or(LOOK_EVERY, |(at, _)| {
            let left = at.duration_since(self.now.wall);
            Duration::try_from(left).unwrap_or(Duration::ZERO)
        });
        let pending = if self.pending.is_empty() { LOOK_EVERY } else { AGAIN_AFTER };
        due.min(pending)
    }

    /// Why the clock is not believed; `None` when it is.
    pub fn doubt(&self) -> Option<&ClockDoubt> {
        self.clock.doubt()
    }

    /// Whether the clock is believed enough to remove something because of its age.
    pub fn may_prune(&self) -> bool {
        self.doubt().is_none()
    }

    /// Follows the clock when it was set.
    fn after_step(&mut self, step: Step) {
        if step == Step::Ahead {
            let until = self.now.wall;
            for state in &mut self.tasks {
                self.pending.extend(decide::skip(state, until, SkipReason::ClockJumped));
                state.decided = state.decided.max(whole(until));
            }
        }
        if step != Step::None {
            // How long such a run had to wait was told by the clock as it was before.
            for trigger in self.tasks.iter_mut().filter_map(|state| state.trigger.as_mut()) {
                trigger.at = trigger.at.min(self.now.wall);
            }
        }
        let far = self.now.wall.checked_add(DAY).unwrap_or(Timestamp::MAX);
        if self.tasks.iter().any(|state| state.decided > far) {
            let after = whole(self.now.wall);
            self.end_pending_skips(after);
            self.pending.push(Decision::SetAside { after });
            for state in &mut self.tasks {
                state.decided = state.decided.min(after);
                state.claimed = state.claimed.filter(|due| *due <= after);
                state.retry = state.retry.filter(|retry| retry.due <= after);
                state.trigger = state.trigger.map(|_| TriggerState { due: after, at: after });
            }
        }
    }

    /// What is still to be told of slots after `after` is not, because those are set aside.
    fn end_pending_skips(&mut self, after: Timestamp) {
        self.pending.retain(|it| !matches!(it, Decision::Skip(skip) if skip.first > after));
        for decision in &mut self.pending {
            if let Decision::Skip(skip) = decision {
                skip.last = skip.last.min(after);
            }
        }
    }

    fn wake_all(&mut self) {
        self.wakes.clear();
        for index in 0..self.tasks.len() {
            self.tasks[index].wake = None;
            self.set_wake(index);
        }
    }

    fn is_busy(&self, key: &str) -> bool {
        self.busy.contains_key(key)
    }

    /// The subject whose pause holds a task.
    fn paused<'a>(&self, task: &'a ScheduledTask) -> Option<&'a str> {
        let all = std::iter::once(super::SUBJECT_ALL);
        let mut subjects = all.chain(task.subjects.iter().map(String::as_str));
        subjects.find(|subject| {
            self.pauses
                .get(*subject)
                .is_some_and(|until| until.is_none_or(|until| until > self.now.wall))
        })
    }

    /// These pauses hold from now on, and no others.
    pub fn set_pauses(&mut self, pauses: &[Pause]) {
        self.pauses = pauses.iter().map(|pause| (pause.subject.clone(), pause.until)).collect();
    }
}
