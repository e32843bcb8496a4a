//! Which point a user means; a pure function.

use crate::point::Point;
use crate::units::{Name, PointId};
use jiff::Timestamp;

/// The fewest digits by which a point may be named.
const ID_DIGITS_MIN: usize = 4;

/// What a user may write for a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointChoice {
    /// The newest.
    Latest,
    /// By its position in the machine's history: `#12`.
    Sequence(u64),
    /// By the first digits of its name.
    Id(String),
    /// The newest that is not newer than a moment.
    At(Timestamp),
}

/// Why no point was chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoosePointError {
    /// The text is none of the forms.
    #[error(
        "{text:?} names no point: use `latest`, the first digits of a point's id, its number as \
         `#12`, or a time such as `2026-11-22T09:30:00+01:00` or `2026-11-22 09:30`; `afterimage \
         points` lists them"
    )]
    NotAChoice {
        /// What was written.
        text: String,
    },
    /// The machine has no points.
    #[error(
        "{machine} has no recovery point there yet; `afterimage points` lists those of all \
         machines, `afterimage backup now` makes new ones"
    )]
    NoPoints {
        /// The machine.
        machine: Name,
    },
    /// None matches.
    #[error("{machine} has no point {choice} there; `afterimage points` lists what there is")]
    NoSuchPoint {
        /// The machine.
        machine: Name,
        /// What was asked for.
        choice: String,
    },
    /// Several match.
    #[error(
        "{text} is the beginning of {count} points of {machine}; give more digits, see \
         `afterimage points {machine}`"
    )]
    Ambiguous {
        /// The machine.
        machine: Name,
        /// What was written.
        text: String,
        /// How many points it may be.
        count: usize,
    },
}

impl PointChoice {
    /// Reads what a user wrote; times without a zone are in `zone`.
    ///
    /// # Errors
    /// [`ChoosePointError::NotAChoice`].
    pub fn parse(text: &str, zone: &jiff::tz::TimeZone) -> Result<Self, ChoosePointError> {
        let is_hex = |c: char| c.is_ascii_hexdigit();
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(number) = text.strip_prefix('#').and_then(|number| number.parse().ok()) {
            return Ok(Self::Sequence(number));
        }
        if (ID_DIGITS_MIN..=64).contains(&text.len()) && text.chars().all(is_hex) {
            return Ok(Self::Id(text.to_ascii_lowercase()));
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::At(time));
        }
        if let Ok(civil) = text.parse::<jiff::civil::DateTime>()
            && let Ok(zoned) = civil.to_zoned(zone.clone())
        {
            return Ok(Self::At(zoned.timestamp()));
        }
        Err(ChoosePointError::NotAChoice { text: text.chars().take(80).collect() })
    }
}

impl std::fmt::Display for PointChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Latest => f.write_str("at all"),
            Self::Sequence(number) => write!(f, "#{number}"),
            Self::Id(digits) => f.write_str(digits),
            Self::At(time) => write!(f, "at or before {time}"),
        }
    }
}

/// The point of `machine` that is meant; `points` are all of its points, the oldest first.
///
/// # Errors
/// When none matches, or several do.
pub fn choose_point<'a>(
    points: &'a [Point],
    machine: &Name,
    choice: &PointChoice,
) -> Result<&'a Point, ChoosePointError> {
    let Some(newest) = points.last() else {
        return Err(ChoosePointError::NoPoints { machine: machine.clone() });
    };
    let found = match choice {
        PointChoice::Latest => Some(newest),
        PointChoice::Sequence(number) => {
            points.iter().rev().find(|point| point.manifest.sequence.0 == *number)
        }
        PointChoice::Id(digits) => by_digits(points, machine, digits)?,
        PointChoice::At(time) => points
            .iter()
            .filter(|point| point.manifest.time <= *time)
            .max_by_key(|point| (point.manifest.time, point.manifest.sequence)),
    };
    found.ok_or_else(|| ChoosePointError::NoSuchPoint {
        machine: machine.clone(),
        choice: choice.to_string(),
    })
}

fn by_digits<'a>(
    points: &'a [Point],
    machine: &Name,
    digits: &str,
) -> Result<Option<&'a Point>, ChoosePointError> {
    let is_meant = |id: PointId| id.to_string().starts_with(digits);
    let mut meant = points.iter().filter(|point| is_meant(point.id));
    let first = meant.next();
    match meant.count() {
        0 => Ok(first),
        more => Err(ChoosePointError::Ambiguous {
            machine: machine.clone(),
            text: digits.to_owned(),
            count: more + 1,
        }),
    }
}
