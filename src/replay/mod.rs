//! Replaying recovery points onto a replica.
//!
//! The order of durable steps: the whole delta, verified, in the journal; the superblock
//! `applying`, which is the commit; blocks and holes in the targets; the superblock `clean`; the
//! journal goes. A crash before the commit leaves the replica at the old point; after it, the
//! journal is redone, for which neither the repository nor the network is needed.
//!
//! The first copy needs no journal: the replica is `seeding` until it is complete. So it is while
//! a replica that someone else wrote to is compared with its point and repaired.

mod delta;
mod direct;
mod error;
mod ownership;
mod plan;
mod room;
mod seed;
mod session;
mod spare;
mod stage;
#[cfg(test)]
mod tests;
mod update;

pub use direct::{DirectPlan, DirectRequest, DirectlyReplicated, plan_direct, replicate_directly};
pub use error::ReplayError;
pub use plan::{Observed, Plan, PlanConflict, plan};
pub use session::{ReplicaSession, TargetSpec};
pub use update::{ReplicateRequest, Replicated, replicate};
