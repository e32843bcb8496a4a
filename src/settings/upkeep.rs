//! Reads what is done to a repository by itself.

use super::findings::Findings;
use super::named::Context;
use super::reader::{Located, TableReader};
use super::timing::{self, TimingDraft};
use super::types::{Schedule, UpkeepSettings};

/// How much is verified each time, in percent: everything in a hundred days, if it is daily.
const VERIFY_PERCENT_DEFAULT: u32 = 1;

/// The upkeep of a repository, as far as it could be read.
#[derive(Debug)]
pub(super) struct UpkeepDraft {
    pub(super) prune: Option<Located<Schedule>>,
    pub(super) gc: Option<Located<Schedule>>,
    pub(super) verify: Option<Located<Schedule>>,
    pub(super) timing: TimingDraft,
    verify_percent: u32,
}

impl UpkeepDraft {
    /// The schedules that are given, each with the command that it is for.
    pub(super) fn schedules(&self) -> impl Iterator<Item = (&'static str, &Located<Schedule>)> {
        let all = [("prune", &self.prune), ("gc", &self.gc), ("verify", &self.verify)];
        all.into_iter().filter_map(|(command, schedule)| Some((command, schedule.as_ref()?)))
    }

    pub(super) fn settings(&self) -> UpkeepSettings {
        let value = |schedule: &Option<Located<Schedule>>| {
            schedule.as_ref().map(|schedule| schedule.value.clone())
        };
        UpkeepSettings {
            prune: value(&self.prune),
            gc: value(&self.gc),
            verify: value(&self.verify),
            verify_percent: self.verify_percent,
            timing: self.timing.settings.clone(),
        }
    }
}

pub(super) fn read(
    reader: &mut TableReader<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> UpkeepDraft {
    let zone = context.zone(reader, findings);
    let mut schedule =
        |key, findings: &mut Findings<'_>| context.schedule(reader, key, &zone, findings);
    let prune = schedule("prune", findings);
    let gc = schedule("gc", findings);
    let verify = schedule("verify", findings);
    let percent = reader.field("verify_percent");
    if let Some(field) = &percent
        && reader.has("verify").is_none()
    {
        let message = "`verify_percent` is of no use alone";
        findings.wrong_hint(&field.key_at, message, "say when: verify = \"0 4 * * *\"");
    }
    let percent = percent.and_then(|field| field.whole_number(1..=100, findings));
    UpkeepDraft {
        prune,
        gc,
        verify,
        timing: timing::read(reader, &zone, context, findings),
        verify_percent: percent.unwrap_or(VERIFY_PERCENT_DEFAULT),
    }
}
