#![no_main]
afterimage_fuzz::target!("daemon-answer");
