//! Comparing what is kept with what it must be.

mod replica;

pub use replica::{DiskVerdict, VerifyError, VerifyReplicaRequest, verify_replica};
