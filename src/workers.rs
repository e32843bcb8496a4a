//! Work that is done by several threads, in bounded memory.
//!
//! Invariant: with one worker everything happens on the calling thread, in order, so that a run
//! can be repeated operation by operation.

use crossbeam_channel::bounded;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// A worker thread panicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a worker thread ended early; this is a defect of afterimage, please report it")]
pub struct WorkerLost;

/// Gives everything that `feed` sends to `workers` threads. Each has its own tools, made by
/// `make`. `send` is `false` when nobody works any more.
///
/// # Errors
/// The first error of a worker or of `feed`, with all workers stopped.
pub fn in_parallel<T: Send, W, E: From<WorkerLost> + Send>(
    workers: usize,
    feed: impl FnOnce(&dyn Fn(T) -> bool) -> Result<(), E>,
    make: impl Fn() -> Result<W, E> + Sync,
    work: impl Fn(&mut W, T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    if workers <= 1 {
        return one_by_one(feed, make, work);
    }
    let (sender, receiver) = bounded::<T>(workers * 2);
    let failed = AtomicBool::new(false);
    let results: Vec<Result<(), E>> = std::thread::scope(|scope| {
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
        let joined = threads.into_iter().map(|t| t.join().unwrap_or(Err(WorkerLost.into())));
        joined.chain([fed]).collect()
    });
    results.into_iter().collect()
}

fn one_by_one<T, W, E>(
    feed: impl FnOnce(&dyn Fn(T) -> bool) -> Result<(), E>,
    make: impl Fn() -> Result<W, E>,
    work: impl Fn(&mut W, T) -> Result<(), E>,
) -> Result<(), E> {
    let tools = RefCell::new(make()?);
    let done = RefCell::new(Ok(()));
    let fed = feed(&|item| {
        let is_good = done.borrow().is_ok();
        if is_good {
            *done.borrow_mut() = work(&mut tools.borrow_mut(), item);
        }
        done.borrow().is_ok()
    });
    done.into_inner().and(fed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Debug, PartialEq)]
    enum Error {
        Lost,
        At(u32),
    }

    impl From<WorkerLost> for Error {
        fn from(_: WorkerLost) -> Self {
            Self::Lost
        }
    }

    fn run(workers: usize, bad: Option<u32>) -> (Result<(), Error>, Vec<u32>) {
        let seen = Mutex::new(Vec::new());
        let done = in_parallel(
            workers,
            |send| {
                (0..100).all(send);
                Ok(())
            },
            || Ok(()),
            |(), item| {
                seen.lock().unwrap().push(item);
                if Some(item) == bad { Err(Error::At(item)) } else { Ok(()) }
            },
        );
        let mut seen = seen.into_inner().unwrap();
        if workers > 1 {
            seen.sort_unstable();
        }
        (done, seen)
    }

    #[test]
    fn everything_is_worked_on_once_and_by_one_worker_in_order() {
        for workers in [0, 1, 2, 5] {
            assert_eq!(run(workers, None), (Ok(()), (0..100).collect()), "{workers}");
        }
    }

    #[test]
    fn the_first_error_ends_the_work_and_is_told() {
        for workers in [1, 3] {
            let (done, seen) = run(workers, Some(10));
            assert_eq!(done, Err(Error::At(10)));
            assert!(seen.len() < 50, "{workers}: {seen:?}");
        }
        assert_eq!(run(1, Some(10)).1, (0..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_worker_that_panics_is_told() {
        let done: Result<(), Error> = in_parallel(
            2,
            |send| {
                (0..10).all(send);
                Ok(())
            },
            || Ok(()),
            |(), item| if item == 5 { panic!("on purpose") } else { Ok(()) },
        );
        assert_eq!(done, Err(Error::Lost));
    }
}
