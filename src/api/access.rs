//! What a caller needs for what.

use crate::catalog::Scope;
use crate::operations::Task;
use std::time::Duration;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without a token.
    Open,
    /// Who has this scope.
    Needs(Scope),
    /// Who has the scope that the run needs: that of its kind.
    OfTheRun,
}

/// What holds for a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// `GET`, `POST` or `DELETE`.
    pub method: &'static str,
    /// Its path, as the OpenAPI document has it.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Whether it is about the whole site: then a token for some machines is refused.
    pub whole_site: bool,
    /// How long an answer may take, with the time in which the request's body comes.
    pub time: Duration,
}

const QUICK: Duration = Duration::from_secs(30);
const SLOW: Duration = Duration::from_secs(120);

impl Rule {
    pub(super) const fn get(path: &'static str, access: Access) -> Self {
        Self { method: "GET", path, access, whole_site: false, time: QUICK }
    }

    pub(super) const fn post(path: &'static str, access: Access) -> Self {
        Self { method: "POST", ..Self::get(path, access) }
    }

    pub(super) const fn delete(path: &'static str, access: Access) -> Self {
        Self { method: "DELETE", ..Self::get(path, access) }
    }

    pub(super) const fn of_the_site(self) -> Self {
        Self { whole_site: true, ..self }
    }

    pub(super) const fn slow(self) -> Self {
        Self { time: SLOW, ..self }
    }

    /// As the audit log calls it.
    pub fn what(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// The scope that a run needs to be asked for or stopped.
pub(super) fn scope_of(task: &Task) -> Scope {
    match task {
        Task::Backup { .. } => Scope::Backup,
        // What is overwritten then is not afterimage's own.
        Task::Replicate { adopt: true, .. } => Scope::Admin,
        Task::Replicate { .. } | Task::VerifyReplica { .. } => Scope::Replicate,
        Task::Restore(_) | Task::VerifyPoint { .. } | Task::VerifyRepository { .. } => {
            Scope::Recover
        }
        Task::Prune { .. } | Task::Gc { .. } => Scope::Prune,
        Task::Copy { .. } | Task::Repair { .. } => Scope::Admin,
    }
}
