//! What the faces call: settings become requests of the verbs, each run gets its durable record,
//! and what comes out is plain data of [`crate::report`].
//!
//! A failed write of the history never turns a durable result into a failure: it becomes a
//! warning.

mod backup;
mod damage;
mod error;
mod find;
mod keys;
mod open;
mod replicate;
mod repository;
mod restore;
mod run;
mod status;
mod verify;

pub use backup::{backup_machine, check_definitions};
pub use error::{OperationError, known};
pub use find::machine_points;
pub use keys::{
    KeysReport, NewKey, RemoveRequest, add_key, export_keys, key_slot, list_keys, put_back_keys,
    recover_key, remove_key, repair_key_index, rotate_key,
};
pub use open::{OpenRepository, open_repository, workers};
pub use replicate::replicate;
pub use repository::{CHUNK_BYTES_DEFAULT, InitChoice, Initialised, catalog_rebuild, init};
pub use restore::{PreparedRestore, RestoreRequest, prepare_restore};
pub use run::{FailedRun, RunResult};
pub use status::{PointsReport, StatusReport, repository_points, status};
pub use verify::verify_replica;
