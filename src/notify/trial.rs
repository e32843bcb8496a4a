//! A test of channels.

use super::channel::Channel;
use super::message::Notification;
use super::{NotifyError, Sender, new_id, worker};
use crate::report::NotifyTestLine;
use crate::settings::NotifySettings;
use crate::units::readable;
use jiff::Timestamp;
use std::time::Duration;
use tokio::task::JoinSet;

/// Tells all channels a test at once, whatever they are told otherwise, and waits for their answers:
/// also without a daemon. Given a name, `ops` or `webhook ops`, only the channels of that name. Who
/// was not reached by a channel that reached others stands in its line as a problem.
///
/// # Errors
/// When no channel has that name, or the system gives no random bytes or no memory.
pub fn test(
    settings: &NotifySettings,
    sender: &Sender,
    channel: Option<&str>,
    now: Timestamp,
) -> Result<Vec<NotifyTestLine>, NotifyError> {
    let is_meant = |it: &Channel| {
        channel.is_none_or(|name| {
            it.name() == name || it.name().split_once(' ').unzip().1 == Some(name)
        })
    };
    let channels: Vec<Channel> = Channel::all(settings).into_iter().filter(is_meant).collect();
    if let (Some(name), true) = (channel, channels.is_empty()) {
        return Err(NotifyError::NoChannel { name: readable(name) });
    }
    let notification = Notification::of_test(new_id()?, &sender.host, now);
    // A thread of its own: whoever calls may be part of another runtime.
    std::thread::scope(|scope| {
        let all = || try_all(channels, &notification, sender.attempt_max, now);
        scope
            .spawn(all)
            .join()
            .unwrap_or_else(|_| Err(NotifyError::Thread(std::io::Error::other("it panicked"))))
    })
}

fn try_all(
    channels: Vec<Channel>,
    notification: &Notification,
    longest: Duration,
    now: Timestamp,
) -> Result<Vec<NotifyTestLine>, NotifyError> {
    let runtime = worker::runtime().map_err(NotifyError::Thread)?;
    let mut tests = JoinSet::new();
    let mut lines = Vec::new();
    for (place, channel) in channels.into_iter().enumerate() {
        let problem = Some("the attempt was cut off; run it again".to_owned());
        lines.push(NotifyTestLine { channel: channel.name(), problem });
        let notification = notification.clone();
        let attempt = async move { (place, channel.deliver(&notification, now, longest).await) };
        tests.spawn_on(attempt, runtime.handle());
    }
    runtime.block_on(async {
        while let Some(done) = tests.join_next().await {
            let Ok((place, outcome)) = done else { continue };
            lines[place].problem = outcome.unwrap_or_else(|error| Some(error.to_string()));
        }
    });
    runtime.shutdown_background();
    Ok(lines)
}
