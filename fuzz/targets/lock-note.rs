#![no_main]
afterimage_fuzz::target!("lock-note");
