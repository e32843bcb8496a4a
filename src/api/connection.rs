//! One connection, from its first byte to its last.

use super::connections::Place;
use super::guarded::Guarded;
use super::limits::{HEAD_BYTES_MAX, HEADERS_MAX, Limits};
use super::peer::Peer;
use super::state::stopped;
use super::watched::Watched;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::pin::pin;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt;

/// Answers the requests of one connection, until it or the server ends.
pub(super) async fn serve<S>(
    stream: S,
    router: Router,
    peer: Peer,
    place: Place,
    limits: Limits,
    mut stop: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let line = std::sync::Arc::clone(&place.line);
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let busy = line.begin();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer);
        let answer = router.clone().oneshot(request);
        async move {
            let response = answer.await?;
            Ok::<_, std::convert::Infallible>(response.map(|body| Guarded::new(body, busy)))
        }
    });
    let stream = TokioIo::new(Watched::new(stream, limits.stall));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(false);
    let mut connection = pin!(http.serve_connection(stream, service));
    let begun = Instant::now();
    let mut is_ending = false;
    loop {
        tokio::select! {
            // Whatever ended it, there is nobody to tell: the peer is gone.
            _ = connection.as_mut() => return,
            () = place.line.cut() => return,
            () = tokio::time::sleep_until(begun + limits.age_max) => return,
            () = tokio::time::sleep_until(begun + limits.age), if !is_ending => {}
            () = stopped(&mut stop), if !is_ending => {}
        }
        // What is under way is finished.
        is_ending = true;
        connection.as_mut().graceful_shutdown();
    }
}
