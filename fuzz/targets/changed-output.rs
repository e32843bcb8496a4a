#![no_main]
afterimage_fuzz::target!("changed-output");
