//! Reads when a run may begin, apart from its schedule: of machines, replicas and a repository's upkeep.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::findings::Findings;
use super::named::Context;
use super::page::Span;
use super::reader::{Field, Located, TableReader};
use super::times::{self, DAY};
use super::values;
use crate::units::Window;

/// When a run may begin, apart from its schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimingSettings {
    /// IANA name of the zone of `allowed`; [`super::TIMEZONE_LOCAL`] is the host's.
    pub timezone: String,
    /// The parts of the day in which it may begin; empty: any time.
    pub allowed: Vec<Window>,
    /// What becomes of times that passed while nothing could run.
    pub missed: MissedPolicy,
    /// By how much it may begin later than its schedule says; 0: not at all.
    pub jitter: Duration,
    /// What follows when it fails for a reason that may pass.
    pub retry: RetrySettings,
}

/// What becomes of times that passed while nothing could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedPolicy {
    /// The newest of them is caught up once.
    #[default]
    Run,
    /// None of them is.
    Skip,
}

/// What follows when a run fails for a reason that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// How often it is tried again; 0: never.
    pub times: u32,
    /// How long is waited for the first time; twice as long each time after it. Never 0.
    pub wait: Duration,
    /// How long is waited at most; not less than `wait`.
    pub wait_max: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { times: 3, wait: Duration::from_secs(60), wait_max: Duration::from_secs(3600) }
    }
}

/// Bounds of `jitter`.
const JITTER: RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;
/// Bounds of the waits before a retry.
const WAIT: RangeInclusive<Duration> = Duration::from_secs(1)..=DAY;
/// Bounds of `rpo`.
const RPO: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(3650 * 86_400);
/// Most retries of one run.
const TIMES_MAX: u32 = 100;

/// When a run may begin, as far as it could be read.
#[derive(Debug)]
pub(super) struct TimingDraft {
    pub(super) settings: TimingSettings,
    /// Where `allowed` stands.
    pub(super) allowed_at: Option<Span>,
    /// Where `jitter` stands.
    pub(super) jitter_at: Option<Span>,
    /// Where the first of its keys stands.
    pub(super) first_at: Option<Span>,
}

/// Reads `allowed`, `missed`, `jitter` and `retry` of a part of the file, in `zone`.
pub(super) fn read(
    reader: &mut TableReader<'_>,
    zone: &str,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> TimingDraft {
    let allowed = reader.field("allowed");
    let missed = reader.field("missed");
    let jitter = reader.field("jitter");
    let retry_field = reader.field("retry");
    let fields = [&allowed, &missed, &jitter, &retry_field];
    let first = fields.into_iter().flatten().min_by_key(|field| field.key_at.start);
    let place = |field: &Option<Field<'_>>| field.as_ref().map(|field| field.key_at.clone());
    TimingDraft {
        allowed_at: place(&allowed),
        jitter_at: place(&jitter),
        first_at: first.map(|field| field.key_at.clone()),
        settings: TimingSettings {
            timezone: zone.to_owned(),
            allowed: allowed.map(|field| times::windows(&field, findings)).unwrap_or_default(),
            missed: missed
                .and_then(|field| missed_policy(&field, findings))
                .unwrap_or(context.missed),
            jitter: jitter
                .and_then(|field| {
                    times::duration_within(&field, &JITTER, "a second to a day", findings)
                })
                .unwrap_or_default(),
            retry: retry_field
                .and_then(|field| retry(&field, context.retry, findings))
                .unwrap_or(context.retry),
        },
    }
}

/// How old what there is may get.
pub(super) fn rpo(
    reader: &mut TableReader<'_>,
    findings: &mut Findings<'_>,
) -> Option<Located<Duration>> {
    let field = reader.field("rpo")?;
    let value = times::duration_within(&field, &RPO, "a minute to ten years", findings)?;
    Some(Located { value, at: field.key_at })
}

/// What becomes of times that passed.
pub(super) fn missed_policy(
    field: &Field<'_>,
    findings: &mut Findings<'_>,
) -> Option<MissedPolicy> {
    let words = [("run", MissedPolicy::Run), ("skip", MissedPolicy::Skip)];
    values::choice(field, &words, findings)
}

/// What follows when a run fails; what the table leaves out is as in `others`.
pub(super) fn retry(
    field: &Field<'_>,
    others: RetrySettings,
    findings: &mut Findings<'_>,
) -> Option<RetrySettings> {
    let example = "retry = { times = 3, wait = \"1 min\", wait_max = \"1h\" }";
    let mut reader = field.table("`retry`".to_owned(), example, findings)?;
    let times = reader.field("times").map(|field| field.whole_number(0..=TIMES_MAX, findings));
    let mut wait = |key: &'static str| {
        let field = reader.field(key)?;
        Some((times::duration_within(&field, &WAIT, "a second to a day", findings), field.key_at))
    };
    let (first, most) = (wait("wait"), wait("wait_max"));
    reader.finish(findings);
    let times = times.unwrap_or(Some(others.times))?;
    let (wait, wait_max) = match (first, most) {
        (Some((Some(wait), _)), Some((Some(most), at))) => {
            if most < wait {
                let message = "`wait_max` is shorter than `wait`";
                findings.wrong_hint(&at, message, format!("for example: {example}"));
                return None;
            }
            (wait, most)
        }
        // The one that is given moves the other one, which nobody wrote here.
        (Some((wait, _)), None) => (wait?, others.wait_max.max(wait?)),
        (None, Some((most, _))) => (others.wait.min(most?), most?),
        (None, None) => (others.wait, others.wait_max),
        _ => return None,
    };
    Some(RetrySettings { times, wait, wait_max })
}
