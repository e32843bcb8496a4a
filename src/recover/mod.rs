//! Bringing back a recovery point.

mod choose;
mod error;
mod missing;
mod restore;
#[cfg(test)]
mod tests;

pub use choose::{ChoosePointError, PointChoice, choose_point};
pub use error::RestoreError;
pub use missing::Missing;
pub use restore::{RestoreOptions, RestorePlan, Restored, plan_restore, restore};
