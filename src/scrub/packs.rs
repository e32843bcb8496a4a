//! Which packs are read, and what is found in them.

use super::VerifyError;
use crate::progress::Progress;
use crate::store::{PackDamage, PackState, Repository, StoreError};
use crate::units::PackName;
use crate::workers::in_parallel;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Packs that were read.
#[derive(Debug, Default)]
pub(super) struct Inspected {
    pub good: Vec<PackName>,
    pub damaged: Vec<(PackName, PackDamage)>,
    /// Gone since they were listed.
    pub missing: Vec<PackName>,
    /// Packs that could not be read, and why.
    pub unchecked: Vec<(PackName, String)>,
}

/// The packs that were not read for the longest time, those that never were first, until they
/// hold `percent` of all bytes.
pub(super) fn sample(
    packs: &[(PackName, u64)],
    last_read: &BTreeMap<PackName, Timestamp>,
    percent: u32,
) -> Vec<(PackName, u64)> {
    let total: u128 = packs.iter().map(|(_, bytes)| u128::from(*bytes)).sum();
    let enough = (total * u128::from(percent)).div_ceil(100);
    let mut oldest: Vec<_> = packs.to_vec();
    oldest.sort_by_key(|(name, _)| (last_read.get(name).copied(), *name));
    let mut so_far = 0;
    let mut chosen = Vec::new();
    for (name, bytes) in oldest {
        if so_far >= enough {
            break;
        }
        so_far += u128::from(bytes);
        chosen.push((name, bytes));
    }
    chosen
}

/// Reads packs, each one whole.
pub(super) fn inspect(
    repository: &Repository,
    packs: &[(PackName, u64)],
    workers: usize,
    progress: &Progress,
) -> Result<Inspected, VerifyError> {
    packs.iter().for_each(|(_, bytes)| progress.add_total(*bytes));
    let found: Mutex<Inspected> = Mutex::default();
    let note = |add: &mut dyn FnMut(&mut Inspected)| {
        add(&mut found.lock().unwrap_or_else(PoisonError::into_inner));
    };
    in_parallel(
        workers,
        |send| {
            packs.iter().take_while(|(name, _)| send(*name)).for_each(drop);
            Ok(())
        },
        || Ok(repository.inspector()?),
        |inspector, name: PackName| {
            progress.check()?;
            let mut on_bytes = |bytes| {
                progress.add_done(bytes);
                progress.add_read(bytes);
                Ok::<(), VerifyError>(progress.check()?)
            };
            match inspector.inspect(name, &mut on_bytes) {
                Ok(PackState::Good) => note(&mut |found| found.good.push(name)),
                Ok(PackState::Missing) => note(&mut |found| found.missing.push(name)),
                Ok(PackState::Damaged(damage)) => {
                    note(&mut |found| found.damaged.push((name, damage.clone())));
                }
                // The others can be read all the same.
                Err(VerifyError::Store(StoreError::File(error))) => {
                    note(&mut |found| found.unchecked.push((name, error.to_string())));
                }
                Err(error) => return Err(error),
            }
            Ok(())
        },
    )?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.good.sort_unstable();
    found.damaged.sort_by_key(|(name, _)| *name);
    found.missing.sort_unstable();
    found.unchecked.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_samples_of_one_percent_read_everything() {
        let packs: Vec<_> = (0..250_u32)
            .map(|i| (PackName([i as u8; 32]), 1000 + u64::from(i % 7) * 300))
            .collect();
        let mut last_read = BTreeMap::new();
        for day in 0..100 {
            let chosen = sample(&packs, &last_read, 1);
            assert!(!chosen.is_empty() && chosen.len() < 10);
            let now = Timestamp::from_second(day).unwrap();
            last_read.extend(chosen.into_iter().map(|(name, _)| (name, now)));
        }
        assert_eq!(last_read.len(), packs.len());
    }
}
