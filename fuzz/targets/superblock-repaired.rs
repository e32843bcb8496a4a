#![no_main]
afterimage_fuzz::target!("superblock-repaired");
