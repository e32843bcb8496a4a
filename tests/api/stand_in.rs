//! A daemon that keeps to its contract, and runs what it is asked for at once.

use afterimage::catalog::{History, RunFilter, RunKind, RunStatus, RunTrigger};
use afterimage::daemon::{DaemonError, DaemonHandle, EventPage, RunPage};
use afterimage::operations::{Task, status};
use afterimage::progress::Counts;
use afterimage::report::{
    DaemonStatus, DueLine, Event, EventKind, ExitCode, LiveRun, NotifyTestLine, ObjectiveLine,
    ObjectiveState, PauseLine, ReloadReport, RepositoryStatus, RunDetail, RunEnd, RunLine, RunStep,
    Summary,
};
use afterimage::settings::Settings;
use afterimage::units::{Name, RunId};
use jiff::Timestamp;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// Events that are kept.
pub const RING: usize = 200;
pub const INSTANCE: &str = "00c0ffee";

pub struct StandIn {
    settings: Arc<Settings>,
    history: History,
    runs: Mutex<BTreeMap<RunId, RunDetail>>,
    events: Mutex<(VecDeque<Arc<Event>>, u64)>,
    newest: watch::Sender<u64>,
    pauses: Mutex<Vec<PauseLine>>,
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl StandIn {
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self {
            history: History::open(&settings.state_dir).unwrap(),
            settings: Arc::new(settings),
            runs: Mutex::default(),
            events: Mutex::default(),
            newest: watch::Sender::new(0),
            pauses: Mutex::default(),
        })
    }

    /// Something happens to a run of `machine`.
    pub fn happen(&self, run: Option<RunId>, machine: Option<&str>, what: EventKind) -> u64 {
        let mut events = self.events.lock().unwrap();
        events.1 += 1;
        let id = events.1;
        let machine = machine.map(name);
        let time = Timestamp::now();
        events.0.push_back(Arc::new(Event { id, time, run, machine, replica: None, what }));
        if events.0.len() > RING {
            events.0.pop_front();
        }
        self.newest.send_replace(id);
        id
    }

    pub fn end(&self, run: RunId) {
        let mut runs = self.runs.lock().unwrap();
        let detail = runs.get_mut(&run).unwrap();
        detail.line.status = RunStatus::Completed;
        detail.line.ended = Some(Timestamp::now());
        detail.live = None;
        let machine = detail.line.machine.clone();
        let action = detail.line.kind.into();
        drop(runs);
        let summary = Summary::new(action, RunStatus::Completed, Timestamp::now());
        let end = RunEnd { summary: Box::new(summary), exit: ExitCode::Done, error: None };
        self.happen(Some(run), machine.as_ref().map(Name::as_str), EventKind::Ended(end));
    }

    pub fn live_run(run: RunId, task: &Task, settings: &Settings) -> LiveRun {
        LiveRun {
            run,
            work: task.describe(),
            kind: task.kind(),
            status: RunStatus::Running,
            machine: task.machine(settings).map(name),
            replica: None,
            repository: None,
            trigger: RunTrigger::Manual,
            since: Timestamp::now(),
            waits_for: None,
            step: Some("read disk root".to_owned()),
            bytes_done: 1,
            bytes_total: 2,
            counts: Counts::default(),
            elapsed_s: 0.5,
            stopping: false,
        }
    }
}

fn line(live: &LiveRun, by: &str) -> RunLine {
    RunLine {
        run: live.run,
        kind: live.kind,
        status: live.status,
        cut_off: false,
        repository: None,
        machine: live.machine.clone(),
        replica: None,
        trigger: live.trigger,
        due: Some(live.since),
        attempt: 1,
        by: Some(by.to_owned()),
        started: live.since,
        ended: None,
        duration_s: None,
        point: None,
        counts: live.counts,
        reason: None,
        detail: None,
        exit: None,
        warnings: Vec::new(),
    }
}

impl DaemonHandle for StandIn {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    fn history(&self) -> &History {
        &self.history
    }

    fn status(&self) -> DaemonStatus {
        DaemonStatus {
            version: "0.1.0".to_owned(),
            instance: INSTANCE.to_owned(),
            pid: std::process::id(),
            started: Timestamp::now(),
            settings_file: self.settings.file.display().to_string(),
            settings_fingerprint: "ab".repeat(32),
            settings_loaded: Timestamp::now(),
            reload_error: Some("line 3".to_owned()),
            running: self.live().len(),
            queued: 0,
            pauses: self.pauses(),
            clock_doubt: None,
            problems: vec!["none".to_owned()],
        }
    }

    fn live(&self) -> Vec<LiveRun> {
        self.runs.lock().unwrap().values().filter_map(|run| run.live.clone()).collect()
    }

