//! How far a run is, while it runs: a bar on a terminal, lines in a log, messages for programs.

use super::output::Output;
use crate::progress::Progress;
use crate::report::{Activity, Message};
use crate::units::format_bytes;
use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const BAR_EVERY: Duration = Duration::from_millis(100);
const MESSAGE_EVERY: Duration = Duration::from_secs(1);
const LOG_EVERY: Duration = Duration::from_secs(10);
const TEMPLATE: &str = "{msg} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";

/// Tells bytes done and bytes to do, as far as they are known.
pub(super) type Position = Box<dyn Fn() -> (u64, u64) + Send>;

/// Tells how far a run is until it is dropped.
pub(super) struct Watch {
    // Dropped first: the thread ends when nobody is left to send.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches `progress` of `work`, such as `backup of web01`.
    pub fn of(output: &Arc<Output>, work: String, progress: &Arc<Progress>) -> Self {
        let progress = Arc::clone(progress);
        Self::start(output, work, Box::new(move || progress.position()), Instant::now())
    }

    /// Watches `work`, which began at `since`. `position` tells the bytes that are done, and those
    /// that there are to do.
    pub fn start(output: &Arc<Output>, work: String, position: Position, since: Instant) -> Self {
        let view = View::choose(output, &work);
        let Some(mut view) = view else { return Self { stop: None, thread: None } };
        let (stop, stopped) = bounded::<()>(0);
        let output = Arc::clone(output);
        let every = view.every();
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(every) {
                view.show(&output, &work, position(), since.elapsed());
            }
            view.end();
        });
        // Without a thread there is nothing to see; the run goes on.
        Self { stop: Some(stop), thread: thread.ok() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A view that panicked has nothing more to show.
            let _ = thread.join();
        }
    }
}

enum View {
    Bar(ProgressBar),
    Messages,
    Log,
}

impl View {
    fn choose(output: &Output, work: &str) -> Option<Self> {
        if output.json {
            return Some(Self::Messages);
        }
        if output.quiet {
            return None;
        }
        if !std::io::stderr().is_terminal() {
            return Some(Self::Log);
        }
        let style = ProgressStyle::with_template(TEMPLATE).ok()?.progress_chars("=> ");
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        Some(Self::Bar(bar.with_style(style).with_message(work.to_owned())))
    }

    fn every(&self) -> Duration {
        match self {
            Self::Bar(_) => BAR_EVERY,
            Self::Messages => MESSAGE_EVERY,
            Self::Log => LOG_EVERY,
        }
    }

    fn show(&mut self, output: &Output, work: &str, position: (u64, u64), elapsed: Duration) {
        let (done, total) = position;
        // What was found to do last may have been done before the total was read.
        let (bytes_done, bytes_total) = (done.min(total), total);
        match self {
            Self::Bar(bar) => {
                bar.set_length(bytes_total);
                bar.set_position(bytes_done);
            }
            Self::Messages => output.message(&Message::Status(Activity {
                work: work.to_owned(),
                bytes_done,
                bytes_total,
                elapsed_s: elapsed.as_secs_f64(),
            })),
            Self::Log => {
                let rate = (bytes_done as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
                tracing::info!(
                    work,
                    bytes_done,
                    bytes_total,
                    elapsed_s = elapsed.as_secs(),
                    rate = %format!("{}/s", format_bytes(rate)),
                    "progress"
                );
            }
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
