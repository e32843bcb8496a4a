//! How much of the host the runs take: bandwidth, processor and disks.

use crate::schedule::{self, rate_at};
use crate::settings::{DaemonSettings, IoPriority, LimitSettings};
use crate::sys;
use crate::throttle::{Throttle, network};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io;
use std::num::NonZeroU64;

/// Makes the limits of the settings hold from now on, for runs under way too: of what is read, by
/// all who ask `reads`; of the network, in all the process.
pub fn limit_bandwidth(limits: &LimitSettings, reads: &Throttle) {
    // The settings were checked for it.
    let zone = schedule::zone(&limits.timezone).unwrap_or_else(|_| TimeZone::system());
    let each = [(reads, &limits.read), (network(), &limits.network)];
    for (throttle, rules) in each {
        if rules.is_empty() {
            throttle.set_rate(None);
            continue;
        }
        let (rules, zone) = (rules.clone(), zone.clone());
        throttle.follow(move || rate_at(&rules, &zone, Timestamp::now()).and_then(NonZeroU64::new));
    }
}

/// Makes the calling thread stand back as the settings say, with all threads and processes that it
/// starts from now on. Call it on a thread that does one run: to come forward again takes rights
/// that a service may not have.
///
/// # Errors
/// When the system does not allow it; the run may go on all the same.
pub fn stand_back(settings: &DaemonSettings) -> io::Result<()> {
    if settings.nice > 0 {
        // On Linux this is about the thread, whatever the name says.
        rustix::process::setpriority_process(None, i32::from(settings.nice))?;
    }
    match settings.io {
        IoPriority::Normal => Ok(()),
        IoPriority::Idle => sys::set_io_priority(sys::IoPriority::Idle),
        IoPriority::BestEffort(level) => sys::set_io_priority(sys::IoPriority::BestEffort(level)),
    }
}

#[cfg(test)]
mod tests;
