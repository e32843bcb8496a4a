use super::*;
use crate::fsio::{FileSystem, RealFileSystem};
use crate::testing::{CutFileSystem, LastOperation, Lost, Random, UnsyncedFileSystem};
use jiff::Timestamp;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const SMALL: Rotation = Rotation { file_bytes: 1000, files_kept: 3 };

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn entry(number: u64) -> AuditEntry {
    let mut entry = AuditEntry::new("token:ops", "POST /v1/runs", AuditOutcome::Done);
    entry.subject = Some(format!("backup of web{number:02}"));
    entry
}

fn log_in(folder: &Path, rotation: Rotation) -> AuditLog {
    AuditLog::new(&RealFileSystem::shared(), folder, rotation)
}

fn fill(log: &AuditLog, lines: u64) {
    for number in 0..lines {
        log.record(at(number as i64), &entry(number)).unwrap();
    }
}

fn sequences(log: &AuditLog, before: Option<u64>, limit: usize) -> Vec<u64> {
    read_lines(log, before, limit).unwrap().iter().map(|line| line.sequence).collect()
}

#[test]
fn lines_are_numbered_and_chained_over_files_and_old_files_go_with_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_in(folder.path(), SMALL);
    fill(&log, 60);
    let verdict = verify(&log).unwrap();
    assert_eq!(verdict.broken, None);
    assert_eq!(verdict.files, 4, "three full ones and the one that is written to");
    let first = verdict.first.unwrap();
    assert!(first > 1, "old files went");
    assert_eq!(verdict.lines, verdict.last.unwrap() - first + 1);
    let last = verdict.last.unwrap();
    assert_eq!(sequences(&log, None, 3), [last - 2, last - 1, last]);
    assert_eq!(sequences(&log, Some(last - 1), 10).len(), 10);
    assert_eq!(sequences(&log, Some(first), 10), [0; 0]);
    assert_eq!(sequences(&log, None, 1000).len() as u64, verdict.lines);
    // Another one goes on where this one ended.
    let next = log_in(folder.path(), SMALL).record(at(99), &entry(99)).unwrap();
    assert!(next > last);
    assert!(log.record(at(100), &entry(100)).unwrap() > next);
    assert_eq!(verify(&log).unwrap().broken, None);
}

#[test]
fn files_that_are_missing_at_the_beginning_or_between_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_in(folder.path(), Rotation { files_kept: 64, ..SMALL });
    fill(&log, 20);
    let mut full: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("audit-"))
        .collect();
    full.sort();
    let moved = folder.path().join("elsewhere");
    for path in &full[..2] {
        std::fs::rename(path, &moved).unwrap();
        let broken = verify(&log).unwrap().broken.unwrap();
        assert!(broken.reason.contains("missing"), "{broken:?}");
        std::fs::rename(&moved, path).unwrap();
    }
    assert_eq!(verify(&log).unwrap().broken, None);
}

#[test]
fn texts_of_peers_are_bounded_and_cannot_end_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let log = log_in(folder.path(), Rotation::default());
    let mut hostile = entry(0);
    hostile.who = "\u{1}\n\"".repeat(100_000);
    hostile.subject = Some("\n{}".repeat(100_000));
    hostile.detail = Some("\u{10ffff}".repeat(100_000));
    log.record(at(0), &hostile).unwrap();
    log.record(at(1), &entry(1)).unwrap();
    let verdict = verify(&log).unwrap();
    assert_eq!((verdict.lines, verdict.broken), (2, None));
}

#[test]
fn several_writers_make_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| fill(&log_in(folder.path(), SMALL), 10));
        }
    });
    let verdict = verify(&log_in(folder.path(), SMALL)).unwrap();
    assert_eq!(verdict.broken, None);
    assert!(verdict.last.unwrap() >= 40);
}

