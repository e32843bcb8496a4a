//! Changes and refusals, with their lines in the audit log.

use super::Problem;
use super::access::Rule;
use super::peer::{Caller, Peer};
use super::state::{Api, Shared, Work};
use crate::audit::{AuditEntry, AuditOutcome};
use std::time::Instant;

/// A change that somebody asks for.
#[derive(Debug, Clone)]
pub(super) struct Change {
    what: String,
    subject: String,
    caller: Caller,
}

impl Change {
    pub fn new(caller: &Caller, rule: &Rule, subject: impl Into<String>) -> Self {
        Self { what: rule.what(), subject: subject.into(), caller: caller.clone() }
    }

    /// Who asks, as records call them.
    pub fn by(&self) -> &str {
        &self.caller.who
    }

    fn entry(&self, outcome: AuditOutcome, detail: Option<String>) -> AuditEntry {
        let mut entry = AuditEntry::new(&self.caller.who, &self.what, outcome);
        entry.peer = Some(self.caller.peer.text());
        entry.subject = Some(self.subject.clone());
        entry.detail = detail;
        entry
    }

    /// Does it: first it is written down, then it is done, then what became of it is written down.
    /// `told` says what that was.
    pub async fn carry_out<T: Send + 'static>(
        self,
        api: &Api,
        work: Work,
        change: impl FnOnce(&Shared) -> Result<T, Problem> + Send + 'static,
        told: impl FnOnce(&T) -> Option<String> + Send + 'static,
    ) -> Result<T, Problem> {
        api.work(work, move |shared| {
            shared.record(&self.entry(AuditOutcome::Asked, None))?;
            let done = change(shared);
            let entry = match &done {
                Ok(value) => self.entry(AuditOutcome::Done, told(value)),
                Err(problem) => self.entry(AuditOutcome::Failed, Some(problem.detail.clone())),
            };
            // It is done, and that it was asked for is written: the answer does not change.
            let _ = shared.record(&entry);
            done
        })
        .await
    }

    /// Refuses it.
    pub async fn refuse(self, api: &Api, problem: Problem) -> Problem {
        let entry = self.entry(AuditOutcome::Refused, Some(problem.detail.clone()));
        refuse(api, self.caller.peer, entry, problem).await
    }
}

/// Writes a refusal down, or counts it, before it is told.
pub(super) async fn refuse(api: &Api, peer: Peer, entry: AuditEntry, problem: Problem) -> Problem {
    if let Some(entry) = api.refusals.note(peer.key(), entry, Instant::now()) {
        // A failure is in the log of the daemon; it is refused all the same.
        let _ = api.work(Work::Light, move |shared| shared.record(&entry)).await;
    }
    problem
}
