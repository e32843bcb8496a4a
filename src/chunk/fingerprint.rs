//! A checksum for bytes that stay in memory: it finds what a memory fault or a codec's defect did
//! to them between two moments, at the speed of reading them. It protects from nobody's intent.
//!
//! Invariant: bytes that differ in one aligned word of eight only never have the same fingerprint:
//! each step maps different words, and different states, to different states.

/// Any odd number will do; this is 2^64 over the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const LANES: usize = 4;

/// The fingerprint of a chunk's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Takes the fingerprint of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let (words, tail) = bytes.as_chunks::<8>();
        let (rows, rest) = words.as_chunks::<LANES>();
        // Independent of each other, so that the processor works on all of them at once.
        let mut lanes = [bytes.len() as u64; LANES];
        for row in rows {
            for (lane, word) in lanes.iter_mut().zip(row) {
                *lane = step(*lane, u64::from_le_bytes(*word));
            }
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        let mut state = rest.iter().fold(0, |state, word| step(state, u64::from_le_bytes(*word)));
        state = step(state, u64::from_le_bytes(last));
        Self(lanes.iter().fold(state, |state, lane| step(state, *lane)))
    }
}

fn step(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(FACTOR);
    // Multiplication carries upwards only.
    mixed ^ (mixed >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_flipped_bit_is_found_anywhere() {
        for len in [0, 1, 7, 8, 31, 32, 33, 100, 1000] {
            let mut bytes = crate::testing::noise(len as u64, len);
            let whole = Fingerprint::of(&bytes);
            for at in 0..len * 8 {
                bytes[at / 8] ^= 1 << (at % 8);
                assert_ne!(Fingerprint::of(&bytes), whole, "bit {at} of {len} bytes");
                bytes[at / 8] ^= 1 << (at % 8);
            }
            bytes.push(0);
            assert_ne!(Fingerprint::of(&bytes), whole, "a zero behind {len} bytes");
        }
    }

    #[test]
    fn exchanged_words_are_found() {
        let bytes = crate::testing::noise(3, 4096);
        let whole = Fingerprint::of(&bytes);
        for (one, other) in [(0, 8), (0, 32), (8, 4088), (64, 2048)] {
            let mut exchanged = bytes.clone();
            (0..8).for_each(|byte| exchanged.swap(one + byte, other + byte));
            assert_ne!(Fingerprint::of(&exchanged), whole, "{one} and {other}");
        }
    }
}
