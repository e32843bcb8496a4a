//! Capturing a running QEMU. `AFTERIMAGE_QEMU` names another one than `qemu-system-x86_64`.

#[path = "../common/mod.rs"]
mod common;

mod agents;
mod bitmaps;
mod faults;
mod killed;
mod lab;
mod machine;
mod proxy;
mod running;
