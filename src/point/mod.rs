//! Recovery points: the manifest, and the tree that leads to each region of each disk.

mod affected;
mod builder;
mod delta;
mod diff;
mod leaf;
mod manifest;
mod node;
mod survey;
mod surviving;
#[cfg(test)]
mod tests;
mod tree;

pub use affected::{DamageReport, affected_points};
pub use builder::TreeBuilder;
pub use delta::{LeafChange, data_bytes, differing_leaves, thin_bytes};
pub use diff::{SpanChange, diff_spans};
pub use leaf::{Leaf, Span};
pub use manifest::{
    Consistency, DiskEntry, FileEntry, Manifest, Point, Provenance, commit_point, load_point,
};
pub use node::FAN_OUT;
pub use survey::{Lost, Survey};
pub use surviving::{Branch, surviving};
pub use tree::{RegionChange, TreeReader, TreeRef};
