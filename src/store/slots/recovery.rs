//! The recovery key: 256 random bits that people write down and type.
//!
//! ```text
//! 13 groups of 5 characters, in Crockford's base32 (no I, L, O, U; either case):
//!   4 characters   20 bits of the key, the highest first; the last 4 bits of all are zero
//!   1 character    check over the group and its number
//! ```
//!
//! Invariant: one wrong character in a group, two that changed places in it, and two groups that
//! changed places are always found, and named by the group, before anything is tried with the key.

use super::KEY_BYTES;
use crate::store::keys::SecretKey;
use crate::store::{StoreError, slots};
use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 13;
/// Characters of a group that carry the key.
const GROUP_DATA: usize = 4;
const GROUP_CHARS: usize = GROUP_DATA + 1;
/// Bits that the characters carry beyond those of the key.
const SPARE_BITS: usize = GROUPS * GROUP_DATA * 5 - KEY_BYTES * 8;
const _: () = assert!(SPARE_BITS == 4);

/// Why a text is no recovery key. It never holds what was typed: most of that is the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryKeyError {
    /// It is longer or shorter.
    #[error(
        "this is no recovery key: it has {found} characters, a recovery key has {} in {GROUPS} \
         groups of {GROUP_CHARS}", GROUPS * GROUP_CHARS
    )]
    Length {
        /// Characters without spaces and hyphens.
        found: usize,
    },
    /// Some groups are not what they were when they were written down.
    #[error("the recovery key is mistyped in group {}; nothing was tried with it", numbers(groups))]
    Groups {
        /// Their numbers, from 1.
        groups: Vec<usize>,
    },
}

fn numbers(groups: &[usize]) -> String {
    groups.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// A recovery key. It has no `Display`, and its `Debug` hides it: it is told on purpose only.
#[derive(Clone)]
pub struct RecoveryKey(SecretKey);

impl std::fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryKey")
    }
}

impl RecoveryKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn random() -> Result<Self, StoreError> {
        Ok(Self(SecretKey::new(slots::random()?)))
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_ref()
    }

    /// As it is written down.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP_CHARS + 1)));
        for group in 0..GROUPS {
            if group > 0 {
                text.push('-');
            }
            let mut symbols = [0; GROUP_CHARS];
            for (at, symbol) in symbols.iter_mut().take(GROUP_DATA).enumerate() {
                *symbol = self.symbol(group * GROUP_DATA + at);
            }
            symbols[GROUP_DATA] = check(group, &symbols);
            text.extend(symbols.iter().map(|symbol| char::from(ALPHABET[usize::from(*symbol)])));
        }
        text
    }

    /// Five bits of the key, from bit `at * 5`; those past its end are zero.
    fn symbol(&self, at: usize) -> u8 {
        (at * 5..at * 5 + 5).fold(0, |symbol, bit| {
            let byte = self.0.get(bit / 8).copied().unwrap_or(0);
            symbol << 1 | (byte >> (7 - bit % 8)) & 1
        })
    }

    /// Reads what was written down: in either case, with any spaces and hyphens, O taken for 0,
    /// I and L for 1.
    ///
    /// # Errors
    /// The groups that are mistyped.
    pub fn parse(text: &str) -> Result<Self, RecoveryKeyError> {
        let is_gap = |c: char| c.is_whitespace() || c == '-';
        let typed: Vec<&str> = text.split(is_gap).filter(|group| !group.is_empty()).collect();
        let found: usize = typed.iter().map(|group| group.chars().count()).sum();
        let joined = Zeroizing::new(typed.concat());
        let groups: Vec<&str> = match typed.len() {
            // A character that is missing in one group must not shift those behind it.
            GROUPS => typed,
            _ if found == GROUPS * GROUP_CHARS && joined.is_ascii() => (0..GROUPS)
                .filter_map(|at| joined.get(at * GROUP_CHARS..(at + 1) * GROUP_CHARS))
                .collect(),
            _ => return Err(RecoveryKeyError::Length { found }),
        };
        let mut key = Self(SecretKey::default());
        let mut wrong = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            match symbols(number, group) {
                Some(symbols) => key.put(number, &symbols),
                None => wrong.push(number + 1),
            }
        }
        if wrong.is_empty() { Ok(key) } else { Err(RecoveryKeyError::Groups { groups: wrong }) }
    }

    fn put(&mut self, group: usize, symbols: &[u8; GROUP_CHARS]) {
        for (at, symbol) in symbols.iter().take(GROUP_DATA).enumerate() {
            let first = (group * GROUP_DATA + at) * 5;
            for (bit, place) in (first..first + 5).enumerate() {
                if let Some(byte) = self.0.get_mut(place / 8) {
                    *byte |= (symbol >> (4 - bit) & 1) << (7 - place % 8);
                }
            }
        }
    }
}

