//! Reads `[limits]`.

use crate::units::RateRule;

/// How fast data may flow, in all runs together. Of each list, the first rule that fits the time of
/// the day holds; where none fits, there is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// IANA name of the zone of the rules' times; [`super::TIMEZONE_LOCAL`] is the host's.
    pub timezone: String,
    /// From sources.
    pub read: Vec<RateRule>,
    /// Over the network.
    pub network: Vec<RateRule>,
}
