//! The books in virtual time; threads only where real ones matter.

use super::*;
use proptest::prelude::*;

fn rate(bytes: u64) -> Rate {
    NonZeroU64::new(bytes)
}

/// A thread that moves `piece` bytes, pays for them, and begins anew.
struct Mover {
    piece: u64,
    rest: u64,
    /// What it waits for, and how much that is.
    waits: Option<(Ticket, u64)>,
    paid: u64,
}

/// Threads that move bytes without a pause, in virtual time.
struct World {
    bucket: Bucket,
    movers: Vec<Mover>,
    now_ns: u64,
}

impl World {
    fn new(pieces: &[u64]) -> Self {
        let mover = |piece: &u64| Mover { piece: *piece, rest: 0, waits: None, paid: 0 };
        let movers = pieces.iter().map(mover).collect();
        Self { bucket: Bucket::default(), movers, now_ns: 0 }
    }

    /// Goes on to `end_ns`. Moving itself takes no time.
    fn run_until(&mut self, end_ns: u64) {
        loop {
            let mut soonest = u64::MAX;
            for mover in &mut self.movers {
                if mover.waits.is_none() {
                    if mover.rest == 0 {
                        mover.rest = mover.piece;
                    }
                    let (ticket, portion) = self.bucket.reserve(mover.rest, self.now_ns);
                    mover.waits = Some((ticket, portion));
                }
                let Some((ticket, portion)) = mover.waits else { continue };
                let left = self.bucket.time_left(ticket, self.now_ns);
                if left.is_zero() {
                    mover.rest -= portion;
                    mover.paid += portion;
                    mover.waits = None;
                    soonest = self.now_ns;
                } else {
                    let wakes = self.now_ns + u64::try_from(left.as_nanos()).unwrap();
                    soonest = soonest.min(wakes);
                }
            }
            if soonest > end_ns {
                self.now_ns = end_ns;
                return;
            }
            self.now_ns = soonest;
        }
    }

    fn paid(&self) -> u64 {
        self.movers.iter().map(|mover| mover.paid).sum()
    }
}

fn burst(rate: u64) -> u64 {
    (u128::from(rate) * u128::from(BURST_NS)).div_ceil(u128::from(NS_PER_S)) as u64
}

proptest! {
    #[test]
    fn what_is_paid_for_follows_every_change_of_the_rate(
        pieces in prop::collection::vec(1..40_000_u64, 1..5),
        times in prop::collection::vec((1..3_000_u64, 50_000..4_000_000_u64), 1..5),
    ) {
        let mut world = World::new(&pieces);
        let mut due = 0;
        for (ms, bytes_per_s) in times {
            world.bucket.set_rate(rate(bytes_per_s), world.now_ns);
            let before = world.paid();
            world.run_until(world.now_ns + ms * 1_000_000);
            let moved = world.paid() - before;
            due = bytes_per_s * ms / 1000;
            // What was waited for when the rate changed may pass now, or not yet.
            let slack = burst(bytes_per_s) + 5 * portion_bytes(rate(4_000_000));
            prop_assert!(moved <= due + slack, "{moved} of {due} + {slack}");
            prop_assert!(moved + slack >= due, "{moved} of {due} - {slack}");
        }
        prop_assert!(due > 0);
    }

    #[test]
    fn threads_get_the_same_however_much_they_move_at_once(
        pieces in prop::collection::vec(4096..16_000_000_u64, 2..6),
        bytes_per_s in 1_000_000..100_000_000_u64,
    ) {
        let mut world = World::new(&pieces);
        world.bucket.set_rate(rate(bytes_per_s), 0);
        world.run_until(20 * NS_PER_S);
        let share = world.paid() / pieces.len() as u64;
        for (mover, piece) in world.movers.iter().zip(&pieces) {
            // A piece smaller than a portion takes a whole turn.
            let is_small = *piece < 8 * portion_bytes(rate(bytes_per_s));
            let least = if is_small { 0 } else { share * 8 / 10 };
            prop_assert!(mover.paid >= least, "{} of {share} by {piece}", mover.paid);
            prop_assert!(mover.paid > 0);
        }
    }

    #[test]
    fn the_books_hold_for_any_numbers(
        steps in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 1..20),
    ) {
        let mut bucket = Bucket::default();
        let mut last = Ticket(0);
        for (bytes, bytes_per_s, now_ns) in steps {
            bucket.set_rate(rate(bytes_per_s), now_ns);
            let (ticket, portion) = bucket.reserve(bytes.max(1), now_ns);
            prop_assert!(portion >= 1 && portion <= bytes.max(1));
            prop_assert!(ticket >= last);
            last = ticket;
            let left = bucket.time_left(ticket, now_ns);
            let later = now_ns.saturating_add(u64::try_from(left.as_nanos()).unwrap());
            if later < u64::MAX && bucket.at_ns <= now_ns {
                prop_assert_eq!(bucket.time_left(ticket, later), Duration::ZERO);
            }
        }
    }
}

