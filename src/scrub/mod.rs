//! Comparing what is kept with what it must be.

mod audit;
mod before;
mod book;
mod content;
mod direct;
mod documents;
mod files;
mod finding;
mod packs;
mod repair;
mod replica;
mod repository;

pub use direct::{DirectVerdict, VerifyDirectRequest, verify_direct};
pub use files::{FilesVerdict, verify_files};
pub use finding::{Finding, FindingKind, HarmedDisk, PointVerdict, Verdict};
pub use repair::{HealSource, RepairReport, RepairRequest, TreeSource, repair};
pub use replica::{DiskVerdict, VerifyError, VerifyReplicaRequest, verify_replica};
pub use repository::{Scope, VerifyRequest, verify_repository};
