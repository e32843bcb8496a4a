//! The targets that the tests of the main package have, for libFuzzer.

#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

use libfuzzer_sys::Corpus;

/// Gives an input to the target of this name.
pub fn run(name: &str, bytes: &[u8]) -> Corpus {
    let target = targets::find(name).expect("a target of tests/fuzz");
    target.check(bytes);
    Corpus::Keep
}

/// The whole of a fuzzer: `target!("pack")`.
#[macro_export]
macro_rules! target {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| -> libfuzzer_sys::Corpus {
            $crate::run($name, bytes)
        });
    };
}