#[test]
fn a_pause_saves_up_no_more_than_the_burst() {
    let mut world = World::new(&[1000]);
    world.bucket.set_rate(rate(1_000_000), 0);
    world.now_ns = 3600 * NS_PER_S;
    world.run_until(world.now_ns);
    assert_eq!(world.paid(), burst(1_000_000));
}

#[test]
fn a_limit_that_begins_late_does_not_count_what_was_before() {
    let mut bucket = Bucket::default();
    bucket.owe(1 << 40);
    bucket.set_rate(rate(1000), NS_PER_S);
    let (ticket, _) = bucket.reserve(1000, NS_PER_S);
    assert_eq!(bucket.time_left(ticket, NS_PER_S), Duration::from_secs(1));
}

#[test]
fn who_waits_goes_on_when_the_limit_ends() {
    let mut bucket = Bucket::default();
    bucket.set_rate(rate(1), 0);
    let (ticket, _) = bucket.reserve(u64::MAX, 0);
    assert!(bucket.time_left(ticket, 0) > Duration::from_secs(4000));
    bucket.set_rate(None, 0);
    assert_eq!(bucket.time_left(ticket, 0), Duration::ZERO);
}

#[test]
fn without_a_limit_nobody_waits() {
    let throttle = Throttle::default();
    assert_eq!(throttle.pay(u64::MAX, &|| false), Duration::ZERO);
    assert_eq!(throttle.rate(), None);
}

#[test]
fn real_threads_together_are_no_faster_than_the_limit() {
    const RATE: u64 = 20_000_000;
    const PIECES: u64 = 5;
    const PIECE_BYTES: u64 = 400_000;
    let throttle = Throttle::new(rate(RATE));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..PIECES {
                    throttle.pay(PIECE_BYTES, &|| false);
                }
            });
        }
    });
    let beyond_burst = 4 * PIECES * PIECE_BYTES - burst(RATE);
    let least = Duration::from_nanos(beyond_burst * NS_PER_S / RATE);
    assert!(begun.elapsed() >= least, "{:?} of {least:?}", begun.elapsed());
}

#[test]
fn a_cancelled_run_does_not_sleep_on() {
    let throttle = Throttle::new(rate(1));
    let asked = std::cell::Cell::new(0);
    let is_cancelled = || {
        asked.set(asked.get() + 1);
        asked.get() > 2
    };
    // The limit would let them pass in many years.
    throttle.pay(1 << 40, &is_cancelled);
    assert_eq!(asked.get(), 3);
    // They count: the next one waits for them.
    let (ticket, _) = throttle.lock().reserve(1, throttle.now_ns());
    assert!(throttle.lock().time_left(ticket, throttle.now_ns()) > Duration::from_secs(1 << 30));
}

#[test]
fn a_source_says_the_rate_until_another_one_or_a_fixed_rate() {
    let throttle = Throttle::new(rate(7));
    let said = Arc::new(AtomicU64::new(5));
    let source = Arc::clone(&said);
    throttle.follow(move || rate(source.load(Ordering::Relaxed)));
    assert_eq!(throttle.rate(), rate(5));
    said.store(0, Ordering::Relaxed);
    // Not asked again within the second.
    assert_eq!(throttle.rate(), rate(5));
    throttle.ask_at_ns.store(0, Ordering::Relaxed);
    assert_eq!(throttle.rate(), None);
    assert!(!throttle.is_limited.load(Ordering::Relaxed));
    throttle.set_rate(rate(9));
    throttle.ask_at_ns.store(0, Ordering::Relaxed);
    assert_eq!(throttle.rate(), rate(9));
}

#[test]
fn who_waits_sees_that_the_source_says_otherwise() {
    let throttle = Throttle::default();
    let said = Arc::new(AtomicU64::new(1));
    let source = Arc::clone(&said);
    throttle.follow(move || rate(source.load(Ordering::Relaxed)));
    // Asked at every sleep from now on, as if a second had passed.
    let is_cancelled = || {
        said.store(0, Ordering::Relaxed);
        throttle.ask_at_ns.store(0, Ordering::Relaxed);
        false
    };
    throttle.pay(1 << 20, &is_cancelled);
    assert_eq!(throttle.rate(), None);
}
