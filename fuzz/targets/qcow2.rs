#![no_main]
afterimage_fuzz::target!("qcow2");
