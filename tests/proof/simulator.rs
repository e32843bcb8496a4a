//! The whole, as one history for each seed: machines that change, backups, replications, prunes,
//! collections, copies, rotations and restores at the same time on two computers, with clocks that
//! jump, operations that fail, processes that are killed and power that goes.

use crate::go_on::{check_catalogs, check_leftovers, run};
use crate::known::{Finding, Known, check, compare_images};
use crate::lab::{Action, Contents, Lab, REPLICAS, copy_files, name};
use crate::turns::{Company, Ended, Rates};
use afterimage::testing::Random;
use afterimage::units::seed_random;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Computers, each with catalogs of its own.
const HOSTS: usize = 2;
const DAY_S: i64 = 86_400;

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub histories: u64,
    pub actions: u64,
    pub operations: u64,
    pub faults: u64,
    pub kills: u64,
    pub power_cuts: u64,
    /// States of the disk that were checked after one.
    pub states: u64,
    /// The same for the same history.
    pub trace: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.histories += other.histories;
        self.actions += other.actions;
        self.operations += other.operations;
        self.faults += other.faults;
        self.kills += other.kills;
        self.power_cuts += other.power_cuts;
        self.states += other.states;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { histories, actions, operations, faults, kills, power_cuts, states, .. } = self;
        write!(
            f,
            "{histories} histories, {actions} actions, {operations} operations, {faults} faults, \
             {kills} kills, {power_cuts} power cuts, {states} crash states"
        )
    }
}

/// What else goes wrong, in so many of 10,000 turns.
#[derive(Debug, Clone, Copy)]
struct Mishaps {
    kill: u64,
    power_cut: u64,
    rates: Rates,
}

/// What happens in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Everything.
    All,
    /// What comes and goes, many at the same time, and no mishaps.
    Collections,
}

struct History {
    seed: u64,
    theme: Theme,
    random: Random,
    lab: Lab,
    known: Known,
    mishaps: Mishaps,
    /// Whether the clock went back: then nothing is pruned.
    is_late: bool,
    /// What machines held before: it comes back now and then, and chunks with it.
    past: [Vec<Contents>; 2],
    counts: Counts,
    trace: DefaultHasher,
    log: Vec<String>,
}

/// One history of so many scenes.
///
/// # Errors
/// What was found, with all that happened before.
pub fn simulate(seed: u64, scenes: u64, theme: Theme) -> Result<Counts, Finding> {
    seed_random(Some(seed ^ 0x51));
    let mut history = History::new(seed, theme);
    let told = |history: &History, finding: Finding| {
        format!("simulation, seed {seed}: {finding}\n{}", history.log.join("\n"))
    };
    run(&mut history.lab, &mut history.known, Action::Init)?;
    for _ in 0..scenes {
        if let Err(finding) = history.scene() {
            return Err(told(&history, finding));
        }
    }
    if let Err(finding) = history.end() {
        return Err(told(&history, finding));
    }
    history.counts.histories = 1;
    history.lab.disk.fingerprint().hash(&mut history.trace);
    Ok(Counts { trace: history.trace.finish(), ..history.counts })
}

impl History {
    fn new(seed: u64, theme: Theme) -> Self {
        let mut random = Random::new(seed);
        let lab = Lab::new(seed, random.chance(50));
        let mut rate = |max: u64| if random.chance(60) { random.below(max) } else { 0 };
        let (kill, power_cut) = (rate(300), rate(150));
        let mishaps = match theme {
            Theme::All => Mishaps { kill, power_cut, rates: Rates::random(&mut random) },
            Theme::Collections => Mishaps { kill: 0, power_cut: 0, rates: Rates::default() },
        };
        Self {
            seed,
            theme,
            random,
            lab,
            known: Known::default(),
            mishaps,
            is_late: false,
            past: Default::default(),
            counts: Counts::default(),
            trace: DefaultHasher::new(),
            log: Vec::new(),
        }
    }

