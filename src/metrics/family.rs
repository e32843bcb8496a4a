//! Families of metrics, before they are text.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;

/// Names and values of labels.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Metrics of one name.
#[derive(Debug)]
pub(super) struct Family {
    /// Without its unit and `_total`.
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    samples: Vec<(Labels, f64)>,
}

impl Family {
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: None, kind: MetricType::Gauge, samples: Vec::new() }
    }

    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self { kind: MetricType::Counter, ..Self::gauge(name, help) }
    }

    pub fn seconds(self) -> Self {
        Self { unit: Some(Unit::Seconds), ..self }
    }

    pub fn bytes(self) -> Self {
        Self { unit: Some(Unit::Bytes), ..self }
    }

    pub fn ratio(self) -> Self {
        Self { unit: Some(Unit::Other("ratio".to_owned())), ..self }
    }

    pub fn add(&mut self, labels: Labels, value: f64) {
        self.samples.push((labels, value));
    }

    /// With one sample.
    pub fn only(mut self, labels: Labels, value: f64) -> Self {
        self.add(labels, value);
        self
    }

    /// With samples.
    pub fn with(mut self, samples: impl IntoIterator<Item = (Labels, f64)>) -> Self {
        self.samples.extend(samples);
        self
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let unit = self.unit.as_ref();
        let mut metrics = encoder.encode_descriptor(self.name, self.help, unit, self.kind)?;
        for (labels, value) in &self.samples {
            let metric = metrics.encode_family(labels)?;
            match self.kind {
                MetricType::Counter => ConstCounter::new(*value).encode(metric)?,
                _ => ConstGauge::new(*value).encode(metric)?,
            }
        }
        Ok(())
    }
}

/// Families, in the order in which they are told.
#[derive(Debug)]
pub(super) struct Families(pub Vec<Family>);

impl Families {
    pub fn extend(&mut self, more: impl IntoIterator<Item = Family>) {
        self.0.extend(more);
    }
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // One without samples tells nothing.
        let mut told = self.0.iter().filter(|family| !family.samples.is_empty());
        told.try_for_each(|family| family.encode(&mut encoder))
    }
}
