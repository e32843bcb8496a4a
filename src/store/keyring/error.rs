//! Why keys are not changed.

use crate::units::SlotId;
use std::path::PathBuf;

/// A change of the keys that is refused. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A plain repository has no keys.
    #[error("the repository in {} is not encrypted: it has no keys", path.display())]
    NotEncrypted {
        /// Where.
        path: PathBuf,
    },
    /// The index cannot be believed.
    #[error(
        "the index of key slots in {} is damaged ({reason}), so no key is changed; look at the \
         slots with `afterimage key list`, then write it anew with `afterimage key list --repair`",
        path.display()
    )]
    IndexDamaged {
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody else's change was cut off.
    #[error(
        "{change} of the keys in {} was begun and not finished, with other key files than these \
         settings name; run `afterimage key rotate` again where it was begun, or accept the slots \
         as they are with `afterimage key list --repair`", path.display()
    )]
    UnfinishedElsewhere {
        /// Where.
        path: PathBuf,
        /// In words.
        change: &'static str,
    },
    /// No slot has these digits.
    #[error("no key slot begins with `{digits}`; `afterimage key list` shows them")]
    UnknownSlot {
        /// What was typed.
        digits: String,
    },
    /// Several slots have these digits.
    #[error("several key slots begin with `{digits}`; type more digits")]
    AmbiguousSlot {
        /// What was typed.
        digits: String,
    },
    /// Nothing would open the repository any more.
    #[error(
        "key slot {slot} is the last good one: without it nothing in the repository could be read, \
         ever; add another with `afterimage key add` first"
    )]
    LastSlot {
        /// The slot.
        slot: SlotId,
    },
    /// The settings' key would open nothing any more.
    #[error(
        "key slot {slot} is the only one that the key of the settings opens; exchange that key with \
         `afterimage key rotate`, or add `--own-key` if the settings shall name another one"
    )]
    OnlyOwnSlot {
        /// The slot.
        slot: SlotId,
    },
    /// There would be more slots than are ever tried.
    #[error("there are {count} key slots already; remove some with `afterimage key remove`")]
    TooManySlots {
        /// How many.
        count: usize,
    },
    /// The slot that opens is not under its own name.
    #[error(
        "the key opens only a copy of a key slot, under another name than its own; give it back its \
         name: `afterimage key list` shows the files in {} that have none", path.display()
    )]
    Misnamed {
        /// The folder of slots.
        path: PathBuf,
    },
    /// Files of that name stand in the way.
    #[error(
        "{} exists, and no rotation that is known of put it there; move it away, or remove it if \
         nobody needs it, then run this again", path.display()
    )]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// The new slot does not open.
    #[error(
        "the new key slot {slot} does not open from disk: the disk or this machine's memory is \
         failing; the old key still opens the repository. Run this again on a good machine"
    )]
    DoesNotOpen {
        /// The slot.
        slot: SlotId,
    },
    /// An export is no export, or does not fit.
    #[error("{} cannot be used as an export of keys: {reason}", path.display())]
    Export {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
