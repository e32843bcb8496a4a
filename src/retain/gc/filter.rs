//! A set of names in fixed memory: a Bloom filter (Bloom, 1970).
//!
//! Invariant: a name that was added is always found. One that was not may be found too, about one
//! in two thousand; whoever asks must only lose a little space by that.

use crate::units::ObjectName;

/// Bits for each name: with eight probes, one foreign name in about 1,700 is found.
const BITS_PER_NAME: u64 = 16;
const PROBES: u64 = 8;
const BITS_MIN: u64 = 64 * 1024;
/// 128 MiB: 67 million names at full precision; beyond, it finds more that it should not.
const BITS_MAX: u64 = 1 << 30;

/// The set.
#[derive(Debug)]
pub(super) struct NameFilter {
    words: Vec<u64>,
    mask: u64,
    salt: u64,
}

impl NameFilter {
    /// An empty set for about `names` names. Another `salt` is mistaken about other names.
    pub fn new(names: u64, salt: u64) -> Self {
        let bits = names.saturating_mul(BITS_PER_NAME).clamp(BITS_MIN, BITS_MAX);
        let bits = bits.next_power_of_two();
        Self { words: vec![0; (bits / 64) as usize], mask: bits - 1, salt }
    }

    /// Adds a name.
    pub fn insert(&mut self, name: ObjectName) {
        for bit in self.probes(name) {
            self.words[(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// Whether a name was added, perhaps.
    pub fn contains(&self, name: ObjectName) -> bool {
        self.probes(name).all(|bit| self.words[(bit / 64) as usize] & (1 << (bit % 64)) != 0)
    }

    /// Names are hashes already: two of their words give all probes (Kirsch, Mitzenmacher, 2006).
    fn probes(&self, name: ObjectName) -> impl Iterator<Item = u64> + use<> {
        let (words, _) = name.0.as_chunks::<8>();
        let first = u64::from_le_bytes(words[0]) ^ self.salt;
        let step = u64::from_le_bytes(words[1]).wrapping_add(self.salt) | 1;
        let mask = self.mask;
        (0..PROBES).map(move |probe| first.wrapping_add(step.wrapping_mul(probe)) & mask)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    fn name(number: u64) -> ObjectName {
        ObjectName(Sha256::digest(number.to_le_bytes()).into())
    }

    #[test]
    fn what_was_added_is_found_and_little_else() {
        for salt in [0, 0x9e37_79b9_7f4a_7c15] {
            let mut filter = NameFilter::new(20_000, salt);
            (0..20_000).for_each(|number| filter.insert(name(number)));
            assert!((0..20_000).all(|number| filter.contains(name(number))));
            let mistaken =
                (20_000..120_000).filter(|&number| filter.contains(name(number))).count();
            assert!(mistaken < 200, "{mistaken} of 100000");
        }
    }
}
