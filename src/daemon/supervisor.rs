//! What systemd is told, if it started the daemon.

use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Mutex;
use std::time::Duration;

/// How long what is said once may wait until there is room for it: systemd reads its messages, but it may
/// be busy or stopped, and the kernel keeps few. What is said again soon does not wait.
const PATIENCE: Duration = Duration::from_secs(1);

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
            send(&[NotifyState::Watchdog], None);
        }
    }

    pub fn ready(&self) {
        send(&[NotifyState::Ready], Some(PATIENCE));
    }

    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => send(&[NotifyState::Reloading, now], Some(PATIENCE)),
            // Without the time, systemd does not take it.
            Err(error) => tracing::warn!("systemd is not told of the reload: {error}"),
        }
    }

    pub fn stopping(&self) {
        send(&[NotifyState::Stopping], Some(PATIENCE));
    }

    /// What the daemon does, in words.
    pub fn status(&self, text: String) {
        let mut told = super::lock(&self.status);
        // Where there is no room for it, it is said at the next turn.
        if *told != text && deliver(&[NotifyState::Status(&text)], None).is_ok() {
            *told = text;
        }
    }
}

/// Says it; whoever does not listen must hold nothing up.
fn send(states: &[NotifyState<'_>], patience: Option<Duration>) {
    if let Err(error) = deliver(states, patience) {
        tracing::warn!("systemd was not told something: {error}");
    }
}

/// The protocol is that of sd_notify(3): lines in one datagram. Waits until there is room for it, as
/// long as `patience`; without it, not at all.
fn deliver(states: &[NotifyState<'_>], patience: Option<Duration>) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    match patience {
        None => socket.set_nonblocking(true)?,
        Some(_) => socket.set_write_timeout(patience)?,
    }
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    socket.send_to_addr(text.as_bytes(), &address).map(|_| ())
}
