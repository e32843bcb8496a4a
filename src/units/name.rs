//! Names that users give to machines, disks, replicas and repositories.

use std::fmt;
use std::str::FromStr;

/// Longest name, in characters (all of them ASCII).
pub const NAME_CHARS_MAX: usize = 64;

/// A user-given name. Invariant: 1 to [`NAME_CHARS_MAX`] characters from `A-Z a-z 0-9 . _ -`,
/// the first one a letter or digit; so a name is always a safe file name of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Name(String);

/// Why a text cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot be a name: use 1 to {NAME_CHARS_MAX} letters, digits, \".\", \"_\" or \"-\", \
     and begin with a letter or digit"
)]
pub struct InvalidName {
    text: String,
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if starts_well && text.len() <= NAME_CHARS_MAX && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            // Only the beginning: an endless name must not make an endless message.
            Err(InvalidName { text: text.chars().take(NAME_CHARS_MAX + 16).collect() })
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_folder_are_refused() {
        for text in ["", ".", "..", "../x", "a/b", "a\\b", ".hidden", "-flag", "a\nb", "ü", "a b"]
        {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        assert!("x".repeat(65).parse::<Name>().is_err());
        for text in ["web01", "a", "0", "web01.example.com", "A_b-c", &"x".repeat(64)] {
            assert!(text.parse::<Name>().is_ok(), "{text:?}");
        }
    }
}
