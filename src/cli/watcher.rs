//! Watching a run that the daemon does, and asking what Ctrl-C shall mean.

use super::App;
use super::ask;
use super::interrupt::Asked;
use super::verify::tell;
use super::watch::Watch;
use crate::catalog::History;
use crate::client::{Watcher, Wish};
use crate::progress::Progress;
use crate::report::{Event, EventKind, LiveRun, RunDetail};
use crate::units::RunId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A run that waits no longer does not say so.
const WAIT_UNTOLD: Duration = Duration::from_secs(2);

/// What is told when a run is left to the daemon.
pub(super) fn left(run: RunId) -> String {
    format!(
        "afterimage: the run goes on in the daemon; watch it with `afterimage run show {} \
         --follow`, stop it with `afterimage run cancel {}`",
        run.short(),
        run.short()
    )
}

/// How far the run is, in bytes.
#[derive(Debug, Default)]
struct Position {
    done: AtomicU64,
    total: AtomicU64,
}

/// Shows one run of the daemon as one of this process is shown.
pub(super) struct RunWatcher<'a> {
    app: &'a App,
    work: String,
    progress: &'a Progress,
    position: Arc<Position>,
    since: Instant,
    watch: Option<Watch>,
    /// What it waits for, and since when.
    waits_for: Option<(String, Instant)>,
    /// What it waits for, as was told last.
    told: Option<String>,
}

impl<'a> RunWatcher<'a> {
    /// Watches `run`, which is `work` (`backup of web01`). A signal cancels `progress`, or, on a
    /// terminal, is a question.
    pub fn new(app: &'a App, run: RunId, work: String, progress: &'a Progress) -> Self {
        if ask::can_ask(app) && ask::can_show() {
            app.interrupt.ask_first(left(run));
        }
        Self::looking(app, work, progress)
    }

    /// Watches a run until `progress` is cancelled.
    pub fn looking(app: &'a App, work: String, progress: &'a Progress) -> Self {
        let mut watcher = Self {
            app,
            work,
            progress,
            position: Arc::default(),
            since: Instant::now(),
            watch: None,
            waits_for: None,
            told: None,
        };
        watcher.show();
        watcher
    }

    fn show(&mut self) {
        let position = Arc::clone(&self.position);
        let look =
            move || (position.done.load(Ordering::Relaxed), position.total.load(Ordering::Relaxed));
        let (output, work) = (&self.app.output, self.work.clone());
        self.watch = Some(Watch::start(output, work, Box::new(look), self.since));
    }

    fn note(&mut self, live: &LiveRun) {
        self.position.total.store(live.bytes_total, Ordering::Relaxed);
        self.position.done.store(live.bytes_done, Ordering::Relaxed);
        if live.waits_for.as_ref() != self.waits_for.as_ref().map(|(reason, _)| reason) {
            self.waits_for = live.waits_for.clone().map(|reason| (reason, Instant::now()));
        }
    }

    /// Tells what it waits for, unless it is over at once.
    fn tell_wait(&mut self) {
        if let Some((reason, since)) = &self.waits_for
            && since.elapsed() > WAIT_UNTOLD
            && self.told.as_ref() != Some(reason)
        {
            tracing::info!(work = %self.work, reason, "waits in the daemon");
            self.told = Some(reason.clone());
        }
    }
}

impl Watcher for RunWatcher<'_> {
    fn see(&mut self, event: &Event) {
        match &event.what {
            EventKind::Queued(live) | EventKind::Started(live) | EventKind::Progress(live) => {
                self.note(live);
            }
            EventKind::Told { message } => tell(self.app, message),
            // A bar must not stand beside what is told of the end.
            EventKind::Ended(_) => self.watch = None,
            _ => {}
        }
    }

    fn wish(&mut self) -> Wish {
        self.tell_wait();
        match self.app.interrupt.asked() {
            Asked::No => {}
            Asked::First => {
                self.watch = None;
                ask::show_choice();
            }
            Asked::Still => match ask::choice() {
                None => {}
                Some(ask::Choice::GoOn) => {
                    self.app.interrupt.go_on();
                    self.show();
                }
                Some(ask::Choice::Stop) => {
                    self.app.interrupt.stop();
                    self.show();
                }
                Some(ask::Choice::Leave) => {
                    self.app.interrupt.stop();
                    return Wish::Leave;
                }
            },
        }
        if self.progress.check().is_err() { Wish::Stop } else { Wish::GoOn }
    }

    fn record(&self, run: RunId) -> Option<RunDetail> {
        let folder = &self.app.settings.state_dir;
        let record = History::open(folder).ok()?.run(run).ok()??;
        Some(RunDetail::new(&record, |run| crate::catalog::is_running(folder, run)))
    }
}
