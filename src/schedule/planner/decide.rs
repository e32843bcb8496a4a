//! What becomes of one task at one instant.

use std::time::Duration;

use jiff::Timestamp;

use super::{AGAIN_AFTER, Planner, Retry, TaskState, whole};
use crate::catalog::RunTrigger;
use crate::schedule::delay;
use crate::schedule::task::{Decision, Skip, SkipReason, Start, When};
use crate::schedule::{DueTimes, Now};
use crate::settings::MissedPolicy;

/// A run that begins later than this was missed.
const GRACE: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

impl Planner {
    pub(super) fn decide(&mut self, index: usize, out: &mut Vec<Decision>) {
        self.decide_slots(index, out);
        self.decide_trigger(index, out);
        self.decide_retry(index, out);
    }

    fn decide_slots(&mut self, index: usize, out: &mut Vec<Decision>) {
        let now = self.now.wall;
        let state = &self.tasks[index];
        let Some((newest, start)) = newest(state, now) else { return };
        let is_late = now.duration_since(start) > GRACE;
        let is_open = state.task.allowed.is_open(now);
        let held = self.held(index);
        let is_paused = matches!(held, Some(SkipReason::Paused { .. }));
        let reason = match (held, state.task.missed) {
            (Some(held), _) => Some(held),
            (None, _) if self.is_busy(&state.task.key) => Some(SkipReason::StillRunning),
            (None, MissedPolicy::Skip) if is_late => Some(SkipReason::Missed),
            (None, MissedPolicy::Skip) if !is_open => Some(SkipReason::NotAllowed),
            (None, _) => None,
        };
        let state = &mut self.tasks[index];
        if let Some(reason) = reason {
            if is_paused {
                state.retry = None;
            }
            out.extend(skip(state, newest, reason));
            return;
        }
        if !is_open {
            // It begins when that opens, or a newer slot does.
            return;
        }
        let before = Timestamp::from_second(newest.as_second() - 1).unwrap_or(newest);
        out.extend(skip(state, before, SkipReason::CoveredBy(newest)));
        let trigger = if is_late { RunTrigger::CatchUp } else { RunTrigger::Schedule };
        self.start(index, newest, trigger, 1, out);
    }

    fn decide_trigger(&mut self, index: usize, out: &mut Vec<Decision>) {
        let now = self.now.wall;
        let state = &self.tasks[index];
        let Some(trigger) = state.trigger.filter(|trigger| trigger.at <= now) else { return };
        let is_open = state.task.allowed.is_open(now);
        let reason = match self.held(index) {
            Some(held) => Some(held),
            // What is under way may have begun before that backup ended.
            None if self.is_busy(&state.task.key) => return,
            None if !is_open && state.task.missed == MissedPolicy::Skip => {
                Some(SkipReason::NotAllowed)
            }
            None if !is_open => return,
            None => None,
        };
        let state = &mut self.tasks[index];
        state.trigger = None;
        // The clock may have gone back since it was made.
        let due = after_decided(state, trigger.due);
        match reason {
            Some(reason) => {
                out.push(Decision::Skip(Skip {
                    key: state.task.key.clone(),
                    first: due,
                    last: due,
                    count: 1,
                    reason,
                    decided_before: state.decided,
                }));
                state.decided = due;
            }
            None => self.start(index, due, RunTrigger::AfterBackup, 1, out),
        }
    }

    fn decide_retry(&mut self, index: usize, out: &mut Vec<Decision>) {
        let state = &self.tasks[index];
        let Some(retry) = state.retry.filter(|retry| retry.at <= self.now.boot) else { return };
        if self.is_busy(&state.task.key) {
            return;
        }
        let is_open = state.task.allowed.is_open(self.now.wall);
        if !is_open && state.task.missed == MissedPolicy::Run && self.held(index).is_none() {
            return;
        }
        let may_run = is_open && self.held(index).is_none();
        self.tasks[index].retry = None;
        if may_run {
            self.start(index, retry.due, RunTrigger::Retry, retry.attempt, out);
        }
    }

    fn start(
        &mut self,
        index: usize,
        due: Timestamp,
        trigger: RunTrigger,
        attempt: u32,
        out: &mut Vec<Decision>,
    ) {
        let state = &mut self.tasks[index];
        let key = state.task.key.clone();
        out.push(Decision::Start(Start {
            key: key.clone(),
            due,
            trigger,
            attempt,
            decided_before: state.decided,
        }));
        state.decided = state.decided.max(due);
        state.claimed = Some(due);
        state.retry = None;
        *self.busy.entry(key).or_default() += 1;
    }

