//! The local SQLite databases: the catalog of a repository's objects and points, which is a cache
//! that can be built anew from the repository, and the history of runs, which is not.
//!
//! Both use write-ahead logging with one writing connection. A newer schema is refused, and so is
//! an SQLite before 3.51.3, which could lose commits when two connections checkpoint.

mod avoided;
mod census;
mod check;
mod compare;
mod completed;
mod conditions;
mod convert;
mod database;
mod documents;
mod error;
mod facts;
mod filter;
mod generation;
mod history;
mod index;
mod lookup;
mod losses;
mod merge;
mod newest;
mod objectives;
mod objects;
mod outbox;
mod part;
mod pauses;
mod points;
mod run;
mod running;
mod runs;
mod schema;
mod scope;
mod second;
mod secret;
mod slots;
mod sources;
mod sync;
mod tally;
mod tokens;
mod tracking;
mod verified;

pub use census::{Copy, KnownPack, KnownPacks};
pub use compare::{CatalogDifference, Comparison, How, Subject};
pub use completed::CompletedRun;
pub use conditions::{OutboxMessage, Told};
pub use database::check_local_folder;
pub use documents::{DocumentFolder, KnownDocument};
pub use error::CatalogError;
pub use facts::RunFacts;
pub use history::History;
pub use newest::NewestPoint;
pub use objectives::{Compliance, ObjectiveInterval, ObjectiveState, ObjectiveSubject};
pub use objects::{Catalog, CatalogContents, KnownObject};
pub use outbox::{Attempt, ChannelRecord, WaitingMessage};
pub use pauses::Pause;
pub use run::{RunKind, RunOrigin, RunOutcome, RunRecord, RunStatus, RunTrigger};
pub use running::{RunLock, is_running, sweep_run_locks};
pub use runs::RunFilter;
pub use scope::{Scope, UnknownScope};
pub use second::SecondCatalog;
pub use secret::TokenSecret;
pub use slots::{
    ScheduledSince, SlotBatch, SlotClaim, SlotFacts, SlotFate, SlotLine, SlotSkip, TaskFacts,
};
pub use sources::SourcesAt;
pub use sync::{SyncReport, let_pack_lengths_hold};
pub use tally::RunCount;
pub use tokens::{Added, Token, TokenGrant};
pub use tracking::{Distrust, Tracking};
pub use verified::{PointVerified, VerifiedHow};
