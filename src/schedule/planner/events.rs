//! What happens between two ticks.

use super::decide::{after_decided, retry_at, start_of};
use super::{Planner, Retry, TaskState, TriggerState, whole};
use crate::catalog::RunTrigger;
use crate::schedule::delay;
use crate::schedule::task::{Decision, Ended, Now, Outcome, SkipReason, Start, Upcoming, When};
use jiff::Timestamp;

impl Planner {
    /// A run of this task was put in the queue by somebody else: until it ends, the slots of the
    /// task are skipped.
    pub fn queued(&mut self, key: &str) {
        *self.busy.entry(key.to_owned()).or_default() += 1;
    }

    /// What a tick decided was written, but this run was not granted: its slot is taken.
    pub fn refused(&mut self, key: &str) {
        self.leave(key);
        self.look_at(key);
    }

    /// A run of this task ended.
    pub fn ended(&mut self, key: &str, ended: &Ended, now: Now) {
        self.now = now;
        self.leave(key);
        match (ended.outcome, ended.due) {
            (Outcome::Completed, _) => {
                if let Some(index) = self.by_key.get(key) {
                    self.tasks[*index].retry = None;
                }
                self.trigger_after(key, now);
            }
            (Outcome::Retryable, Some(due)) => self.restore_failed(key, due, ended.attempt, now),
            (Outcome::Retryable | Outcome::Final, _) => {}
        }
        self.look_at(key);
    }

    /// The run of a slot failed, or was cut off, and may be tried again: unless a newer one began,
    /// or it was tried often enough.
    pub fn restore_failed(&mut self, key: &str, due: Timestamp, attempt: u32, now: Now) {
        self.now = now;
        let Some(index) = self.by_key.get(key).copied() else { return };
        let state = &mut self.tasks[index];
        if state.claimed == Some(due) && attempt <= state.task.retry.times {
            let attempt = attempt + 1;
            let wait = delay::back_off(key, due, attempt, &state.task.retry);
            state.retry = Some(Retry { due, attempt, at: now.boot.saturating_add(wait) });
            self.set_wake(index);
        }
    }

    /// A run of this task completed: those that follow it are to run. Several such before one of
    /// them begins lead to one run.
    pub fn trigger_after(&mut self, key: &str, now: Now) {
        self.now = now;
        for index in self.followers.get(key).cloned().unwrap_or_default() {
            let state = &mut self.tasks[index];
            let due = after_decided(state, whole(now.wall));
            if state.trigger.is_none() {
                let wait = delay::jitter(&state.task.key, due, None, state.task.jitter);
                let at = now.wall.checked_add(wait).unwrap_or(now.wall);
                state.trigger = Some(TriggerState { due, at });
            }
            self.set_wake(index);
        }
    }

    /// A person says that the clock is right.
    pub fn trust_clock(&mut self, now: Now) {
        self.now = now;
        self.clock.trust();
    }

    /// Takes back what a tick decided and could not be written.
    pub fn undo(&mut self, decisions: &[Decision]) {
        for decision in decisions.iter().rev() {
            match decision {
                Decision::Start(start) => self.undo_start(start),
                Decision::NoteClock(_) => self.clock.forget_note(),
                Decision::Skip(skip)
                    if !matches!(
                        skip.reason,
                        SkipReason::ClockJumped | SkipReason::Rescheduled
                    ) =>
                {
                    if let Some(index) = self.by_key.get(&skip.key).copied() {
                        self.tasks[index].decided = skip.decided_before;
                        self.set_wake_later(index);
                    }
                }
                // These cannot be decided again: they follow from what is over.
                it => self.pending.insert(0, it.clone()),
            }
        }
    }

    fn undo_start(&mut self, start: &Start) {
        self.leave(&start.key);
        let Some(index) = self.by_key.get(&start.key).copied() else { return };
        let state = &mut self.tasks[index];
        state.decided = start.decided_before;
        let Start { due, attempt, .. } = *start;
        match start.trigger {
            RunTrigger::Retry => state.retry = Some(Retry { due, attempt, at: self.now.boot }),
            RunTrigger::AfterBackup => {
                state.trigger = Some(TriggerState { due, at: self.now.wall });
            }
            RunTrigger::Manual | RunTrigger::Schedule | RunTrigger::CatchUp => {
                state.claimed = None;
            }
        }
        self.set_wake_later(index);
    }

    /// One run of the task less.
    fn leave(&mut self, key: &str) {
        if let Some(count) = self.busy.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.busy.remove(key);
            }
        }
    }

    fn look_at(&mut self, key: &str) {
        if let Some(index) = self.by_key.get(key).copied() {
            self.set_wake(index);
        }
    }

    /// What each task waits for, in no order.
    pub fn upcoming(&self) -> Vec<Upcoming> {
        self.tasks.iter().map(|state| self.upcoming_of(state)).collect()
    }

    fn upcoming_of(&self, state: &TaskState) -> Upcoming {
        let slot = match &state.task.when {
            When::Schedule(due) => {
                due.next_after(state.decided).map(|slot| (slot, start_of(state, due, slot)))
            }
            When::After(_) => state.trigger.map(|trigger| (trigger.due, trigger.at)),
        };
        let retry = state.retry.map(|retry| (retry.due, retry_at(&retry, self.now)));
        let is_retry = match (slot, retry) {
            (Some((_, slot)), Some((_, retry))) => retry < slot,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let next = if is_retry { retry } else { slot };
        let start = next.and_then(|(_, at)| state.task.allowed.next_open(at.max(self.now.wall)));
        Upcoming {
            key: state.task.key.clone(),
            due: next.map(|(due, _)| due),
            start,
            is_retry,
            paused: self.paused(&state.task).map(str::to_owned),
        }
    }
}
