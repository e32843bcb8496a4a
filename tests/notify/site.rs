//! A place with a history, settings, and a clock of its own.

use crate::common::authority::Authority;
use crate::common::name;
use crate::stream::server_tls;
use afterimage::catalog::History;
use afterimage::notify::{ConditionKey, Notifier, Observation, Sender, Severity, Wrong, test};
use afterimage::report::NotifyTestLine;
use afterimage::settings::{
    MailSecurity, MailSettings, NotifyKind, NotifySettings, WebhookSettings,
};
use jiff::{SignedDuration, Timestamp};
use rustls::ServerConfig;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Site {
    pub folder: tempfile::TempDir,
    pub authority: Authority,
    pub settings: NotifySettings,
    pub sender: Sender,
    pub now: Timestamp,
}

impl Site {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new(folder.path(), "good");
        Self {
            authority,
            settings: NotifySettings::default(),
            sender: Sender { host: "host01".into(), attempt_max: PATIENCE },
            now: "2026-11-28T08:00:00Z".parse().unwrap(),
            folder,
        }
    }

    pub fn tls(&self) -> Option<Arc<ServerConfig>> {
        Some(server_tls(&self.authority))
    }

    pub fn webhook(&mut self, of: &str, url: &str) -> &mut WebhookSettings {
        let secret = self.folder.path().join(format!("{of}.secret"));
        std::fs::write(&secret, "hush-hush\n").unwrap();
        let settings = WebhookSettings {
            name: name(of),
            url: url.to_owned().into(),
            secret_file: Some(secret),
            allow_private: true,
            authority: Some(self.authority.path("ca-cert.pem")),
            on: BTreeSet::from(NotifyKind::ALL),
        };
        self.settings.webhooks.insert(name(of), settings);
        self.settings.webhooks.get_mut(&name(of)).unwrap()
    }

    pub fn mail(&mut self, of: &str, port: u16, security: MailSecurity) -> &mut MailSettings {
        let settings = MailSettings {
            name: name(of),
            host: "localhost".into(),
            port,
            security,
            login: None,
            authority: Some(self.authority.path("ca-cert.pem")),
            from: "afterimage <afterimage@example.org>".into(),
            to: vec!["ops@example.org".into()],
            on: BTreeSet::from(NotifyKind::ALL),
        };
        self.settings.mails.insert(name(of), settings);
        self.settings.mails.get_mut(&name(of)).unwrap()
    }

    pub fn history(&self) -> Arc<History> {
        Arc::new(History::open(self.folder.path()).unwrap())
    }

    pub fn notifier(&self) -> Notifier {
        Notifier::start(&self.settings, self.sender.clone(), self.history(), self.now).unwrap()
    }

    /// What a test of the only channel says.
    pub fn test(&self) -> NotifyTestLine {
        let mut lines = test(&self.settings, &self.sender, None, self.now).unwrap();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    /// Why a test of the only channel failed.
    pub fn test_error(&self) -> String {
        self.test().problem.expect("a test that should fail")
    }

    pub fn pass(&mut self, time: SignedDuration) {
        self.now += time;
    }
}

pub fn failed(task: &str) -> Observation {
    let wrong = Wrong {
        severity: Severity::Error,
        text: "the disk /dev/vda cannot be read".into(),
        next: Some(format!("afterimage backup {task}")),
    };
    Observation { key: key(task), wrong: Some(wrong) }
}

pub fn well(task: &str) -> Observation {
    Observation { key: key(task), wrong: None }
}

pub fn key(task: &str) -> ConditionKey {
    ConditionKey::RunFailed { task: format!("backup of {task}") }
}

/// Waits for what must come.
pub fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
