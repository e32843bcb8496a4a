//! Deliberate breakages of the durable order and of checks, by which the tests prove that they
//! would notice. No released program can switch one on.

macro_rules! breakages {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Something that can be broken on purpose.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Breakage {
            $($(#[$doc])* $name,)*
        }

        impl Breakage {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }

        impl std::str::FromStr for Breakage {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $(stringify!($name) => Ok(Self::$name),)*
                    _ => Err(format!("{text} is nothing that can be broken on purpose")),
                }
            }
        }
    };
}

breakages! {
    /// A new file gets its name before its content is synced, which it never is.
    NewContentUnsynced,
    /// The folder of a new file is not synced.
    NewNameUnsynced,
    /// A file takes another one's place before its content is synced, which it never is.
    ReplacingContentUnsynced,
    /// A failed sync of a new file counts as a good one.
    SyncFailureIgnored,
    /// Names that another one made are relied on, durable or not.
    FoundNamesUnsynced,
    /// Packs go before the removal of the points that needed them is durable.
    ManifestsUnsynced,
    /// What a superblock is found to say counts as durable.
    FoundStateUnsynced,
    /// An image is compared with what memory holds of it.
    CacheBelieved,
    /// Old key slots go before a key file that was found exchanged is durable.
    FoundKeyUnsynced,
    /// The point is committed before the packs that it refers to are.
    PointBeforePacks,
    /// Blocks of a replica are written before the superblock names the journal.
    WrittenBeforeCommit,
    /// The superblock says `applying`, or anything, without a sync.
    SuperblockUnsynced,
    /// Both slots of the superblock are written, then synced at once.
    SlotsTogether,
    /// The superblock says `clean` before the journal was redone.
    CleanBeforeApplied,
    /// The images are not synced before the superblock says `clean`.
    TargetsUnsynced,
    /// The journal is removed before it was redone.
    JournalGoneFirst,
    /// What a disk gains is not zeroed in its image.
    GainKeepsOld,
    /// An image is not synced after the first copy.
    SeedUnsynced,
    /// What somebody else wrote to a replica is not looked for.
    ForeignWriteUnseen,
    /// A restored disk gets its name before its content is synced, which it never is.
    RestoreUnsynced,
    /// Condemned packs are removed by the marks of before.
    NoSecondMark,
    /// Nobody who began earlier is waited for.
    LeasesIgnored,
    /// What lies in condemned packs counts as known.
    CondemnedIsKnown,
    /// Files of writers that are at work are swept.
    LiveWritersSwept,
    /// Points are removed without a record of it.
    RemovalUnrecorded,
    /// What replicas need is not asked before points are removed.
    ReplicaNeedsIgnored,
    /// A replica that is compared and repaired still says that it is clean.
    SeedingUnnoted,
    /// Packs go although readers may have begun since they were condemned.
    Unconfirmed,
    /// Old key slots go before the new key has its place.
    OldSlotsFirst,
    /// The new key is not synced.
    KeyUnsynced,
    /// The name of the new key is not synced before the old slots go.
    KeyNameUnsynced,
    /// Content is not held against its name.
    NameUnchecked,
    /// A journal is not held against the digest that the superblock names.
    JournalUnchecked,
    /// The checksum of a superblock's slot is not looked at.
    SlotUnchecked,
}

/// Whether it is broken: never.
#[cfg(not(feature = "simulation"))]
#[inline]
pub const fn is_broken(_: Breakage) -> bool {
    false
}

#[cfg(feature = "simulation")]
pub use switch::{break_as_told, break_here, break_on_purpose, broken_here, is_broken};

#[cfg(feature = "simulation")]
mod switch {
    use super::Breakage;
    use std::cell::Cell;
    use std::sync::atomic::{AtomicU8, Ordering};

    thread_local! {
        static BROKEN_HERE: Cell<Option<Breakage>> = const { Cell::new(None) };
    }

    const NONE: u8 = u8::MAX;
    static BROKEN: AtomicU8 = AtomicU8::new(NONE);

    /// Whether it is broken now.
    pub fn is_broken(what: Breakage) -> bool {
        BROKEN_HERE.get() == Some(what) || BROKEN.load(Ordering::Relaxed) == what as u8
    }

    /// Breaks one thing on this thread, or mends it.
    pub fn break_here(what: Option<Breakage>) {
        BROKEN_HERE.set(what);
    }

    /// What is broken on this thread.
    pub fn broken_here() -> Option<Breakage> {
        BROKEN_HERE.get()
    }

    /// Breaks one thing in the whole process, or mends all.
    pub fn break_on_purpose(what: Option<Breakage>) {
        BROKEN.store(what.map_or(NONE, |what| what as u8), Ordering::Relaxed);
    }

    /// Breaks what `AFTERIMAGE_BREAK` names, so that tests can break the program as a whole.
    ///
    /// # Errors
    /// When there is no such breakage: a test that breaks nothing would prove nothing.
    pub fn break_as_told() -> Result<(), String> {
        match std::env::var("AFTERIMAGE_BREAK") {
            Ok(name) => name.parse().map(|what| break_on_purpose(Some(what))),
            Err(_) => Ok(()),
        }
    }
}
