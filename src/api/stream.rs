//! Server-sent events (the HTML standard, section 9.2), from the one ring of the daemon.
//!
//! A stream has no buffer of events: it asks for those after the last one that it sent. Who does
//! not keep up finds that older ones are gone, and is told so.

use super::peer::Caller;
use super::state::{Api, Work, stopped};
use crate::daemon::EventPage;
use crate::report::{Event, EventKind};
use crate::units::RunId;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

/// Pieces that wait to be sent.
const PIECES_MAX: usize = 4;
/// Events that are asked for at once.
const EVENTS_MAX: usize = 64;
/// A comment is sent after so long without an event, so that both ends know of each other.
const BEAT: Duration = Duration::from_secs(15);
/// How long a piece may wait to be sent: then the stream ends.
const SLOW: Duration = Duration::from_secs(30);

/// What a stream shows.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Only events of this run, until it ends.
    pub run: Option<RunId>,
    /// Where to go on: the last event that was received.
    pub last: Option<String>,
    /// How long the stream lasts.
    pub age_max: Duration,
}

/// Answers with a stream of events, for as long as `permit` is held.
pub(super) fn respond(
    api: &Api,
    caller: Caller,
    wish: Wish,
    permit: OwnedSemaphorePermit,
) -> Response {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let stream = Stream { api: api.clone(), caller, run: wish.run, sender };
    tokio::spawn(async move {
        let _permit = permit;
        let _over = tokio::time::timeout(wish.age_max, stream.send_all(wish.last)).await;
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream")];
    (headers, Body::new(Pieces(receiver))).into_response()
}

/// The receiving end as a body.
struct Pieces(mpsc::Receiver<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// The peer is gone or too slow, or there is nothing more to send.
struct Over;

struct Stream {
    api: Api,
    caller: Caller,
    run: Option<RunId>,
    sender: mpsc::Sender<Bytes>,
}

impl Stream {
    async fn send_all(&self, last: Option<String>) {
        // Whatever ends it, there is nobody to tell.
        let Err(Over) = self.follow(last).await;
    }

    async fn follow(&self, last: Option<String>) -> Result<Infallible, Over> {
        let mut newest = self.api.daemon.newest_event();
        let mut stop = self.api.stop.clone();
        self.send("retry: 2000\n\n".to_owned()).await?;
        let page = self.api.daemon.events(u64::MAX, 0);
        let mut after = match position(last.as_deref(), &page) {
            Some(Ok(after)) => after,
            Some(Err(())) => {
                self.gap(&page.instance, "the daemon was started anew").await?;
                page.oldest.saturating_sub(1)
            }
            // Of one run, all that is still there.
            None if self.run.is_some() => page.oldest.saturating_sub(1),
            None => page.newest,
        };
        let mut is_checked = false;
        let mut beat = Instant::now() + BEAT;
        loop {
            newest.mark_unchanged();
            let page = self.api.daemon.events(after, EVENTS_MAX);
            if after.saturating_add(1) < page.oldest && (last.is_some() || self.run.is_none()) {
                self.gap(&page.instance, "older events are not kept any more").await?;
            }
            after = after.max(page.oldest.saturating_sub(1));
            let more = page.events.len() == EVENTS_MAX;
            for event in &page.events {
                after = after.max(event.id);
                self.event(&page.instance, event).await?;
                beat = Instant::now() + BEAT;
            }
            if more {
                continue;
            }
            if !is_checked {
                self.check_open(&page.instance).await?;
                is_checked = true;
                continue;
            }
            tokio::select! {
                changed = newest.changed() => changed.map_err(|_| Over)?,
                () = stopped(&mut stop) => return Err(Over),
                () = self.sender.closed() => return Err(Over),
                () = tokio::time::sleep_until(beat) => {
                    self.send(": still here\n\n".to_owned()).await?;
                    beat = Instant::now() + BEAT;
                }
            }
        }
    }

    async fn event(&self, instance: &str, event: &Event) -> Result<(), Over> {
        let is_wanted = self.run.is_none_or(|run| event.run == Some(run));
        if !is_wanted || !self.caller.sees(event.machine.as_ref()) {
            return Ok(());
        }
        // JSON has no newline outside of texts, and none within.
        let Ok(data) = serde_json::to_string(event) else { return Ok(()) };
        let name = name(&event.what);
        self.send(format!("id: {instance}-{}\nevent: {name}\ndata: {data}\n\n", event.id)).await?;
        let is_end = self.run.is_some() && matches!(event.what, EventKind::Ended(_));
        if is_end { Err(Over) } else { Ok(()) }
    }

    /// A run that is over, but whose end is not among the events any more, sends nothing.
    async fn check_open(&self, instance: &str) -> Result<(), Over> {
        let Some(run) = self.run else { return Ok(()) };
        let found = self.api.work(Work::Light, move |shared| Ok(shared.daemon.run(run)?));
        match found.await {
            Ok(Some(detail)) if detail.line.status.is_open() && !detail.line.cut_off => Ok(()),
            _ => {
                // Its end may have come between the two questions.
                let page = self.api.daemon.events(0, usize::MAX);
                let is_end = |event: &Event| {
                    event.run == Some(run) && matches!(event.what, EventKind::Ended(_))
                };
                if page.events.iter().any(|event| is_end(event)) {
                    return Ok(());
                }
                self.gap(instance, "the run is over; its end is not kept here any more").await?;
                Err(Over)
            }
        }
    }

    async fn gap(&self, instance: &str, reason: &str) -> Result<(), Over> {
        let data = serde_json::json!({ "instance": instance, "reason": reason });
        self.send(format!("event: gap\ndata: {data}\n\n")).await
    }

    async fn send(&self, piece: String) -> Result<(), Over> {
        self.sender.send_timeout(Bytes::from(piece), SLOW).await.map_err(|_| Over)
    }
}

/// The number to go on after; `Err`: it is of another start of the daemon.
fn position(last: Option<&str>, page: &EventPage) -> Option<Result<u64, ()>> {
    let (instance, number) = last?.rsplit_once('-')?;
    let number: u64 = number.parse().ok()?;
    // Numbers that were not given yet are none of this start either.
    let is_own = instance == page.instance && number <= page.newest;
    Some(if is_own { Ok(number) } else { Err(()) })
}

/// The kind of an event, as its JSON has it.
fn name(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Queued(_) => "queued",
        EventKind::Started(_) => "started",
        EventKind::Progress(_) => "progress",
        EventKind::Told { .. } => "told",
        EventKind::Ended(_) => "ended",
        EventKind::Paused { .. } => "paused",
        EventKind::Reloaded => "reloaded",
        EventKind::Objective(_) => "objective",
        EventKind::Stopping => "stopping",
    }
}
