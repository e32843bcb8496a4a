#![no_main]
afterimage_fuzz::target!("point-choice");