/// The symbols of one group, if they and its check agree.
fn symbols(number: usize, group: &str) -> Option<[u8; GROUP_CHARS]> {
    let mut symbols = [0; GROUP_CHARS];
    if group.len() != GROUP_CHARS {
        return None;
    }
    for (symbol, typed) in symbols.iter_mut().zip(group.bytes()) {
        let meant = match typed.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        *symbol = ALPHABET.iter().position(|known| *known == meant)? as u8;
    }
    let spare =
        if number == GROUPS - 1 { symbols[GROUP_DATA - 1] & ((1 << SPARE_BITS) - 1) } else { 0 };
    (spare == 0 && check(number, &symbols) == symbols[GROUP_DATA]).then_some(symbols)
}

/// The check of a group: its characters as the coefficients of a polynomial over the field of 32
/// elements, at x, plus the group's number. Each place has a weight of its own that is not zero,
/// so a wrong character, or two that changed places, change the sum.
fn check(group: usize, symbols: &[u8; GROUP_CHARS]) -> u8 {
    let sum = symbols.iter().take(GROUP_DATA).fold(0, |sum, symbol| times_x(sum ^ symbol));
    sum ^ group as u8
}

/// Multiplies by x in the field of 32 elements, modulo x^5 + x^2 + 1.
fn times_x(element: u8) -> u8 {
    let shifted = element << 1;
    if shifted & 0b10_0000 == 0 { shifted } else { shifted ^ 0b10_0101 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> RecoveryKey {
        RecoveryKey(SecretKey::new(std::array::from_fn(|at| (at as u8).wrapping_mul(37) ^ seed)))
    }

    fn wrong_groups(text: &str) -> Vec<usize> {
        match RecoveryKey::parse(text).map(|key| key.0) {
            Err(RecoveryKeyError::Groups { groups }) => groups,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_key_survives_being_written_down_and_typed_in_any_manner() {
        for seed in 0..=255 {
            let key = key(seed);
            let text = key.text();
            assert_eq!(text.len(), GROUPS * (GROUP_CHARS + 1) - 1);
            let careless = text.to_lowercase().replace('0', "o").replace('1', "l");
            for typed in [
                text.to_string(),
                format!("  {}\n", text.replace('-', " ")),
                text.replace('-', ""),
                careless.replace('-', "\n-"),
            ] {
                assert!(RecoveryKey::parse(&typed).unwrap().0 == key.0, "{typed}");
            }
        }
        assert_eq!(
            key(0).text().as_str(),
            "00JMF-MVWMJ-Q7F0M-6A2D4-EABVZ-SR86V-5D87G-B6NZP-WG4JY-WMVRX-KQ1E3-E31HB-ASXGN"
        );
    }

    #[test]
    fn every_wrong_character_is_named_by_its_group() {
        let text = key(9).text();
        for at in (0..text.len()).filter(|at| at % 6 != 5) {
            for other in ALPHABET.iter().chain(b"U?").map(|byte| char::from(*byte)) {
                let mut typed = text.to_string();
                typed.replace_range(at..=at, &other.to_string());
                if typed != *text {
                    assert_eq!(wrong_groups(&typed), [at / 6 + 1], "{typed}");
                }
            }
        }
    }

    #[test]
    fn characters_and_groups_that_changed_places_are_named() {
        let text = key(77).text();
        for at in (0..text.len() - 1).filter(|at| at % 6 < 4) {
            let mut typed = text.to_string().into_bytes();
            if typed[at] != typed[at + 1] {
                typed.swap(at, at + 1);
                assert_eq!(wrong_groups(str::from_utf8(&typed).unwrap()), [at / 6 + 1]);
            }
        }
        for (a, b) in (0..GROUPS).flat_map(|a| (0..a).map(move |b| (a, b))) {
            let mut groups: Vec<&str> = text.split('-').collect();
            groups.swap(a, b);
            let wrong = wrong_groups(&groups.join("-"));
            assert!(wrong.contains(&(a + 1)) && wrong.contains(&(b + 1)), "{wrong:?}");
        }
    }

    #[test]
    fn a_character_that_is_missing_is_named_where_groups_are_kept_apart() {
        let text = key(3).text();
        let short = format!("{}{}", &text[..7], &text[8..]);
        assert_eq!(wrong_groups(&short), [2]);
        let parse = |text: &str| RecoveryKey::parse(text).map(|key| key.0).unwrap_err();
        let length = |found| RecoveryKeyError::Length { found };
        assert_eq!(parse(&short.replace('-', "")), length(64));
        assert_eq!(parse(""), length(0));
        assert_eq!(parse(&"ä".repeat(65)), length(65));
        assert_eq!(wrong_groups(&text.replace('-', "-ü")).len(), 12);
    }

    #[test]
    fn no_message_holds_what_was_typed() {
        let text = key(5).text();
        let mistyped = text.replacen('-', "-?", 1);
        let error = RecoveryKey::parse(&mistyped).unwrap_err().to_string();
        for group in text.split('-') {
            assert!(!error.contains(group), "{error}");
        }
        assert!(!format!("{:?}", key(5)).contains(&text[..5]));
    }
}
