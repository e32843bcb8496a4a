//! How much is tried, from the environment.

use std::time::{Duration, Instant};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// How often a test goes round, and with what.
pub struct Knobs {
    pub seed: u64,
    cycles: u64,
    until: Option<Instant>,
}

impl Knobs {
    /// `count_name` is the variable that says how many cycles instead of `cycles`.
    pub fn new(count_name: &str, cycles: u64) -> Self {
        let seconds = number("AFTERIMAGE_SECONDS").map(Duration::from_secs);
        Self {
            seed: number("AFTERIMAGE_SEED").unwrap_or(20_261_127),
            cycles: number(count_name).unwrap_or(cycles),
            until: seconds.map(|seconds| Instant::now() + seconds),
        }
    }

    /// So many cycles, whatever the environment says.
    pub fn at_most(cycles: u64) -> Self {
        Self { cycles, until: None, ..Self::new("", cycles) }
    }

    /// The cycles, which end early when the time is over.
    pub fn cycles(&self) -> impl Iterator<Item = u64> {
        let until = self.until;
        (0..self.cycles).take_while(move |_| until.is_none_or(|until| Instant::now() < until))
    }
}
