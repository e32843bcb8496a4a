#![no_main]
afterimage_fuzz::target!("pack-sealed");
