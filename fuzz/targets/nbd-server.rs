#![no_main]
afterimage_fuzz::target!("nbd-server");
