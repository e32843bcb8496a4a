#![no_main]
afterimage_fuzz::target!("recovery-key");
