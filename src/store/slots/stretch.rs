//! Pass phrases stretched by Argon2id, once for each slot while the process lives: a daemon opens
//! its repositories at every run, and each time would cost a fifth of a second and 64 MiB.

use crate::store::keys::{KEY_BYTES, SecretKey, derive};
use argon2::{Algorithm, Argon2, Params, Version};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// What stretching costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// How often it is gone through.
    pub passes: u32,
}

/// How many stretched pass phrases are remembered: a site has few repositories.
const REMEMBERED_MAX: usize = 16;

static KNOWN: Mutex<Known> = Mutex::new(Known(VecDeque::new()));

/// The newest first. A pass phrase itself is not kept, but what is derived of it with its salt and
/// cost; so it is found only by who has it.
struct Known(VecDeque<(SecretKey, SecretKey)>);

impl Known {
    fn find_or(
        &mut self,
        (text, salt, cost): (&[u8], &[u8; KEY_BYTES], Cost),
        stretch: impl FnOnce() -> Option<SecretKey>,
    ) -> Option<SecretKey> {
        let context = [cost.memory_kib.to_le_bytes(), cost.passes.to_le_bytes()].concat();
        let name = derive(text, salt, "afterimage stretched pass phrase", &context);
        if let Some((_, key)) = self.0.iter().find(|(known, _)| *known == name) {
            return Some(key.clone());
        }
        let key = stretch()?;
        self.0.push_front((name, key.clone()));
        self.0.truncate(REMEMBERED_MAX);
        Some(key)
    }
}

/// Stretches a pass phrase; `None` when the cost cannot be.
pub(super) fn stretch(text: &[u8], salt: &[u8; KEY_BYTES], cost: Cost) -> Option<SecretKey> {
    // One at a time, whoever else wants to: so many runs that begin at once take the memory once.
    // What is in there is whole, whoever panicked.
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.find_or((text, salt, cost), || {
        let params = Params::new(cost.memory_kib, cost.passes, 1, Some(KEY_BYTES)).ok()?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut stretched = SecretKey::default();
        argon2.hash_password_into(text, salt, stretched.as_mut()).ok()?;
        Some(stretched)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_phrase_is_stretched_once_for_its_salt_and_cost() {
        let mut known = Known(VecDeque::new());
        let cost = Cost { memory_kib: 8, passes: 1 };
        let asked = [
            (b"one", [1; KEY_BYTES], cost, true),
            (b"one", [1; KEY_BYTES], cost, false),
            (b"two", [1; KEY_BYTES], cost, true),
            (b"one", [2; KEY_BYTES], cost, true),
            (b"one", [1; KEY_BYTES], Cost { passes: 2, ..cost }, true),
            (b"one", [1; KEY_BYTES], Cost { memory_kib: 9, ..cost }, true),
            (b"two", [1; KEY_BYTES], cost, false),
        ];
        for (index, (text, salt, cost, is_new)) in asked.into_iter().enumerate() {
            let mut was_stretched = false;
            let found = known.find_or((text, &salt, cost), || {
                was_stretched = true;
                Some(SecretKey::new([index as u8; KEY_BYTES]))
            });
            assert_eq!(was_stretched, is_new, "{index}");
            assert_eq!(found.unwrap()[0], [0, 0, 2, 3, 4, 5, 2][index]);
        }
        // What cannot be is not remembered, and what was asked for long ago is forgotten.
        assert!(known.find_or((b"three", &[1; KEY_BYTES], cost), || None).is_none());
        assert_eq!(known.0.len(), 5);
        for salt in 0..40 {
            let key = || Some(SecretKey::default());
            known.find_or((b"four", &[salt; KEY_BYTES], cost), key);
        }
        assert_eq!(known.0.len(), REMEMBERED_MAX);
    }

    #[test]
    fn it_is_argon2id_each_time() {
        let cost = Cost { memory_kib: 64, passes: 2 };
        let mut expected = [0; KEY_BYTES];
        let params = Params::new(64, 2, 1, Some(KEY_BYTES)).unwrap();
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(b"of a test", &[7; KEY_BYTES], &mut expected).unwrap();
        for _ in 0..2 {
            let found = stretch(b"of a test", &[7; KEY_BYTES], cost).unwrap();
            assert_eq!(*found, expected);
        }
        assert!(stretch(b"of a test", &[7; KEY_BYTES], Cost { passes: 0, ..cost }).is_none());
    }
}
