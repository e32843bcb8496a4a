//! Whether the clock on the wall is believed.
//!
//! It is held against the time since the system started. Where the two disagree by more than an
//! hour from one look to the next, the wall clock was set, and one of its two readings was wrong.
//! Then it is in doubt, and nothing is pruned by it, until both have agreed for an hour; after a
//! jump of more than 30 days that is not enough, because a wrong clock agrees with itself: it must
//! come back to where it should be, or a person must say that it is right.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Now;

/// By how much the clock may be set without doubt, and for how long it must agree after that.
const HOUR: SignedDuration = SignedDuration::from_hours(1);
/// Slots are set aside only when they are further ahead than this.
pub(super) const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Beyond this, only a person can say that the clock is right.
const FAR: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How often it is noted how the clock stands.
const NOTE_EVERY: Duration = Duration::from_secs(600);

/// How the clock stood, as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClockMark {
    /// By the clock on the wall, when it was believed last.
    pub wall: Timestamp,
    /// The time since the system started then, in milliseconds.
    pub boot_ms: u64,
    /// Which start of the system that was.
    pub boot_id: Option<String>,
    /// Why it is not believed.
    pub doubt: Option<ClockDoubt>,
}

/// Why the clock is not believed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClockDoubt {
    /// What it showed when that was found.
    pub found: Timestamp,
    /// What it should have shown, as far as that is known.
    pub expected: Timestamp,
    /// Only a person can say that it is right, unless it comes back.
    pub is_far: bool,
}

/// What was found when the clock was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    None,
    /// It was set ahead by more than an hour.
    Ahead,
    /// It was set back by more than an hour.
    Back,
}

/// Looks at the clock.
#[derive(Debug)]
pub(super) struct ClockWatch {
    boot_id: Option<String>,
    last: Now,
    /// When it was believed last.
    believed: Now,
    doubt: Option<ClockDoubt>,
    /// Since when, by the time since the system started, it agrees.
    agrees_since: Duration,
    /// What was noted last, and when.
    noted: Option<(ClockMark, Duration)>,
}

impl ClockWatch {
    /// Looks for the first time. `mark` is what was noted last, `latest` the latest instant that is
    /// known where nothing was noted.
    pub fn new(
        now: Now,
        boot_id: Option<&str>,
        mark: Option<&ClockMark>,
        latest: Option<Timestamp>,
    ) -> (Self, Step) {
        let mut watch = Self {
            boot_id: boot_id.map(str::to_owned),
            last: now,
            believed: now,
            doubt: None,
            agrees_since: now.boot,
            noted: None,
        };
        let Some(wall) = mark.map(|mark| mark.wall).or(latest) else { return (watch, Step::None) };
        watch.doubt = mark.and_then(|mark| mark.doubt.clone());
        let same_boot = mark.filter(|mark| mark.boot_id.is_some() && mark.boot_id == watch.boot_id);
        if let Some(mark) = same_boot {
            let boot = Duration::from_millis(mark.boot_ms).min(now.boot);
            watch.believed = Now { wall, boot };
            // In doubt, the mark does not say where the wall clock was last.
            watch.last = if mark.doubt.is_some() { now } else { watch.believed };
            let step = watch.look(now);
            return (watch, step);
        }
        // Nobody knows for how long the system was off: only its direction is sure.
        let ahead = now.wall.duration_since(wall);
        let step = if ahead < -HOUR { Step::Back } else { Step::None };
        if step == Step::Back || ahead > FAR || watch.doubt.is_some() {
            let was_far = watch.doubt.as_ref().is_some_and(|doubt| doubt.is_far);
            let is_far = ahead < -DAY || (was_far && ahead > FAR);
            watch.doubt = Some(ClockDoubt { found: now.wall, expected: wall, is_far });
            // Until it is believed, what was believed last stays.
            watch.believed = Now { wall, boot: now.boot };
        }
        (watch, step)
    }

    /// Looks again.
    pub fn look(&mut self, now: Now) -> Step {
        let step = between(self.last, now);
        self.last = now;
        let off = between(self.believed, now);
        if step > HOUR || step < -HOUR {
            self.agrees_since = now.boot;
            let is_far = off > FAR || off < -FAR;
            let expected = now.wall.checked_sub(off).unwrap_or(self.believed.wall);
            self.doubt = Some(ClockDoubt { found: now.wall, expected, is_far });
            return if step > HOUR { Step::Ahead } else { Step::Back };
        }
        if let Some(doubt) = &mut self.doubt
            && doubt.is_far
            && (-HOUR..=HOUR).contains(&off)
        {
            // It came back, unseen: to where it should be.
            doubt.is_far = false;
            self.agrees_since = now.boot;
        }
        let agrees_for = now.boot.saturating_sub(self.agrees_since);
        if self.doubt.as_ref().is_some_and(|doubt| !doubt.is_far)
            && agrees_for >= HOUR.unsigned_abs()
        {
            self.doubt = None;
        }
        if self.doubt.is_none() {
            self.believed = now;
        }
        Step::None
    }

    /// A person says that the clock is right.
    pub fn trust(&mut self) {
        self.doubt = None;
        self.believed = self.last;
    }

    pub fn doubt(&self) -> Option<&ClockDoubt> {
        self.doubt.as_ref()
    }

    /// What is to be noted now, if anything.
    pub fn note(&mut self) -> Option<ClockMark> {
        let mark = ClockMark {
            wall: self.believed.wall,
            boot_ms: u64::try_from(self.believed.boot.as_millis()).unwrap_or(u64::MAX),
            boot_id: self.boot_id.clone(),
            doubt: self.doubt.clone(),
        };
        let is_due = match &self.noted {
            None => true,
            Some((noted, _)) if noted.doubt != mark.doubt => true,
            Some((noted, at)) => *noted != mark && self.last.boot.saturating_sub(*at) >= NOTE_EVERY,
        };
        is_due.then(|| {
            self.noted = Some((mark.clone(), self.last.boot));
            mark
        })
    }

    /// What was to be noted was not.
    pub fn forget_note(&mut self) {
        self.noted = None;
    }
}

/// By how much more the wall clock went on than the time since the system started did.
fn between(from: Now, to: Now) -> SignedDuration {
    let boot = SignedDuration::try_from(to.boot.saturating_sub(from.boot));
    to.wall.duration_since(from.wall).saturating_sub(boot.unwrap_or(SignedDuration::MAX))
}
