//! The one source of randomness: names of runs, salts, keys.

/// Fills `bytes` from the operating system's random source.
///
/// # Errors
/// When that source does not answer.
pub fn fill_random(bytes: &mut [u8]) -> std::io::Result<()> {
    #[cfg(feature = "simulation")]
    if seeded::fill(bytes) {
        return Ok(());
    }
    getrandom::fill(bytes).map_err(std::io::Error::other)
}

#[cfg(feature = "simulation")]
pub use seeded::seed_random;

/// Randomness that can be had again, for simulations only: no released program has it.
#[cfg(feature = "simulation")]
mod seeded {
    use sha2::{Digest, Sha256};
    use std::cell::Cell;

    thread_local! {
        /// The seed, and how many blocks were given.
        static SEED: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    }

    /// On this thread everything random follows from `seed` from now on; `None`: nothing does.
    pub fn seed_random(seed: Option<u64>) {
        SEED.set(seed.map(|seed| (seed, 0)));
    }

    pub fn fill(bytes: &mut [u8]) -> bool {
        let Some((seed, mut count)) = SEED.get() else { return false };
        for piece in bytes.chunks_mut(32) {
            let mut hash = Sha256::new();
            hash.update(seed.to_le_bytes());
            hash.update(count.to_le_bytes());
            piece.copy_from_slice(&hash.finalize()[..piece.len()]);
            count += 1;
        }
        SEED.set(Some((seed, count)));
        true
    }
}
