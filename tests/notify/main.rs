//! Notifications, to real servers over TLS: HTTP and SMTP.

mod certificates;
mod conditions;
mod http_server;
mod mails;
mod notifier;
mod report;
mod site;
mod smtp_server;
mod webhooks;
