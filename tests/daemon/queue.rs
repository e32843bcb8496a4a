//! What may begin, for random runs that take random times.

use afterimage::daemon::{Demand, Limits, Queue};
use afterimage::operations::Needs;
use afterimage::units::{Name, RunId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A run: what it uses, when it comes, how long it takes.
#[derive(Debug, Clone)]
struct Run {
    alone: BTreeSet<u8>,
    shared: BTreeSet<u8>,
    repositories: BTreeSet<u8>,
    disks: BTreeSet<u8>,
    asked_for: bool,
    comes: u64,
    takes: u64,
}

fn few(of: u8, most: usize) -> impl Strategy<Value = BTreeSet<u8>> {
    proptest::collection::btree_set(0..of, 0..=most)
}

fn run() -> impl Strategy<Value = Run> {
    let uses = (few(6, 2), few(6, 2), few(3, 2), few(3, 2));
    (uses, any::<bool>(), 0..60_u64, 1..20_u64).prop_map(|(uses, asked_for, comes, takes)| {
        let (alone, shared, repositories, disks) = uses;
        let shared = shared.difference(&alone).copied().collect();
        Run { alone, shared, repositories, disks, asked_for, comes, takes }
    })
}

fn id(index: usize) -> RunId {
    RunId((index as u128).to_be_bytes())
}

fn index(id: RunId) -> usize {
    usize::try_from(u128::from_be_bytes(id.0)).unwrap()
}

fn repository(number: u8) -> Name {
    format!("r{number}").parse().unwrap()
}

fn demand(run: &Run) -> Demand {
    let things = |set: &BTreeSet<u8>| set.iter().map(|it| format!("thing {it}")).collect();
    let repositories = run.repositories.iter().map(|it| repository(*it)).collect();
    let needs = Needs { alone: things(&run.alone), shared: things(&run.shared), repositories };
    Demand { needs, disks: run.disks.iter().map(|it| u64::from(*it)).collect() }
}

/// How many of `running` use something.
fn users(running: &[&Run], uses: impl Fn(&Run) -> bool) -> usize {
    running.iter().filter(|run| uses(run)).count()
}

fn check(running: &[&Run], limits: &Limits) {
    assert!(running.len() <= limits.runs);
    for thing in 0..6 {
        let alone = users(running, |run| run.alone.contains(&thing));
        let all = alone + users(running, |run| run.shared.contains(&thing));
        assert!(alone == 0 || all == 1, "thing {thing} is used by {alone} alone of {all}");
    }
    for number in 0..3 {
        let count = users(running, |run| run.repositories.contains(&number));
        let limit = limits.repositories.get(&repository(number));
        assert!(limit.is_none_or(|limit| count <= *limit), "repository {number}: {count}");
        let count = users(running, |run| run.disks.contains(&number));
        assert!(limits.disk_runs.is_none_or(|limit| count <= limit), "disk {number}: {count}");
    }
}

/// Lets all runs come, begin and end; returns when each began.
fn simulate(runs: &[Run], limits: &Limits) -> Vec<u64> {
    let mut queue = Queue::default();
    let mut began: Vec<Option<u64>> = vec![None; runs.len()];
    let mut ends: BTreeMap<usize, u64> = BTreeMap::new();
    for now in 0.. {
        for (at, run) in runs.iter().enumerate().filter(|(_, run)| run.comes == now) {
            queue.push(id(at), Duration::from_secs(now), run.asked_for, demand(run));
        }
        let over: Vec<usize> =
            ends.iter().filter(|(_, end)| **end <= now).map(|it| *it.0).collect();
        for at in over {
            ends.remove(&at);
            queue.ended(id(at));
        }
        for run in queue.take(limits, |_| true) {
            let at = index(run);
            assert_eq!(began[at].replace(now), None, "it began twice");
            ends.insert(at, now + runs[at].takes);
        }
        let running: Vec<&Run> = ends.keys().map(|at| &runs[*at]).collect();
        check(&running, limits);
        assert_eq!(queue.running_count(), running.len());
        let has_come = runs.iter().all(|run| run.comes <= now);
        if has_come && queue.waiting_count() == 0 {
            break;
        }
        // As if each ran alone, and one more.
        let all: u64 = runs.iter().map(|run| run.takes).sum();
        assert!(now <= 60 + all, "something starves");
        assert!(!has_come || !ends.is_empty(), "nothing is under way, and something waits");
    }
    began.into_iter().map(Option::unwrap).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_two_runs_use_one_thing_alone_and_limits_hold_and_all_begin(
        runs in proptest::collection::vec(run(), 1..60),
        most in 1..6_usize,
        on_disk in proptest::option::of(1..3_usize),
        in_repositories in proptest::collection::vec(1..4_usize, 0..3),
    ) {
        let repositories = in_repositories.into_iter().enumerate();
        let repositories =
            repositories.map(|(at, limit)| (repository(at as u8), limit)).collect();
        simulate(&runs, &Limits { runs: most, disk_runs: on_disk, repositories });
    }
}

fn plain(alone: &[u8], shared: &[u8], comes: u64, takes: u64) -> Run {
    Run {
        alone: alone.iter().copied().collect(),
        shared: shared.iter().copied().collect(),
        repositories: BTreeSet::new(),
        disks: BTreeSet::new(),
        asked_for: false,
        comes,
        takes,
    }
}

/// A repair wants the repository alone, and backups that overlap would never let it.
#[test]
fn what_is_wanted_alone_is_got_although_others_share_it_all_the_time() {
    let mut runs = vec![plain(&[0], &[], 5, 3)];
    runs.extend((0..50).map(|at| plain(&[], &[0], at, 4)));
    let began = simulate(&runs, &Limits { runs: 8, ..Limits::default() });
    assert!(began[0] <= 10, "{began:?}");
}

#[test]
fn what_somebody_asks_for_goes_first_but_not_for_ever() {
    let mut queue = Queue::default();
    let limits = Limits { runs: 1, ..Limits::default() };
    let minutes = |count| Duration::from_secs(count * 60);
    queue.push(id(0), minutes(0), false, Demand::default());
    queue.push(id(1), minutes(1), true, Demand::default());
    for at in 2..5 {
        queue.push(id(at), minutes(at as u64 * 10), true, Demand::default());
    }
    let mut order = Vec::new();
    while let [run] = queue.take(&limits, |_| true)[..] {
        order.push(index(run));
        queue.ended(run);
    }
    assert_eq!(order, [1, 0, 2, 3, 4]);
}

#[test]
fn what_is_held_waits_and_keeps_nothing_from_others() {
    let mut queue = Queue::default();
    let limits = Limits { runs: 2, ..Limits::default() };
    let same = || demand(&plain(&[1], &[], 0, 1));
    queue.push(id(0), Duration::ZERO, false, same());
    queue.push(id(1), Duration::ZERO, false, same());
    queue.push(id(2), Duration::ZERO, false, same());
    assert_eq!(queue.take(&limits, |run| run != id(0)), [id(1)]);
    let why = queue.waits_for(id(2), &limits).unwrap();
    assert!(why.contains("thing 1"), "{why}");
    assert!(queue.remove(id(2)) && !queue.remove(id(2)) && !queue.remove(id(1)));
    queue.put_back(id(1));
    assert_eq!(queue.waiting().collect::<Vec<_>>(), [id(0), id(1)]);
    assert_eq!(queue.take(&limits, |_| true), [id(0)]);
}
