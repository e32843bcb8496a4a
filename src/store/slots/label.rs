//! What people call a key slot.

/// The longest label, in characters.
const LABEL_CHARS_MAX: usize = 64;

/// A label of a key slot: one line of text. It is authenticated, not secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SlotLabel(String);

/// A text that cannot be a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a label has 1 to {LABEL_CHARS_MAX} characters, and no line breaks or other controls")]
pub struct InvalidLabel;

impl SlotLabel {
    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for SlotLabel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SlotLabel {
    type Error = InvalidLabel;

    fn try_from(text: String) -> Result<Self, InvalidLabel> {
        let fits = !text.trim().is_empty()
            && text.chars().count() <= LABEL_CHARS_MAX
            && !text.chars().any(char::is_control);
        if fits { Ok(Self(text)) } else { Err(InvalidLabel) }
    }
}

impl std::str::FromStr for SlotLabel {
    type Err = InvalidLabel;

    fn from_str(text: &str) -> Result<Self, InvalidLabel> {
        text.to_owned().try_into()
    }
}

impl From<SlotLabel> for String {
    fn from(label: SlotLabel) -> Self {
        label.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_line_that_is_not_empty() {
        for good in ["a", "safe in the office", "Müller", &"x".repeat(64)] {
            assert_eq!(good.parse::<SlotLabel>().unwrap().as_str(), good);
        }
        for bad in ["", " ", "a\nb", "\u{1b}[2J", &"x".repeat(65)] {
            assert_eq!(bad.parse::<SlotLabel>(), Err(InvalidLabel), "{bad:?}");
        }
    }
}
