//! What is wrong with a file, for people and for programs.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::fsio::FileError;

/// Something in the file that has to be changed, or that the user should know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
    /// What is wrong, in one sentence without an end.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line of the file, and a second line that marks the place with `^`.
    pub excerpt: String,
}

impl Problem {
    /// This problem as text that names `file`; several lines, the last one ended.
    pub fn render(&self, file: &Path) -> String {
        let mut text =
            format!("{}:{}:{}: {}\n", file.display(), self.line, self.column, self.message);
        let number = self.line.to_string();
        for (index, line) in self.excerpt.lines().enumerate() {
            let gutter = if index == 0 { number.as_str() } else { "" };
            text += format!("{gutter:>6} | {line}").trim_end();
            text.push('\n');
        }
        if let Some(hint) = &self.hint {
            text += &format!("       = {hint}\n");
        }
        text
    }
}

/// All that is wrong with a file. Invariant: `problems` is sorted by position and not empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize)]
pub struct SettingsErrors {
    /// The file, as it was named.
    #[serde(serialize_with = "as_displayed")]
    pub file: PathBuf,
    /// The problems, sorted by position.
    pub problems: Vec<Problem>,
    /// Problems that were found but left out, because there were too many.
    pub left_out: usize,
    /// Whether parts of the file were not understood, and so not checked.
    pub incomplete: bool,
}

fn as_displayed<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    // A path that is not UTF-8 must not make the report fail.
    serializer.collect_str(&path.display())
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "{}", problem.render(&self.file))?;
        }
        let count = self.problems.len() + self.left_out;
        let noun = if count == 1 { "problem" } else { "problems" };
        write!(f, "{count} {noun} in {}", self.file.display())?;
        if self.left_out > 0 {
            write!(f, "; {} of them are shown", self.problems.len())?;
        }
        if self.incomplete {
            write!(f, "; correct and check again: not all of it could be checked")?;
        }
        Ok(())
    }
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// There is no such file.
    #[error(
        "there is no settings file {}\n\
         name one with `-c FILE` or with AFTERIMAGE_CONFIG=FILE, or begin with a copy of the \
         sample config/afterimage.toml",
        file.display()
    )]
    Missing {
        /// The file that was asked for.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("{0}\nname another settings file with `-c FILE` or with AFTERIMAGE_CONFIG=FILE")]
    Unreadable(#[source] FileError),
    /// The file is longer than any settings file needs to be.
    #[error(
        "{} is longer than {}: is it a settings file?",
        file.display(),
        crate::units::format_bytes(super::FILE_BYTES_MAX)
    )]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// The file is not text.
    #[error(
        "{}:{line}: the byte 0x{byte:02x} is not UTF-8 text\nsave the file in UTF-8",
        file.display()
    )]
    NotText {
        /// The file.
        file: PathBuf,
        /// Line of the first byte that is not UTF-8, from 1.
        line: usize,
        /// That byte.
        byte: u8,
    },
    /// The file was read, and things in it are wrong.
    #[error(transparent)]
    Invalid(#[from] SettingsErrors),
}
