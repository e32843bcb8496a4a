//! Retention: which points of a machine are kept, why, and removing the others; and returning the
//! space that nothing needs any more.
//!
//! What is kept is decided by a pure function ([`decide`]) from the points, the rules, what
//! protects points whatever the rules say, the machine's zone and the time. Doubt never removes:
//! a clock that cannot be right, a hold or a replica that cannot be read stop it.

mod error;
mod gc;
mod plan;
mod policy;
mod prune;
mod replicas;
#[cfg(test)]
mod tests;

pub use error::RetainError;
pub use gc::{GcError, GcOutcome, GcRequest, collect};
pub use plan::{Plan, PruneRequest, lock_until, plan_prune};
pub use policy::{
    CLOCK_TOLERANCE_S, Candidate, Decision, FuturePoint, Protection, Reason, Unit, decide,
};
pub use prune::{Pruned, Removed, prune, remove_points};
pub use replicas::{ReplicaNeeds, ReplicaPlace};
