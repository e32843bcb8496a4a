//! Parts of the day, and how fast data may flow in them.

use std::fmt;

/// Minutes of a day.
pub const DAY_MINUTES: u16 = 24 * 60;

/// A part of each day, by the clock on the wall; it may go over midnight. Invariant: `from_min` is less
/// than [`DAY_MINUTES`], `to_min` is at most that, and the two differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// First minute of the day that belongs to it.
    pub from_min: u16,
    /// First minute of the day that no longer does.
    pub to_min: u16,
}

impl Window {
    /// Whether a minute of the day, less than [`DAY_MINUTES`], belongs to it.
    pub fn contains(&self, minute: u16) -> bool {
        if self.from_min < self.to_min {
            (self.from_min..self.to_min).contains(&minute)
        } else {
            minute >= self.from_min || minute < self.to_min
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from_min, self.to_min);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

/// How many bytes may flow in a second, always or in a part of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateRule {
    /// At most this much; never 0.
    pub bytes_per_s: u64,
    /// Only then; `None`: at any time.
    pub at: Option<Window>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_ends_before_its_last_minute_and_may_go_over_midnight() {
        let holds = |from_min, to_min, minute| Window { from_min, to_min }.contains(minute);
        assert!(holds(480, 1080, 480) && holds(480, 1080, 1079));
        assert!(!holds(480, 1080, 479) && !holds(480, 1080, 1080));
        assert!(holds(1320, 360, 1320) && holds(1320, 360, 0) && holds(1320, 360, 359));
        assert!(!holds(1320, 360, 360) && !holds(1320, 360, 1319));
        assert!(holds(1320, DAY_MINUTES, 1439) && !holds(1320, DAY_MINUTES, 0));
        assert!(holds(1320, 0, 1439) && !holds(1320, 0, 0));
        assert_eq!(Window { from_min: 1320, to_min: 360 }.to_string(), "22:00-06:00");
    }
}
