//! By what a target is recognised as unchanged since we wrote to it last.
//!
//! Invariant: doubt counts as a change. It only costs a comparison of everything.

use super::TargetKind;
use crate::fsio::DeviceActivity;
use jiff::Timestamp;
use std::path::PathBuf;

/// A target as it was at one moment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetIdentity {
    /// Path that it was opened by.
    pub path: PathBuf,
    /// What it is.
    pub kind: TargetKind,
    /// Number of its file system's device.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Last change of content, in nanoseconds since 1970.
    #[serde(with = "nanoseconds")]
    pub mtime_ns: i128,
    /// Last change of content or attributes, in nanoseconds since 1970.
    #[serde(with = "nanoseconds")]
    pub ctime_ns: i128,
    /// Number of the device, of a device; else 0.
    pub raw_device: u64,
    /// What the kernel counted of a device, where it does.
    pub activity: Option<DeviceActivity>,
}

/// JSON readers take numbers for 64-bit floats: these go as text.
mod nanoseconds {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How a target differs from what was recorded: someone else may have written to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} changed since the last sync: {difference}", path.display())]
pub struct IdentityChange {
    /// The target as it is now.
    pub path: PathBuf,
    /// What differs.
    pub difference: Difference,
}

/// What differs, with both values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// A file was replaced by a device, or the other way round.
    #[error("it was {was} and is {now} now")]
    Kind {
        /// As recorded.
        was: TargetKind,
        /// As it is.
        now: TargetKind,
    },
    /// Nothing, or no disk of that kind, is there.
    #[error("it is gone, or something else has its name")]
    Missing,
    /// Another file or device has its name.
    #[error("another file or device is there now (it was {was}, it is {now})")]
    Replaced {
        /// As recorded.
        was: String,
        /// As it is.
        now: String,
    },
    /// Its size.
    #[error("it had {was} bytes and has {now}: something else resized it")]
    Size {
        /// As recorded.
        was: u64,
        /// As it is.
        now: u64,
    },
    /// Its modification time.
    #[error("its modification time was {was} and is {now}: something else wrote to it")]
    Modified {
        /// As recorded.
        was: String,
        /// As it is.
        now: String,
    },
    /// Its change time.
    #[error(
        "its change time was {was} and is {now}: something else touched it (a write with the \
         modification time set back looks the same as a change of mode or name)"
    )]
    Touched {
        /// As recorded.
        was: String,
        /// As it is.
        now: String,
    },
    /// The kernel counted writes.
    #[error(
        "{sectors} sectors were written to and {discards} discarded from the device by something \
         else"
    )]
    Written {
        /// Sectors of 512 bytes.
        sectors: u64,
        /// Sectors of 512 bytes.
        discards: u64,
    },
    /// Nothing says whether it was written to.
    #[error("it cannot be known whether the device was written to: {reason}")]
    Unknown {
        /// Why.
        reason: &'static str,
    },
}

fn time(nanoseconds: i128) -> String {
    Timestamp::from_nanosecond(nanoseconds)
        .map_or_else(|_| format!("{nanoseconds} ns"), |time| time.to_string())
}

impl IdentityChange {
    /// The target is no longer there.
    pub fn missing(path: PathBuf) -> Self {
        Self { path, difference: Difference::Missing }
    }
}

impl TargetIdentity {
    /// Whether `now` is the same file or device, whatever was written to it since. A device is
    /// only known within one boot of the system: its number may then belong to another.
    pub fn is_same_place(&self, now: &Self) -> bool {
        if self.kind != now.kind {
            return false;
        }
        match self.kind {
            // The number of a file system may change when the system starts anew.
            TargetKind::Image => {
                self.inode == now.inode && (self.device == now.device || self.path == now.path)
            }
            TargetKind::Device => match (&self.activity, &now.activity) {
                (Some(before), Some(after)) => {
                    self.raw_device == now.raw_device
                        && before.boot_id == after.boot_id
                        && before.diskseq == after.diskseq
                }
                _ => false,
            },
            TargetKind::Export => self.path == now.path,
        }
    }

    /// Whether `now` is this target, untouched.
    ///
    /// # Errors
    /// What differs, or what cannot be known.
    pub fn matches(&self, now: &Self) -> Result<(), IdentityChange> {
        let difference = if self.kind != now.kind {
            Some(Difference::Kind { was: self.kind, now: now.kind })
        } else if self.size_bytes != now.size_bytes {
            Some(Difference::Size { was: self.size_bytes, now: now.size_bytes })
        } else {
            match self.kind {
                TargetKind::Image => self.image_difference(now),
                TargetKind::Device => self.device_difference(now),
                TargetKind::Export => self.export_difference(now),
            }
        };
        difference
            .map_or(Ok(()), |difference| Err(IdentityChange { path: now.path.clone(), difference }))
    }

    fn image_difference(&self, now: &Self) -> Option<Difference> {
        let inode = |it: &Self| format!("inode {} on device {}", it.inode, it.device);
        if (self.device, self.inode) != (now.device, now.inode) {
            return Some(Difference::Replaced { was: inode(self), now: inode(now) });
        }
        if self.mtime_ns != now.mtime_ns {
            let (was, now) = (time(self.mtime_ns), time(now.mtime_ns));
            return Some(Difference::Modified { was, now });
        }
        (self.ctime_ns != now.ctime_ns)
            .then(|| Difference::Touched { was: time(self.ctime_ns), now: time(now.ctime_ns) })
    }

    // Limit: a server keeps no times and no counters that a client could ask for, so what others
    // wrote to an export is not seen here. Its server must let nobody else write.
    fn export_difference(&self, now: &Self) -> Option<Difference> {
        let shown = |it: &Self| it.path.display().to_string();
        (self.path != now.path).then(|| Difference::Replaced { was: shown(self), now: shown(now) })
    }

    fn device_difference(&self, now: &Self) -> Option<Difference> {
        let unknown = |reason| Some(Difference::Unknown { reason });
        let (Some(before), Some(after)) = (&self.activity, &now.activity) else {
            return unknown("the kernel keeps no counters of it");
        };
        if before.boot_id != after.boot_id {
            return unknown("the system was started anew, which begins its counters at 0");
        }
        // A number of a device can be given again; its sequence number never is.
        let number = |it: &Self, seq| format!("number {}, sequence {seq}", it.raw_device);
        if self.raw_device != now.raw_device || before.diskseq != after.diskseq {
            let (was, now) = (number(self, before.diskseq), number(now, after.diskseq));
            return Some(Difference::Replaced { was, now });
        }
        let sectors = after.sectors_written.checked_sub(before.sectors_written);
        let discards = after.discards.checked_sub(before.discards);
        match (sectors, discards) {
            (Some(0), Some(0)) => None,
            (Some(sectors), Some(discards)) => Some(Difference::Written { sectors, discards }),
            _ => unknown("its counters went backwards"),
        }
    }
}
