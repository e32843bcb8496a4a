//! The one source of randomness: names of runs, salts, keys.

/// Fills `bytes` from the operating system's random source.
///
/// # Errors
/// When that source does not answer.
pub fn fill_random(bytes: &mut [u8]) -> std::io::Result<()> {
    getrandom::fill(bytes).map_err(std::io::Error::other)
}
