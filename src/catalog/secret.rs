//! A token as its user has it.

use crate::units::{Hex, fill_random};
use sha2::{Digest, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const PREFIX: &str = "aft_";
const SECRET_BYTES: usize = 32;
/// The alphabet of base64url (RFC 4648, section 5).
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Of 32 bytes, without padding.
const TEXT_CHARS: usize = PREFIX.len() + 43;

/// A token: `aft_` and 32 random bytes in base64url. `Debug` hides it, so that it does not get
/// into a log.
#[derive(Clone)]
pub struct TokenSecret(Zeroizing<String>);

impl TokenSecret {
    /// A new one from the operating system's random source.
    ///
    /// # Errors
    /// When that source does not answer.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        fill_random(bytes.as_mut())?;
        let mut text = Zeroizing::new(String::with_capacity(TEXT_CHARS));
        text.push_str(PREFIX);
        for group in bytes.chunks(3) {
            let part = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
            let bits = part(0) << 16 | part(1) << 8 | part(2);
            for digit in 0..=group.len() {
                let index = bits >> (18 - 6 * digit) & 63;
                text.push(char::from(ALPHABET[index as usize]));
            }
        }
        Ok(Self(text))
    }

    /// What somebody sent, if it has the form of a token.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_token = text.len() == TEXT_CHARS && digits.bytes().all(|b| ALPHABET.contains(&b));
        is_token.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The text, for the one who is to keep it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is stored of it. It has 256 random bits, so a slow hash would protect nothing.
    pub(super) fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0.as_bytes()).into())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret")
    }
}

/// SHA-256 of a token's text.
#[derive(Clone, Copy)]
pub(super) struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Compares in a time that does not depend on where they differ.
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({})", &Hex(self.0).to_string()[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_form_and_is_not_shown_by_accident() {
        let secret = TokenSecret::random().unwrap();
        let text = secret.reveal().to_owned();
        assert_eq!(text.len(), TEXT_CHARS);
        assert!(TokenSecret::parse(&text).unwrap().hash().is(&secret.hash()));
        assert!(!TokenSecret::random().unwrap().hash().is(&secret.hash()));
        assert!(!format!("{secret:?}").contains(&text[4..]));
        let wrong = ["", "aft_", &text[1..], &text[..46], &format!("{text}A"), &"a".repeat(47)];
        for wrong in wrong {
            assert!(TokenSecret::parse(wrong).is_none(), "{wrong}");
        }
    }
}
