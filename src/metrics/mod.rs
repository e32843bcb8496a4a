//! Metrics in the conventions of Prometheus: plain facts in, text out.
//!
//! Labels hold names of the settings and words of a fixed set, nothing else: the number of series
//! is bounded by the settings.

mod collect;
mod family;
mod file;
mod process;
mod runs;

pub use file::{MetricsError, write_file};

use crate::catalog::{Compliance, History};
use crate::operations::{StatusReport, status};
use crate::report::{DaemonStatus, ObjectiveLine};
use crate::settings::Settings;
use family::Families;
use jiff::{SignedDuration, Timestamp};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// The media type of the text.
pub const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// For how long it is told how well objectives were met.
const COMPLIANCE_OF: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What metrics are made of.
#[derive(Debug, Clone)]
pub struct MetricsFacts {
    /// Ages count until now.
    pub now: Timestamp,
    /// The state of everything; it may be some minutes old.
    pub status: Arc<StatusReport>,
    /// How well the objectives are met.
    pub objectives: Vec<ObjectiveLine>,
    /// The daemon that tells; `None`: there is none.
    pub daemon: Option<DaemonStatus>,
}

/// What is known without a daemon. Takes as long as `status`.
pub fn gather(settings: &Settings, now: Timestamp) -> MetricsFacts {
    let status = status(settings, now);
    let machines = status.machines.iter().filter_map(|it| it.objective.clone());
    let replicas = status.replicas.iter().filter_map(|it| it.objective.clone());
    let mut objectives: Vec<ObjectiveLine> = machines.chain(replicas).collect();
    let from = now.saturating_add(-COMPLIANCE_OF).unwrap_or(Timestamp::MIN);
    // A history that cannot be read is a warning of the status.
    let compliance = History::open(&settings.state_dir).and_then(|it| it.compliance(from, now));
    let compliance = compliance.unwrap_or_default();
    for line in &mut objectives {
        line.compliance_percent = compliance.get(&line.subject()).and_then(Compliance::percent);
    }
    MetricsFacts { now, status: Arc::new(status), objectives, daemon: None }
}

/// All metrics, for a scrape: with those of this process, if it is a daemon.
pub fn render(facts: &MetricsFacts) -> String {
    let mut families = collect::families(facts);
    if let Some(daemon) = &facts.daemon {
        families.extend(process::families(daemon.started));
    }
    encode(families)
}

/// All metrics, for a file that another exporter reads, which has metrics of its own process.
pub fn render_file(facts: &MetricsFacts) -> String {
    encode(collect::families(facts))
}

fn encode(families: Families) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(families));
    let mut text = String::new();
    // To write to a string never fails.
    let _ = prometheus_text::encode(&mut text, &registry);
    text
}
