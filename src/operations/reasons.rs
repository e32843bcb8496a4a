//! Reasons within the errors of operations.

use crate::units::InvalidName;
use std::error::Error;

/// The message of an error, and those of its reasons that it does not hold already.
pub fn with_reasons(error: &dyn Error) -> String {
    let mut message = error.to_string();
    let mut next = error.source();
    while let Some(reason) = next {
        let text = reason.to_string();
        if !message.contains(&text) {
            message += &format!(": {text}");
        }
        next = reason.source();
    }
    message
}

/// Why a local catalog cannot be relied on.
#[derive(Debug, thiserror::Error)]
pub enum CatalogProblem {
    /// There is none.
    #[error("is missing, although the repository holds points or packs")]
    Missing,
    /// It was made for another repository.
    #[error("belongs to the repository {found}")]
    Foreign {
        /// That repository.
        found: String,
    },
    /// It cannot be read.
    #[error("is damaged: {reason}")]
    Damaged {
        /// How that shows.
        reason: String,
    },
    /// It has been further.
    #[error("is an older copy: it is at generation {found}, and has been at {seen}")]
    Older {
        /// Where it is.
        found: u64,
        /// Where it has been.
        seen: u64,
    },
    /// It does not hold what the repository holds.
    #[error("differs from the repository in {count} places: {listed}")]
    Differs {
        /// How many.
        count: u64,
        /// The first ones.
        listed: String,
    },
}

/// Why a file name cannot travel in a point.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionNameReason {
    /// It is no name.
    #[error(transparent)]
    Invalid(#[from] InvalidName),
    /// Two files have it.
    #[error("another file of the definition has the same name")]
    Twice,
}