    /// Why a task must not run at all now.
    fn held(&self, index: usize) -> Option<SkipReason> {
        let task = &self.tasks[index].task;
        match self.paused(task) {
            Some(subject) => Some(SkipReason::Paused { subject: subject.to_owned() }),
            None if task.prunes && !self.may_prune() => Some(SkipReason::ClockDoubted),
            None => None,
        }
    }

    /// Enters when a task is looked at next: at once when something it waits for is over.
    pub(super) fn set_wake(&mut self, index: usize) {
        let wake = self.waits(index).min();
        self.enter_wake(index, wake);
    }

    /// The same after a look at it, or when it cannot be done now: what is over waits for a window,
    /// and not in the same tick again.
    pub(super) fn set_wake_later(&mut self, index: usize) {
        let now = self.now.wall;
        let again = now.checked_add(AGAIN_AFTER).unwrap_or(Timestamp::MAX);
        let allowed = &self.tasks[index].task.allowed;
        let opens = |at| if at > now { at } else { allowed.next_open(now).unwrap_or(again) };
        let wake =
            self.waits(index).map(|at| if opens(at) > now { opens(at) } else { again }).min();
        self.enter_wake(index, wake);
    }

    /// When what a task waits for comes; it may be over.
    fn waits(&self, index: usize) -> impl Iterator<Item = Timestamp> + use<> {
        let state = &self.tasks[index];
        let is_busy = self.is_busy(&state.task.key);
        let slot = match &state.task.when {
            When::Schedule(due) => {
                due.next_after(state.decided).map(|slot| start_of(state, due, slot))
            }
            When::After(_) => None,
        };
        let trigger = state.trigger.filter(|_| !is_busy).map(|trigger| trigger.at);
        let retry = state.retry.filter(|_| !is_busy).map(|retry| retry_at(&retry, self.now));
        [slot, trigger, retry].into_iter().flatten()
    }

    fn enter_wake(&mut self, index: usize, wake: Option<Timestamp>) {
        let state = &mut self.tasks[index];
        if let Some(before) = state.wake.take() {
            self.wakes.remove(&(before, index));
        }
        if let Some(at) = wake {
            state.wake = Some(at);
            self.wakes.insert((at, index));
        }
    }
}

/// `due`, or the first second that is not decided.
pub(super) fn after_decided(state: &TaskState, due: Timestamp) -> Timestamp {
    let next = Timestamp::from_second(state.decided.as_second() + 1);
    due.max(next.unwrap_or(Timestamp::MAX))
}

/// When a try begins, by the clock on the wall.
pub(super) fn retry_at(retry: &Retry, now: Now) -> Timestamp {
    let wait = retry.at.saturating_sub(now.boot);
    now.wall.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// When the run of a slot may begin.
pub(super) fn start_of(state: &TaskState, due: &DueTimes, slot: Timestamp) -> Timestamp {
    slot.checked_add(delay_of(state, due, slot)).unwrap_or(slot)
}

fn delay_of(state: &TaskState, due: &DueTimes, slot: Timestamp) -> Duration {
    let task = &state.task;
    if task.jitter.is_zero() {
        return Duration::ZERO;
    }
    delay::jitter(&task.key, slot, due.next_after(slot), task.jitter)
}

/// The newest slot that is not decided and may have begun by `now`, and when it may have.
fn newest(state: &TaskState, now: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let When::Schedule(due) = &state.task.when else { return None };
    let last = due.latest_between(state.decided, now)?;
    let start = start_of(state, due, last);
    if start <= now {
        return Some((last, start));
    }
    // The slot before it begins before it is due: see `delay::jitter`.
    let before = Timestamp::from_second(last.as_second() - 1).ok()?;
    let last = due.latest_between(state.decided, before)?;
    Some((last, start_of(state, due, last)))
}

/// Skips what is not decided up to `until`.
pub(super) fn skip(
    state: &mut TaskState,
    until: Timestamp,
    reason: SkipReason,
) -> Option<Decision> {
    let When::Schedule(due) = &state.task.when else { return None };
    let last = due.latest_between(state.decided, until)?;
    let first = due.next_after(state.decided)?;
    let count = due.count_between(state.decided, last).max(1);
    let decided_before = std::mem::replace(&mut state.decided, whole(last));
    let key = state.task.key.clone();
    Some(Decision::Skip(Skip { key, first, last, count, reason, decided_before }))
}
