//! Capturing domains of libvirt. Each test starts a libvirtd of its own, which sees other folders
//! than the system's and takes everything that it started with it when it ends. Needs root.

#[path = "../common/mod.rs"]
mod common;

mod daemon;
mod domain;
mod doubts;
mod killed;
mod lab;
mod offline;
mod running;
