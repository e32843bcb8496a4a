//! What the program is told to do.

use afterimage::testing::Random;

/// A command that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    Backup,
    Replicate,
    Prune,
    Gc,
    Restore,
    Rotate,
    Copy,
    Rebuild,
}

impl Task {
    pub const ALL: [Self; 8] = [
        Self::Backup,
        Self::Replicate,
        Self::Prune,
        Self::Gc,
        Self::Restore,
        Self::Rotate,
        Self::Copy,
        Self::Rebuild,
    ];

    /// Out of a hundred.
    fn weight(self) -> u64 {
        match self {
            Self::Backup => 32,
            Self::Replicate => 20,
            Self::Gc => 12,
            Self::Prune => 10,
            Self::Copy => 8,
            Self::Restore | Self::Rotate | Self::Rebuild => 6,
        }
    }

    pub fn any(random: &mut Random) -> Self {
        let mut left = random.below(100);
        for task in Self::ALL {
            if left < task.weight() {
                return task;
            }
            left -= task.weight();
        }
        unreachable!("the weights are a hundred together")
    }
}