    fn submit(&self, task: Task, by: &str) -> Result<RunId, DaemonError> {
        if task.machine(&self.settings).is_some_and(|it| !it.starts_with("web")) {
            return Err(DaemonError::NotFound("there is no such machine".to_owned()));
        }
        let run = RunId::random().unwrap();
        let live = Self::live_run(run, &task, &self.settings);
        let step = RunStep { name: "read".to_owned(), started: Timestamp::now(), duration_s: None };
        let detail = RunDetail {
            line: line(&live, by),
            steps: vec![step],
            task: Some(serde_json::to_value(&task).unwrap()),
            bytes_per_s: Some(7),
            live: Some(live.clone()),
        };
        self.runs.lock().unwrap().insert(run, detail);
        let machine = live.machine.clone();
        self.happen(Some(run), machine.as_ref().map(Name::as_str), EventKind::Started(live));
        Ok(run)
    }

    fn runs(&self, filter: &RunFilter, limit: usize) -> Result<RunPage, DaemonError> {
        let runs = self.runs.lock().unwrap();
        let fits = |line: &&RunLine| filter.machine.is_none() || filter.machine == line.machine;
        let lines = runs.values().map(|run| &run.line).filter(fits).take(limit);
        Ok(RunPage { runs: lines.cloned().collect(), next: Some(Timestamp::now()) })
    }

    fn run(&self, id: RunId) -> Result<Option<RunDetail>, DaemonError> {
        Ok(self.runs.lock().unwrap().get(&id).cloned())
    }

    fn cancel(&self, id: RunId, _by: &str) -> Result<(), DaemonError> {
        match self.run(id)? {
            Some(run) if run.line.status.is_open() => Ok(()),
            _ => Err(DaemonError::Conflict("it is over".to_owned())),
        }
    }

    fn events(&self, after: u64, max: usize) -> EventPage {
        let events = self.events.lock().unwrap();
        let newer = events.0.iter().filter(|event| event.id > after).take(max);
        EventPage {
            instance: INSTANCE.to_owned(),
            events: newer.cloned().collect(),
            oldest: events.0.front().map_or(1, |event| event.id),
            newest: events.1,
        }
    }

    fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    fn repositories_seen(&self) -> Option<Vec<RepositoryStatus>> {
        Some(status(&self.settings(), Timestamp::now()).repositories)
    }

    fn objectives(&self) -> Result<Vec<ObjectiveLine>, DaemonError> {
        let line = |machine| ObjectiveLine {
            machine: name(machine),
            replica: None,
            rpo_s: 3600,
            state: ObjectiveState::AtRisk,
            since: Timestamp::now(),
            lag_s: Some(3000),
            lag_bytes: None,
            reason: None,
            compliance_percent: Some(99.5),
        };
        Ok(vec![line("web01"), line("web02")])
    }

    fn schedule(&self) -> Vec<DueLine> {
        let line = |machine| DueLine {
            work: format!("backup of {machine}"),
            kind: RunKind::Backup,
            machine: Some(name(machine)),
            replica: None,
            repository: None,
            schedule: Some("0 * * * *".to_owned()),
            next: Some(Timestamp::now()),
            held: None,
        };
        vec![line("web01"), line("web02")]
    }

    fn pauses(&self) -> Vec<PauseLine> {
        self.pauses.lock().unwrap().clone()
    }

    fn pause(
        &self,
        subject: &str,
        note: Option<String>,
        until: Option<Timestamp>,
        by: &str,
    ) -> Result<(), DaemonError> {
        let (subject, by, since) = (subject.to_owned(), by.to_owned(), Timestamp::now());
        self.pauses.lock().unwrap().push(PauseLine { subject, note, since, until, by });
        Ok(())
    }

    fn resume(&self, subject: &str, _by: &str) -> Result<bool, DaemonError> {
        let mut pauses = self.pauses.lock().unwrap();
        let before = pauses.len();
        pauses.retain(|pause| pause.subject != subject);
        Ok(pauses.len() < before)
    }

    fn reload(&self, _by: &str) -> Result<ReloadReport, DaemonError> {
        let changes = vec!["machine web03 is new".to_owned()];
        let settings_fingerprint = "cd".repeat(32);
        Ok(ReloadReport { settings_fingerprint, changes, needs_restart: Vec::new() })
    }

    fn trust_clock(&self, _by: &str) -> Result<(), DaemonError> {
        Ok(())
    }

    fn notify_test(&self, _channel: Option<&str>) -> Result<Vec<NotifyTestLine>, DaemonError> {
        Ok(vec![NotifyTestLine { channel: "webhook ops".to_owned(), problem: None }])
    }

    fn metrics(&self) -> Result<String, DaemonError> {
        Ok("# EOF\n".to_owned())
    }
}
