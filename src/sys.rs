//! The few system calls that no safe crate offers. The only module with `unsafe`.