    /// The world changes, then some act at the same time, until all are at the end or dead.
    fn scene(&mut self) -> Result<(), Finding> {
        self.interlude();
        // Failures come and go: what was left by some must be mended by runs without any.
        let rates = if self.random.chance(60) { self.mishaps.rates } else { Rates::default() };
        let mut company = Company::new(rates);
        for _ in 0..1 + self.random.below(4) {
            self.begin(&mut company);
        }
        let mut later = self.random.below(3);
        while company.turn(&mut self.random)? {
            if self.random.below(10_000) < self.mishaps.kill {
                self.counts.kills += 1;
                company.kill(&mut self.random)?;
            }
            if self.random.below(10_000) < self.mishaps.power_cut {
                company.kill_all()?;
                self.end_scene(company)?;
                return self.power_cut();
            }
            if later > 0 && self.random.chance(3) {
                later -= 1;
                self.begin(&mut company);
            }
        }
        self.end_scene(company)?;
        check(&self.lab, &mut self.known)
    }

    /// What happens while nobody is at work.
    fn interlude(&mut self) {
        self.lab.clock += 1 + self.random.below(7200) as i64;
        for machine in 0..2 {
            let past = &mut self.past[machine];
            past.push(self.lab.machines[machine].clone());
            match self.random.below(10) {
                0..=3 => self.lab.change(machine, &mut self.random),
                4..=6 => {
                    let back = self.random.below(past.len() as u64) as usize;
                    self.lab.hold(machine, past[back].clone());
                }
                _ => {}
            }
        }
        if self.random.chance(5) {
            let days = self.random.below(800) as i64 - 400;
            self.lab.clock += days * DAY_S;
            self.is_late |= days < 0;
            self.log.push(format!("the clock jumps by {days} days"));
        }
        if self.random.chance(8) {
            let replica = self.random.below(REPLICAS.len() as u64) as usize;
            let image = Lab::image(replica, &name("root"));
            if self.known.replicas[replica].synced.is_some()
                && self.lab.disk.content(&image).is_some()
            {
                let at = self.random.below(8000);
                self.lab.disk.overwrite(&image, at, b"someone else's");
                self.known.replicas[replica].foreign = true;
                self.log.push(format!("someone writes to {}", REPLICAS[replica].0));
            }
        }
        if self.random.chance(25) {
            self.lab.disk.settle();
            self.known.settled();
        }
    }

    fn begin(&mut self, company: &mut Company) {
        let action = self.action();
        // Restoring to the same place twice at once is nobody's wish.
        if action == Action::Restore && company.under_way().contains(&Action::Restore) {
            return;
        }
        self.known.begin(&self.lab, action);
        self.lab.clock += 1;
        let host = self.random.below(HOSTS as u64) as usize;
        let mut lab = self.lab.on_host(host);
        if let Action::Prune(machine, _) = action {
            self.known.may_go(machine);
        }
        lab.clock = self.lab.clock;
        self.counts.actions += 1;
        self.log.push(format!("computer {host} begins {action:?}"));
        company.join(lab, action, &mut self.random);
    }

    fn action(&mut self) -> Action {
        let machine = self.random.below(2) as usize;
        let among = if self.theme == Theme::All { 20 } else { 16 };
        match self.random.below(among) {
            0..=6 => Action::Backup(machine),
            7..=10 => {
                let replica = self.random.below(REPLICAS.len() as u64) as usize;
                match self.known.has_points_of(REPLICAS[replica].1) {
                    true => Action::Replicate(replica),
                    false => Action::Backup(REPLICAS[replica].1),
                }
            }
            11..=12 => Action::Prune(machine, self.random.below(4) as u32),
            13..=15 => Action::Gc,
            16 => Action::Copy,
            17 if self.lab.encrypted => Action::Rotate,
            17..=18 => Action::Restore,
            _ => Action::Verify,
        }
    }

