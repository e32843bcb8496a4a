#![no_main]
afterimage_fuzz::target!("token");
