//! Notifications, to real servers over TLS: HTTP and SMTP.

#[path = "../common/mod.rs"]
mod common;
mod conditions;
mod facts;
mod http_server;
mod killed;
mod mails;
mod notifier;
mod reports;
mod site;
mod smtp_server;
mod stream;
mod webhooks;
