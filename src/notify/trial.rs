//! A test of all channels.

use super::channel::Channel;
use super::message::Notification;
use super::{NotifyError, Sender, new_id, worker};
use crate::settings::NotifySettings;
use jiff::Timestamp;
use tokio::task::JoinSet;

/// How a test of a channel ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TestOutcome {
    /// The channel: `mail ops`.
    pub channel: String,
    /// Why nothing went; `None`: it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whom it did not reach, where it reached others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl TestOutcome {
    fn untold(channel: &Channel) -> Self {
        let error = Some("the attempt was cut off; run it again".to_owned());
        Self { channel: channel.name(), error, note: None }
    }
}

/// Tells all channels a test at once, whatever they are told otherwise, and waits for their answers:
/// also without a daemon.
///
/// # Errors
/// When the system gives no random bytes or no memory.
pub fn test(
    settings: &NotifySettings,
    sender: &Sender,
    now: Timestamp,
) -> Result<Vec<TestOutcome>, NotifyError> {
    let notification = Notification::of_test(new_id()?, &sender.host, now);
    let runtime = worker::runtime().map_err(NotifyError::Thread)?;
    let mut tests = JoinSet::new();
    let mut outcomes = Vec::new();
    for (place, channel) in Channel::all(settings).into_iter().enumerate() {
        outcomes.push(TestOutcome::untold(&channel));
        let (notification, longest) = (notification.clone(), sender.attempt_max);
        let attempt = async move { (place, channel.deliver(&notification, now, longest).await) };
        tests.spawn_on(attempt, runtime.handle());
    }
    runtime.block_on(async {
        while let Some(done) = tests.join_next().await {
            let Ok((place, outcome)) = done else { continue };
            match outcome {
                Ok(note) => (outcomes[place].error, outcomes[place].note) = (None, note),
                Err(error) => outcomes[place].error = Some(error.to_string()),
            }
        }
    });
    runtime.shutdown_background();
    Ok(outcomes)
}
