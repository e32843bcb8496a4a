//! Why something cannot be scheduled.

/// Why something cannot be scheduled. The settings are checked for all of it before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// There is no such time zone here.
    #[error("the time zone {name} cannot be used: {reason}; run `afterimage config check`")]
    Zone {
        /// Its name.
        name: String,
        /// What the database of zones says.
        reason: String,
    },
    /// It is no cron expression.
    #[error("{expression:?} is not a schedule: {reason}; run `afterimage config check`")]
    Expression {
        /// What was written.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
}