/// What is acknowledged is there after a crash at any operation, the chain is whole, and lines can
/// be added.
#[test]
fn a_crash_at_any_operation_loses_no_acknowledged_line() {
    for lost in [None, Some(Lost::Content), Some(Lost::Names), Some(Lost::Everything)] {
        let mut cut = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            let unsynced = UnsyncedFileSystem::new(RealFileSystem::shared());
            let inner: Arc<dyn FileSystem> = unsynced.clone();
            let fs: Arc<dyn FileSystem> = CutFileSystem::new(inner, cut, LastOperation::Torn);
            let small = Rotation { file_bytes: 400, files_kept: 1 };
            let log = AuditLog::new(&fs, folder.path(), small);
            let mut acknowledged = 0;
            let mut failed = false;
            for number in 0..6 {
                match log.record(at(number), &entry(number as u64)) {
                    Ok(sequence) => acknowledged = sequence,
                    Err(_) => failed = true,
                }
            }
            if let Some(lost) = lost {
                unsynced.power_cut(lost).unwrap();
            }
            let log = log_in(folder.path(), small);
            let verdict = verify(&log).unwrap();
            let what = format!("{lost:?}, cut {cut}: {verdict:?}");
            assert_eq!(verdict.broken, None, "{what}");
            assert!(verdict.last.unwrap_or(0) >= acknowledged, "{what}");
            log.record(at(9), &entry(9)).unwrap();
            let verdict = verify(&log).unwrap();
            assert_eq!((verdict.broken, verdict.rest_bytes), (None, 0), "{what}");
            if !failed {
                break;
            }
            cut += 1;
        }
        assert!(cut > 20, "only {cut} places were cut");
    }
}

#[test]
fn a_line_cut_anywhere_is_passed_over_and_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = log_in(folder.path(), Rotation::default());
    fill(&log, 2);
    let whole = std::fs::read(&path).unwrap();
    let begin = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    // Only the newline is missing: that is a whole line.
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(log_in(folder.path(), Rotation::default()).record(at(5), &entry(5)).unwrap(), 3);
    let found = verify(&log).unwrap();
    assert_eq!((found.broken, found.lines, found.torn), (None, 3, 0));
    for end in begin + 1..whole.len() - 1 {
        let mut torn = whole[..end].to_vec();
        if end % 3 == 0 {
            // The length came to the medium, the content did not.
            torn[begin + (end - begin) / 2..].fill(0);
            torn.push(b'\n');
        }
        std::fs::write(&path, &torn).unwrap();
        let found = verify(&log).unwrap();
        assert_eq!((found.broken, found.lines), (None, 1), "{end}");
        assert_eq!(found.rest_bytes, (torn.len() - begin) as u64);
        let log = log_in(folder.path(), Rotation::default());
        assert_eq!(log.record(at(5), &entry(5)).unwrap(), 3, "the repair is a line, too");
        let found = verify(&log).unwrap();
        assert_eq!((found.broken, found.lines, found.torn), (None, 3, 1), "{end}");
        assert!(std::fs::read(&path).unwrap().starts_with(&torn), "nothing was taken away");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A byte that was changed, a line that was taken out, doubled or exchanged: the first line
    /// that is not as it was, or the one after it, is named.
    #[test]
    fn whatever_is_changed_is_found(seed in any::<u64>(), change in 0..4_u8) {
        let folder = tempfile::tempdir().unwrap();
        let log = log_in(folder.path(), Rotation::default());
        fill(&log, 8);
        let path = folder.path().join("audit.jsonl");
        let whole = std::fs::read(&path).unwrap();
        let mut lines: Vec<Vec<u8>> =
            whole.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let mut random = Random::new(seed);
        // Of the last line nobody tells: it can be changed unseen, but then its digest differs. Joined
        // with the one before it, it may be what a crash left.
        let chosen = random.below(6) as usize;
        match change {
            0 => {
                let place = random.below(lines[chosen].len() as u64) as usize;
                lines[chosen][place] ^= 1 << random.below(8);
            }
            1 => drop(lines.remove(chosen)),
            2 => lines.insert(chosen, lines[chosen].clone()),
            _ => lines.swap(chosen, chosen + 1),
        }
        std::fs::write(&path, lines.concat()).unwrap();
        let after = verify(&log).unwrap();
        let broken = after.broken.clone().unwrap();
        let named = broken.line as usize - 1;
        prop_assert!((chosen..=chosen + 1).contains(&named), "{chosen}: {broken:?}");
    }
}
