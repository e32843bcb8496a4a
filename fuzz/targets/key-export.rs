#![no_main]
afterimage_fuzz::target!("key-export");
