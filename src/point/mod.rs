//! Recovery points: the manifest, and the tree that leads to each region of each disk.

mod affected;
mod builder;
mod content;
mod delta;
mod diff;
mod document;
mod graft;
mod grow;
mod hold;
mod leaf;
mod manifest;
mod node;
mod path;
mod reach;
mod region;
mod removal;
mod survey;
mod surviving;
#[cfg(test)]
mod tests;
mod tree;
mod walk;

pub use affected::{DamageReport, affected_points};
pub use builder::TreeBuilder;
pub use content::ContentReader;
pub use delta::{LeafChange, data_bytes, differing_leaves, thin_bytes};
pub use diff::{SpanChange, diff_spans};
pub use grow::{TreeSource, grow_tree};
pub use hold::{
    Hold, HoldKind, Holds, check_note, commit_hold, list_holds, readable_holds, remove_hold,
};
pub use leaf::{Leaf, Span};
pub use manifest::{
    Consistency, DiskEntry, FileEntry, Manifest, Point, PreparedPoint, Provenance, commit_point,
    load_point, prepare_point,
};
pub use node::{FAN_OUT, Node};
pub use path::TreePath;
pub use reach::Reach;
pub use region::{RegionContext, RegionStore};
pub use removal::{Removal, commit_removal, removed_among};
pub use survey::{Lost, Survey};
pub use surviving::{Branch, surviving};
pub use tree::{RegionChange, TreeReader, TreeRef};
pub use walk::TreeVisitor;
