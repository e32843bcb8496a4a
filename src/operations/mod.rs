//! What the faces call: settings become requests of the verbs, each run gets its durable record,
//! and what comes out is plain data of [`crate::report`].
//!
//! A failed write of the history never turns a durable result into a failure: it becomes a
//! warning.

mod backup;
mod capture;
mod catalog;
mod copy;
mod damage;
mod direct;
mod error;
mod find;
mod followed;
mod gc;
mod keys;
mod limits;
mod objectives;
mod open;
mod points;
mod prune;
mod reasons;
mod repair;
mod replicate;
mod repository;
mod restore;
mod run;
mod status;
mod task;
mod usage;
mod verify;
mod verify_repository;

pub use backup::{Reading, backup_machine, check_definitions, trust_changes};
pub use catalog::{catalog_check, catalog_rebuild};
pub use copy::{CopyOrder, copy_machine, machines_to_copy};
pub use error::{OperationError, known};
pub use find::machine_points;
pub use gc::gc;
pub use keys::{
    KeysReport, NewKey, RemoveRequest, add_key, export_keys, key_slot, list_keys, put_back_keys,
    recover_key, remove_key, repair_key_index, rotate_key,
};
pub use limits::{limit_bandwidth, stand_back};
pub use objectives::{
    Coming, Durable, Feed, Judgement, LiveFacts, ObjectiveBook, ObjectiveFacts, account, judge,
};
pub use open::{OpenRepository, open_repository, workers};
pub use points::{pin_point, unpin_point};
pub use prune::{PrunePlan, plan_prune, prune, prune_frees};
pub use reasons::{CatalogProblem, with_reasons};
pub use repair::{RepairOptions, repair_repository};
pub use replicate::replicate;
pub use repository::{CHUNK_BYTES_DEFAULT, InitChoice, Initialised, init};
pub use restore::{PreparedRestore, RestoreRequest, prepare_restore};
pub use run::{FailedRun, RunResult, run_end};
pub use status::{PointsReport, StatusReport, repository_points, status, status_live};
pub use task::{Needs, RestoreTask, Task, perform};
pub use usage::{UsageReport, repository_usage};
pub use verify::verify_replica;
pub use verify_repository::{Tell, VerifyScope, verify_point, verify_whole};
