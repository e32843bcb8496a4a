//! Bytes as hexadecimal text.

use std::fmt;
use std::str::FromStr;

/// `N` bytes whose text form is twice as many hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex<const N: usize>(pub [u8; N]);

/// A text that is not so many hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a text of {digits} hexadecimal digits")]
pub struct ParseHexError {
    text: String,
    digits: usize,
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";
/// Bytes that are written at once.
const HEX_PART_BYTES: usize = 32;

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut bytes = [0_u8; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names are made into text by the ten thousand, so not digit by digit.
        for part in self.0.chunks(HEX_PART_BYTES) {
            let mut text = [0; 2 * HEX_PART_BYTES];
            for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(part) {
                *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
            }
            let text = std::str::from_utf8(&text[..2 * part.len()]).map_err(|_| fmt::Error)?;
            f.write_str(text)?;
        }
        Ok(())
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Only the beginning: an endless text must not make an endless message.
        let error =
            || ParseHexError { text: text.chars().take(N * 2 + 8).collect(), digits: N * 2 };
        decode(text).map(Self).ok_or_else(error)
    }
}

impl<const N: usize> serde::Serialize for Hex<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const N: usize> serde::Deserialize<'de> for Hex<N> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Gives a type of bytes the text form of [`Hex`].
macro_rules! hex_text {
    ($name:ident) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                crate::units::Hex(self.0).fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::units::ParseHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(|crate::units::Hex(bytes)| Self(bytes))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                crate::units::Hex(self.0).serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::units::Hex::deserialize(deserializer).map(|hex| Self(hex.0))
            }
        }
    };
}

pub(super) use hex_text;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_their_text_form() {
        let hex = Hex::<32>(std::array::from_fn(|index| index as u8 * 7));
        assert_eq!(hex.to_string().parse::<Hex<32>>(), Ok(hex));
        assert_eq!(hex.to_string().to_uppercase().parse::<Hex<32>>(), Ok(hex));
        for text in ["zz".repeat(32), "ab".repeat(31), "ab".repeat(33), String::new()] {
            assert!(text.parse::<Hex<32>>().is_err(), "{text}");
        }
    }
}