    fn end_scene(&mut self, company: Company) -> Result<(), Finding> {
        let (ended, tally) = company.end();
        self.counts.operations += tally.operations;
        self.counts.faults += tally.faults;
        tally.trace.hash(&mut self.trace);
        let actions: Vec<Action> = ended.iter().map(|it| it.action).collect();
        // What was made was there before it was removed, however they ended.
        let (removed, others): (Vec<&Ended>, Vec<&Ended>) =
            ended.iter().partition(|it| matches!(it.action, Action::Prune(..)));
        for one in others.into_iter().chain(removed) {
            self.log.push(format!("{:?}: {:?}", one.action, one.done));
            match &one.done {
                Ok(done) => self.known.note(&one.lab, one.action, done),
                Err(error) => self.judge(one, error, &actions)?,
            }
        }
        let is_prune = |it: &Ended| matches!(it.action, Action::Prune(..));
        if !ended.iter().any(|it| is_prune(it) && it.done.is_err()) {
            self.known.nothing_more_goes();
        }
        Ok(())
    }

    /// Whether somebody had a reason to fail.
    fn judge(&self, one: &Ended, error: &str, actions: &[Action]) -> Result<(), Finding> {
        let among = |is_it: fn(&Action) -> bool| actions.iter().any(is_it);
        let pruned = among(|it| matches!(it, Action::Prune(..)));
        let reads = matches!(one.action, Action::Restore | Action::Replicate(_) | Action::Copy);
        let busy = error.contains("is held by");
        let gone = reads && pruned && (error.contains("missing") || error.contains("No such file"));
        let late = self.is_late && matches!(one.action, Action::Prune(..));
        let key = among(|it| *it == Action::Rotate) && error.contains("key");
        match error != "it panicked" && (one.may_fail || busy || gone || late || key) {
            true => Ok(()),
            false => Err(format!("{:?} failed by itself: {error}", one.action)),
        }
    }

    /// Of what was not synced, anything may be gone; the catalogs may be gone, or older.
    fn power_cut(&mut self) -> Result<(), Finding> {
        self.counts.power_cuts += 1;
        self.counts.states += 1;
        let states = self.lab.disk.crash_states(self.random.split(), 1 + self.random.below(9));
        let state = states.last().ok_or("a crash leaves nothing")?;
        let after = self.lab.with_disk(state, false);
        for host in 0..HOSTS {
            if self.random.chance(70) {
                copy_files(&self.lab.on_host(host).state_dir(), &after.on_host(host).state_dir());
            }
        }
        self.lab = after;
        self.known.power_cut();
        self.log.push("the power goes".to_owned());
        check(&self.lab, &mut self.known)
    }

    /// All is quiet: everything succeeds, and nothing is left over.
    fn end(&mut self) -> Result<(), Finding> {
        // Whoever set the clock right waits for the points of the future.
        self.lab.clock += if self.is_late { 1200 * DAY_S } else { 0 };
        let (lab, known) = (&mut self.lab, &mut self.known);
        run(lab, known, Action::Init)?;
        for host in 0..HOSTS {
            check_catalogs(&lab.on_host(host))?;
        }
        (0..2).try_for_each(|machine| run(lab, known, Action::Backup(machine)))?;
        for (replica, (_, machine)) in REPLICAS.iter().enumerate() {
            run(lab, known, Action::Replicate(replica))?;
            compare_images(lab, replica, &lab.machines[*machine])?;
        }
        let rest = [Action::Copy, Action::Prune(0, 2), Action::Gc, Action::Verify, Action::Restore];
        rest.into_iter().try_for_each(|action| run(lab, known, action))?;
        check(lab, known)?;
        check_catalogs(lab)?;
        check_leftovers(lab)?;
        // And all of it is on the medium.
        let states = lab.disk.crash_states(Random::new(self.seed), 3);
        for state in states {
            self.counts.states += 1;
            let mut after = known.clone();
            after.power_cut();
            check(&lab.beside(state), &mut after)
                .map_err(|finding| format!("then without power: {finding}"))?;
        }
        Ok(())
    }
}
