//! Work that is done by several threads, in bounded memory.

use super::VerifyError;
use crossbeam_channel::bounded;
use std::sync::atomic::{AtomicBool, Ordering};

/// Gives everything that `feed` sends to `workers` threads. Each has its own tools, made by
/// `make`. `send` is `false` when nobody works any more.
///
/// # Errors
/// The first error of a worker or of `feed`, with all workers stopped.
pub(super) fn in_parallel<T: Send, W>(
    workers: usize,
    feed: impl FnOnce(&dyn Fn(T) -> bool) -> Result<(), VerifyError>,
    make: impl Fn() -> Result<W, VerifyError> + Sync,
    work: impl Fn(&mut W, T) -> Result<(), VerifyError> + Sync,
) -> Result<(), VerifyError> {
    let workers = workers.max(1);
    let (sender, receiver) = bounded::<T>(workers * 2);
    let failed = AtomicBool::new(false);
    let results: Vec<Result<(), VerifyError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                let receiver = receiver.clone();
                let (make, work, failed) = (&make, &work, &failed);
                scope.spawn(move || {
                    let result = make().and_then(|mut tools| {
                        let mut items = receiver.into_iter();
                        items.try_for_each(|item| match failed.load(Ordering::Relaxed) {
                            true => Ok(()),
                            false => work(&mut tools, item),
                        })
                    });
                    failed.fetch_or(result.is_err(), Ordering::Relaxed);
                    result
                })
            })
            .collect();
        drop(receiver);
        let fed = feed(&|item| !failed.load(Ordering::Relaxed) && sender.send(item).is_ok());
        drop(sender);
        let joined = threads.into_iter().map(|t| t.join().unwrap_or(Err(VerifyError::WorkerLost)));
        joined.chain([fed]).collect()
    });
    results.into_iter().collect()
}
