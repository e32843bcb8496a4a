//! Ways to tell people: a webhook or mail to them.

use super::message::{Kind, Notification};
use super::{DeliveryError, mail, webhook};
use crate::settings::{MailSettings, NotifyKind, NotifySettings, WebhookSettings};
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// One way to tell people.
#[derive(Debug, Clone)]
pub(super) enum Channel {
    Webhook(WebhookSettings),
    Mail(MailSettings),
}

impl Channel {
    /// All that the settings name.
    pub fn all(settings: &NotifySettings) -> Vec<Self> {
        let webhooks = settings.webhooks.values().cloned().map(Self::Webhook);
        webhooks.chain(settings.mails.values().cloned().map(Self::Mail)).collect()
    }

    /// Its name: `webhook ops`.
    pub fn name(&self) -> String {
        match self {
            Self::Webhook(settings) => format!("webhook {}", settings.name),
            Self::Mail(settings) => format!("mail {}", settings.name),
        }
    }

    fn host(&self) -> String {
        match self {
            Self::Webhook(settings) => format!("the server of the webhook {}", settings.name),
            Self::Mail(settings) => settings.host.clone(),
        }
    }

    fn on(&self) -> &BTreeSet<NotifyKind> {
        match self {
            Self::Webhook(settings) => &settings.on,
            Self::Mail(settings) => &settings.on,
        }
    }

    /// Whether it is to be told. An end is told only to those who were told of such a beginning.
    pub fn wants(&self, about: NotifyKind, kind: Kind) -> bool {
        let on = self.on();
        on.contains(&about) && (kind != Kind::Ended || on.contains(&NotifyKind::Recovery))
    }

    /// Hands a notification over, in at most `longest`. Returns what it could not do.
    ///
    /// # Errors
    /// When nobody got it.
    pub async fn deliver(
        &self,
        notification: &Notification,
        now: Timestamp,
        longest: Duration,
    ) -> Result<Option<String>, DeliveryError> {
        let attempt = async {
            match self {
                Self::Webhook(settings) => {
                    webhook::send(settings, notification, now).await.map(|()| None)
                }
                Self::Mail(settings) => mail::send(settings, notification, now).await,
            }
        };
        let seconds = longest.as_secs();
        tokio::time::timeout(longest, attempt)
            .await
            .unwrap_or_else(|_| Err(DeliveryError::Late { host: self.host(), seconds }))
    }
}
