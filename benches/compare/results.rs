//! What was measured, and what it should be: tables, and one JSON document.

use crate::run::Sample;
use std::collections::BTreeMap;
use std::fmt::Write;

/// The works, in the order of the tables, and what stands above each.
pub const WORKS: [(&str, &str); 6] = [
    ("first", "First backup, into an empty repository"),
    ("restore", "Restore of the whole disk"),
    ("unchanged", "Second backup, nothing changed, everything read"),
    ("incremental", "Backup of a change of 1 % of the used blocks at random"),
    ("replicate", "Replication of that change to a warm standby"),
    ("store", "Repository after the four states"),
];

/// What the work of afterimage is held against, and how much of that it may take at most.
struct Target {
    work: &'static str,
    against: (&'static str, &'static str),
    /// `None`: it is only told.
    most: Option<f64>,
}

const fn target(work: &'static str, against: (&'static str, &'static str), most: f64) -> Target {
    Target { work, against, most: Some(most) }
}

/// 85 % of what the machine can do.
const NEAR_BOUND: f64 = 1.0 / 0.85;

const TARGETS: [Target; 12] = [
    target("first", ("first", "borg"), 0.40),
    target("first", ("first", "restic"), 0.30),
    target("first", ("bound", "cut, name, compress"), NEAR_BOUND),
    target("restore", ("restore", "qemu-img convert"), 1.0),
    target("restore", ("restore", "restic"), 0.30),
    target("restore", ("restore", "rustic"), 0.8),
    Target { work: "restore", against: ("bound", "write, fsync"), most: None },
    target("unchanged", ("bound", "cut, name"), NEAR_BOUND),
    target("incremental", ("first", "afterimage"), 1.0 / 12.0),
    target("replicate", ("replicate", "rsync --inplace"), 1.0 / 30.0),
    target("replicate", ("replicate", "pwrite, fsync"), 3.0),
    target("store", ("store", "restic"), 2.7 / 4.7),
];

/// What an incremental may read, as a multiple of the chunks that it touches.
const READS_MOST: f64 = 1.3;

/// More than this share of the processors, used by others: the figure does not count.
const OTHERS_MOST: f64 = 0.15;

/// All that was measured.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Results {
    /// What the machine and the disks are.
    pub head: BTreeMap<String, String>,
    /// By work, then by who did it.
    samples: BTreeMap<String, BTreeMap<String, Vec<Sample>>>,
    /// Single numbers: sizes, in bytes.
    notes: BTreeMap<String, f64>,
}

impl Results {
    /// One more run.
    pub fn add(&mut self, work: &str, who: &str, sample: Sample) {
        let (seconds, others) = (sample.seconds, 100.0 * sample.others);
        println!("  {work}: {who}: {seconds:.2} s, {others:.0} % used by others");
        let by_who = self.samples.entry(work.to_owned()).or_default();
        by_who.entry(who.to_owned()).or_default().push(sample);
    }

    /// A single number.
    pub fn note(&mut self, what: &str, value: f64) {
        println!("  {what}: {value}");
        self.notes.insert(what.to_owned(), value);
    }

    /// Forgets what was measured of a work.
    pub fn forget(&mut self, work: &str) {
        self.samples.remove(work);
        self.samples.remove(&bound_of(work));
        let prefix = if work == "store" { "stored" } else { work };
        self.notes.retain(|what, _| !what.starts_with(prefix));
    }

    fn median(&self, (work, who): (&str, &str)) -> Option<f64> {
        if work == "store" {
            return self.notes.get(&format!("stored by {who}")).copied();
        }
        let samples = self.samples.get(work)?.get(who)?;
        middle(samples.iter().map(|sample| sample.seconds))
    }

    fn is_disturbed(&self, (work, who): (&str, &str)) -> bool {
        let samples = self.samples.get(work).and_then(|by_who| by_who.get(who));
        samples.is_some_and(|samples| disturbance(samples).is_some())
    }

