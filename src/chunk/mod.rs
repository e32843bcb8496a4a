//! Chunks: how a region of a disk is cut, and how its pieces are named.

mod content;
mod cut;
mod fingerprint;
mod naming;
mod parameters;
mod recut;
mod zero;

pub use content::{InMemory, RegionContent};
pub use cut::{Cutter, Piece, PieceKind};
pub use fingerprint::Fingerprint;
pub use naming::Namer;
pub use parameters::{CutParameters, InvalidParameters};
pub use recut::{Before, Recut};
pub use zero::is_zero;
