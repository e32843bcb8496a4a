//! A connection that ends when its peer takes nothing of what is sent to it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// A peer that takes less than this in [`super::Limits::stall`] takes nothing.
const TAKEN_BYTES_MIN: usize = 16 * 1024;

/// Passes everything on, and fails once sending has stalled.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    stall: Duration,
    /// Set while something waits to be taken; with what was taken since.
    waiting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Watched<S> {
    pub fn new(inner: S, stall: Duration) -> Self {
        Self { inner, stall, waiting: None }
    }

    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let until = Instant::now() + self.stall;
        let (sleep, _) =
            self.waiting.get_or_insert_with(|| (Box::pin(tokio::time::sleep_until(until)), 0));
        match sleep.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn took(&mut self, bytes: usize) {
        if let Some((_, taken)) = &mut self.waiting {
            *taken += bytes;
            if *taken >= TAKEN_BYTES_MIN {
                self.waiting = None;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.inner).poll_write(context, bytes) {
            Poll::Pending => self.wait(context).map(|timed_out| timed_out.map(|()| 0)),
            Poll::Ready(written) => {
                self.took(*written.as_ref().unwrap_or(&0));
                Poll::Ready(written)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_flush(context) {
            Poll::Pending => self.wait(context),
            Poll::Ready(flushed) => {
                // Everything was taken.
                self.waiting = None;
                Poll::Ready(flushed)
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_shutdown(context) {
            Poll::Pending => self.wait(context),
            ready => ready,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn a_peer_that_takes_nothing_ends_the_connection_and_a_slow_one_does_not() {
        run(async {
            let (near, far) = tokio::io::duplex(1024);
            let mut watched = Watched::new(near, Duration::from_millis(50));
            let error = watched.write_all(&[0; 4096]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            drop(far);

            let (near, mut far) = tokio::io::duplex(1024);
            let mut watched = Watched::new(near, Duration::from_secs(60));
            let reader = tokio::spawn(async move {
                let mut buffer = vec![0; 100 * 1024];
                far.read_exact(&mut buffer).await.unwrap();
            });
            watched.write_all(&[0; 100 * 1024]).await.unwrap();
            watched.flush().await.unwrap();
            assert!(watched.waiting.is_none());
            reader.await.unwrap();
        });
    }
}