    /// Everything as text.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (what, value) in &self.head {
            let _ = writeln!(text, "{what}: {value}");
        }
        for (work, title) in WORKS {
            let rows = if work == "store" { self.stored_rows() } else { self.rows(work) };
            if !rows.is_empty() {
                let _ = write!(text, "\n{title}\n{rows}{}", self.verdicts(work));
                text.push_str(&self.bounds(work));
            }
        }
        text
    }

    fn bounds(&self, work: &str) -> String {
        let bound = bound_of(work);
        let rows = self.rows(&bound);
        if rows.is_empty() {
            return rows;
        }
        format!("  What the machine does at most meanwhile, for the data of this disk:\n{rows}")
    }

    fn rows(&self, work: &str) -> String {
        let mut rows = String::new();
        let own = self.median((work, "afterimage"));
        for (who, samples) in self.samples.get(work).into_iter().flatten() {
            let seconds = || samples.iter().map(|sample| sample.seconds);
            let median = middle(seconds()).unwrap_or(0.0);
            let (least, most) = (seconds().fold(f64::MAX, f64::min), seconds().fold(0.0, f64::max));
            let peak = middle(samples.iter().map(|sample| sample.peak_bytes as f64));
            let disturbed = match disturbance(samples) {
                Some(others) => format!("  DISTURBED: {:.0} % used by others", 100.0 * others),
                None => String::new(),
            };
            let ratio = own.map(|own| format!("  afterimage/this {:.3}", own / median));
            let _ = writeln!(
                rows,
                "  {who:32} {median:8.2} s  ({least:.2} to {most:.2})  {:6.0} MiB{}{disturbed}",
                peak.unwrap_or(0.0) / f64::from(1 << 20),
                ratio.unwrap_or_default(),
            );
        }
        rows
    }

    fn stored_rows(&self) -> String {
        let mut rows = String::new();
        for (what, bytes) in self.notes.iter().filter(|(what, _)| what.starts_with("stored by ")) {
            let _ = writeln!(
                rows,
                "  {:32} {:8.3} GB",
                what.trim_start_matches("stored by "),
                bytes / 1e9
            );
        }
        rows
    }

    fn verdicts(&self, work: &str) -> String {
        let mut text = String::new();
        for target in TARGETS.iter().filter(|target| target.work == work) {
            let bound = bound_of(work);
            let against = match target.against {
                ("bound", who) => (bound.as_str(), who),
                other => other,
            };
            let both = self.median((work, "afterimage")).zip(self.median(against));
            let Some((own, other)) = both else { continue };
            if self.is_disturbed((work, "afterimage")) || self.is_disturbed(against) {
                let _ = writeln!(text, "  no verdict beside {}: disturbed", against.1);
                continue;
            }
            let _ = writeln!(text, "  {}", verdict(target, own / other));
        }
        if work == "incremental"
            && let Some(read) = self.notes.get("incremental bytes_read")
            && let Some(changed) = self.notes.get("incremental bytes_changed")
        {
            let (ratio, mark) = (read / changed, mark(read / changed <= READS_MOST));
            let what = "of the bytes of the chunks touched were read";
            let _ = writeln!(text, "  {ratio:.2} {what}, at most {READS_MOST}: {mark}");
        }
        text
    }
}

/// The share of the processors that others used, if it was too much.
fn disturbance(samples: &[Sample]) -> Option<f64> {
    middle(samples.iter().map(|sample| sample.others)).filter(|others| *others > OTHERS_MOST)
}

/// A share of what the machine can do, or a multiple of what another one takes.
fn verdict(target: &Target, ratio: f64) -> String {
    let (work, who) = target.against;
    let is_bound = work == "bound";
    let of_work = if work == target.work { String::new() } else { format!(" ({work})") };
    let found = match is_bound {
        true => format!("{:.0} % of what \"{who}\" can do", 100.0 / ratio),
        false => format!("{ratio:.3} of {who}{of_work}"),
    };
    match target.most {
        None => found,
        Some(most) if is_bound => {
            format!("{found}, at least {:.0} %: {}", 100.0 / most, mark(ratio <= most))
        }
        Some(most) => format!("{found}, at most {most:.3}: {}", mark(ratio <= most)),
    }
}

fn mark(is_met: bool) -> &'static str {
    if is_met { "met" } else { "NOT MET" }
}

/// Bounds belong to the work in whose rounds they were measured: another run of the same machine
/// may have been twice as slow.
pub fn bound_of(work: &str) -> String {
    format!("{work}: bound")
}

/// The median; of an even number, halfway between the two in the middle.
fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get(values.len().saturating_sub(1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}
