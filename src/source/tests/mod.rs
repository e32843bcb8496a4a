//! Sources against images that QEMU's own tools make, and against damaged ones.

mod bitmaps;
mod chains;
mod files;
mod formats;
mod hostile;
mod tools;
