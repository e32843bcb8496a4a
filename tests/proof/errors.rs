//! The Nth operation fails, once or for ever, for every N: nothing that was acknowledged is lost,
//! whatever the engine says is true, and later everything succeeds.

use crate::go_on::go_on;
use crate::known::{Finding, Known, check};
use crate::lab::{Action, Lab};
use crate::sweep::{Case, prepare};
use afterimage::testing::Random;
use afterimage::testing::disk::{Failing, Span, Step, Verdict};
use afterimage::units::seed_random;
use std::sync::Arc;

/// A kind of failure.
#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub name: &'static str,
    of: fn(Step) -> bool,
    verdict: Verdict,
    /// Whether everything must succeed all the same.
    harmless: bool,
}

const fn fault(name: &'static str, of: fn(Step) -> bool, verdict: Verdict) -> Fault {
    Fault { name, of, verdict, harmless: false }
}

pub const FAULTS: [Fault; 9] = [
    fault("disk full", Step::needs_room, Verdict::HalfWay(libc::ENOSPC)),
    fault(
        "write error",
        |step| matches!(step, Step::Write | Step::Zero | Step::Resize),
        Verdict::HalfWay(libc::EIO),
    ),
    fault(
        "sync error",
        |step| matches!(step, Step::Sync | Step::SyncFolder),
        Verdict::Fail(libc::EIO),
    ),
    fault(
        "error of a name",
        |step| matches!(step, Step::Create | Step::Rename | Step::Remove | Step::CreateFolder),
        Verdict::Fail(libc::EIO),
    ),
    fault("read error", |step| step == Step::Read, Verdict::Fail(libc::EIO)),
    fault(
        "no more files",
        |step| matches!(step, Step::Create | Step::Open | Step::List | Step::Lock),
        Verdict::Fail(libc::EMFILE),
    ),
    fault("interruption", |_| true, Verdict::HalfWay(libc::EINTR)),
    fault("flipped bit", |step| step == Step::Read, Verdict::Flipped(0)),
    Fault { harmless: true, ..fault("short read", |step| step == Step::Read, Verdict::Short) },
];

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub injected: u64,
    pub succeeded: u64,
    pub states: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.injected += other.injected;
        self.succeeded += other.succeeded;
        self.states += other.states;
    }
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Every so manyeth operation fails.
    pub stride: u64,
    /// States after a power cut that follows the failure.
    pub states: u64,
    /// History goes on after every so manyeth failure.
    pub go_on_every: u64,
}

/// One kind of failure at each operation of the last action of a case.
pub fn fail_everywhere(
    case: &Case,
    fault: &Fault,
    span: Span,
    seed: u64,
    effort: Effort,
) -> Result<Counts, Finding> {
    let (template, known) = prepare(case, seed)?;
    let mut counts = Counts::default();
    let mut at = seed % effort.stride;
    loop {
        let what = format!("{}, seed {seed}, {} {at}, {span:?}", case.name, fault.name);
        let wrong = |finding: Finding| format!("{what}: {finding}");
        if !fail(&template, &known, (case.action, fault), (at, span), (effort, &mut counts))
            .map_err(wrong)?
        {
            return Ok(counts);
        }
        at += effort.stride;
    }
}

/// Whether anything failed.
fn fail(
    template: &Lab,
    known: &Known,
    (action, fault): (Action, &Fault),
    (at, span): (u64, Span),
    (effort, counts): (Effort, &mut Counts),
) -> Result<bool, Finding> {
    seed_random(Some(at ^ 0xfa11));
    let mut random = Random::new(at);
    let (mut lab, mut known) = (template.copy(), known.clone());
    lab.clock += 1;
    known.begin(&lab, action);
    if let Action::Prune(machine, last) = action {
        let plan = lab.plan_prune(&lab.fs(), machine, last);
        known.doubtful = plan.map_err(|error| error.to_string())?;
    }
    let verdict = match fault.verdict {
        Verdict::Flipped(_) => Verdict::Flipped(random.word()),
        other => other,
    };
    let failing = Arc::new(Failing::new(fault.of, at, span, verdict));
    let done = lab.act(&(lab.disk.directed(failing.clone()) as _), action);
    let has_failed = failing.has_failed();
    match &done {
        Ok(done) => {
            known.note(&lab, action, done);
            counts.succeeded += u64::from(has_failed);
        }
        Err(error) if fault.harmless || !has_failed => {
            return Err(format!("it failed by itself: {error}"));
        }
        Err(_) => {}
    }
    if !has_failed {
        return Ok(false);
    }
    counts.injected += 1;
    // Of what was not synced, nothing needs to be there after the next power cut.
    for state in lab.disk.crash_states(random.split(), effort.states) {
        let after = lab.beside(state);
        counts.states += 1;
        check(&after, &mut known.clone())
            .map_err(|finding| format!("then without power: {finding}"))?;
    }
    check(&lab, &mut known)?;
    if counts.injected.is_multiple_of(effort.go_on_every) {
        go_on(&mut lab, &mut known, &mut random)?;
    }
    Ok(true)
}
