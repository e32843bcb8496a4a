//! Who decides what becomes of each operation.

use crate::testing::LastOperation;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A number of an operating system's error.
pub type Errno = i32;

/// An operation that is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// A new file.
    Create,
    /// Opening a file that is there.
    Open,
    /// Writing to a file.
    Write,
    /// Making a range of a file zero.
    Zero,
    /// Changing a file's length.
    Resize,
    /// Making a file's content durable.
    Sync,
    /// Making names in a folder durable.
    SyncFolder,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Creating folders.
    CreateFolder,
    /// Listing a folder.
    List,
    /// Asking for what is known of a file, or for room.
    Look,
    /// Reading from a file.
    Read,
    /// Finding the file of a lock.
    Lock,
}

impl Step {
    /// Whether anything is different after it.
    pub fn is_change(self) -> bool {
        !matches!(self, Self::Open | Self::List | Self::Look | Self::Read | Self::Lock)
    }

    /// Whether it may find the disk full.
    pub fn needs_room(self) -> bool {
        matches!(self, Self::Create | Self::Write | Self::Resize | Self::CreateFolder)
    }
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It happens.
    Go,
    /// It fails. A sync that fails forgets what waited.
    Fail(Errno),
    /// The first half of a write happens, then it fails; anything else just fails.
    HalfWay(Errno),
    /// A read gives one byte less than it could, but one at least; anything else happens.
    Short,
    /// A read gives a byte that was never written, somewhere as the number says, often near the
    /// beginning; anything else happens.
    Flipped(u64),
    /// The process is dead: nothing happens.
    Gone,
}

/// Decides on each operation of one process, from any thread.
pub trait Director: Send + Sync + std::fmt::Debug {
    /// What becomes of `step` on `path`. May wait, for others to go first.
    fn decide(&self, step: Step, path: &Path) -> Verdict;
}

/// Everything succeeds.
#[derive(Debug, Clone, Copy)]
pub struct Free;

impl Director for Free {
    fn decide(&self, _: Step, _: &Path) -> Verdict {
        Verdict::Go
    }
}

/// The process is killed after a number of changes.
#[derive(Debug)]
pub struct Killed {
    left: AtomicU64,
    done: AtomicU64,
    dead: AtomicBool,
    last: LastOperation,
}

impl Killed {
    /// Lets `changes` through and interrupts the next one.
    pub fn after(changes: u64, last: LastOperation) -> Self {
        let (done, dead) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { left: AtomicU64::new(changes), done, dead, last }
    }

    /// Whether it was killed.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// How many changes were made.
    pub fn changes(&self) -> u64 {
        self.done.load(Ordering::SeqCst)
    }
}

impl Director for Killed {
    fn decide(&self, step: Step, _: &Path) -> Verdict {
        if self.is_dead() {
            return Verdict::Gone;
        }
        if !step.is_change() {
            return Verdict::Go;
        }
        let take = |left: u64| left.checked_sub(1);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
            self.done.fetch_add(1, Ordering::SeqCst);
            return Verdict::Go;
        }
        self.dead.store(true, Ordering::SeqCst);
        match self.last {
            LastOperation::Torn => Verdict::HalfWay(libc::EINTR),
            LastOperation::Absent => Verdict::Gone,
        }
    }
}

/// How long something fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// One operation.
    Once,
    /// From then on.
    ForEver,
}

/// Operations of some kinds fail, from the Nth on.
#[derive(Debug)]
pub struct Failing {
    of: fn(Step) -> bool,
    at: u64,
    span: Span,
    verdict: Verdict,
    seen: AtomicU64,
}

impl Failing {
    /// The operation number `at`, counted from 0, of those that `of` names gets `verdict`.
    pub fn new(of: fn(Step) -> bool, at: u64, span: Span, verdict: Verdict) -> Self {
        Self { of, at, span, verdict, seen: AtomicU64::new(0) }
    }

    /// Whether any operation failed.
    pub fn has_failed(&self) -> bool {
        self.seen.load(Ordering::SeqCst) > self.at
    }
}

impl Director for Failing {
    fn decide(&self, step: Step, _: &Path) -> Verdict {
        if !(self.of)(step) {
            return Verdict::Go;
        }
        let number = self.seen.fetch_add(1, Ordering::SeqCst);
        let fails = match self.span {
            Span::Once => number == self.at,
            Span::ForEver => number >= self.at,
        };
        if fails { self.verdict } else { Verdict::Go }
    }
}
