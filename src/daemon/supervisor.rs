//! What systemd is told, if it started the daemon.

use sd_notify::NotifyState;
use std::sync::Mutex;
use std::time::Duration;

/// Messages to systemd. Without it, nothing is sent. A message that cannot be sent is not missed:
/// what it says can be had from the daemon itself.
#[derive(Debug)]
pub(super) struct Supervisor {
    watchdog: Option<Duration>,
    status: Mutex<String>,
}

impl Supervisor {
    pub fn new() -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), status: Mutex::default() }
    }

    /// How often [`Self::alive`] is to be told; `None`: nobody listens.
    pub fn alive_every(&self) -> Option<Duration> {
        // Half of it would do, if nothing were ever late.
        self.watchdog.map(|limit| limit / 3)
    }

    pub fn alive(&self) {
        if self.watchdog.is_some() {
            send(&[NotifyState::Watchdog]);
        }
    }

    pub fn ready(&self) {
        send(&[NotifyState::Ready]);
    }

    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(&[NotifyState::Reloading, now]),
            // Without the time, systemd does not take it.
            Err(error) => tracing::warn!("systemd is not told of the reload: {error}"),
        }
    }

    pub fn stopping(&self) {
        send(&[NotifyState::Stopping]);
    }

    /// What the daemon does, in words.
    pub fn status(&self, text: String) {
        let mut told = super::lock(&self.status);
        if *told != text {
            send(&[NotifyState::Status(&text)]);
            *told = text;
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("systemd was not told something: {error}");
    }
}
