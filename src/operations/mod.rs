//! What the faces call: settings become requests of the verbs, each run gets its durable record,
//! and what comes out is plain data of [`crate::report`].
//!
//! A failed write of the history never turns a durable result into a failure: it becomes a
//! warning.

mod backup;
mod damage;
mod error;
mod find;
mod open;
mod repair;
mod replicate;
mod repository;
mod restore;
mod run;
mod status;
mod verify;
mod verify_repository;

pub use backup::{backup_machine, check_definitions};
pub use error::{OperationError, known};
pub use find::machine_points;
pub use open::{OpenRepository, open_repository, workers};
pub use repair::{RepairOptions, repair_repository};
pub use replicate::replicate;
pub use repository::{CHUNK_BYTES_DEFAULT, Initialised, catalog_rebuild, init};
pub use restore::{PreparedRestore, RestoreRequest, prepare_restore};
pub use run::{FailedRun, RunResult};
pub use status::{PointsReport, StatusReport, repository_points, status};
pub use verify::verify_replica;
pub use verify_repository::{Tell, VerifyScope, verify_point, verify_whole};
