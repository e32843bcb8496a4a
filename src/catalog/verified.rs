//! What verifications found, in the history: of each point, and when each pack was last read.

use super::objects::digest;
use super::{CatalogError, History};
use crate::units::{PackName, PointId, RepositoryId, RunId};
use jiff::Timestamp;
use rusqlite::{Row, params};
use std::collections::{BTreeMap, BTreeSet};

/// The second schema of the history.
pub(super) const MIGRATION: &str = "
    CREATE TABLE verified_point (
        repository BLOB NOT NULL, point BLOB NOT NULL, how TEXT NOT NULL, run BLOB NOT NULL,
        time TEXT NOT NULL, damaged_bytes INTEGER NOT NULL, is_good INTEGER NOT NULL,
        PRIMARY KEY (repository, point, how)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE verified_pack (
        repository BLOB NOT NULL, pack BLOB NOT NULL, time TEXT NOT NULL,
        PRIMARY KEY (repository, pack)
    ) STRICT, WITHOUT ROWID;
";

/// Finds damage without a look at all that is good.
pub(super) const INDEX: &str =
    "CREATE INDEX damaged_point ON verified_point (repository, point) WHERE is_good = 0;";

/// How much of a point was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VerifiedHow {
    /// Every byte of the repository.
    All,
    /// Whether what it needs is there; of the content, a part of the repository.
    Sample,
    /// Every byte that it needs.
    Point,
}

impl VerifiedHow {
    /// The word in the database and in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Sample => "sample",
            Self::Point => "point",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::All, Self::Sample, Self::Point].into_iter().find(|how| how.word() == word)
    }
}

/// What a verification found of a point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointVerified {
    /// The point.
    pub point: PointId,
    /// The run.
    pub run: RunId,
    /// When.
    pub time: Timestamp,
    /// How much was looked at.
    pub how: VerifiedHow,
    /// Whether no damage was found.
    pub is_good: bool,
    /// Bytes of its disks that could not be read.
    pub damaged_bytes: u64,
}

impl History {
    /// Notes what a verification found: of points, and of the packs that were read whole and are
    /// good. Packs that are not among `present` are forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_verified(
        &self,
        repository: RepositoryId,
        points: &[PointVerified],
        packs: &[PackName],
        present: &BTreeSet<PackName>,
        time: Timestamp,
    ) -> Result<(), CatalogError> {
        let gone: Vec<PackName> =
            self.packs_read(repository)?.into_keys().filter(|it| !present.contains(it)).collect();
        self.database.write(|transaction| {
            let mut note = transaction.prepare_cached(
                "INSERT OR REPLACE INTO verified_point VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for point in points {
                note.execute(params![
                    &repository.0[..],
                    &point.point.0[..],
                    point.how.word(),
                    &point.run.0[..],
                    point.time.to_string(),
                    i64::try_from(point.damaged_bytes).unwrap_or(i64::MAX),
                    point.is_good,
                ])?;
            }
            let mut note = transaction
                .prepare_cached("INSERT OR REPLACE INTO verified_pack VALUES (?1, ?2, ?3)")?;
            for pack in packs {
                note.execute(params![&repository.0[..], &pack.0[..], time.to_string()])?;
            }
            let mut forget = transaction
                .prepare_cached("DELETE FROM verified_pack WHERE repository = ?1 AND pack = ?2")?;
            for pack in &gone {
                forget.execute(params![&repository.0[..], &pack.0[..]])?;
            }
            Ok(())
        })
    }

    /// When packs were last read whole and found to be good.
    ///
    /// # Errors
    /// When the database fails.
    pub fn packs_read(
        &self,
        repository: RepositoryId,
    ) -> Result<BTreeMap<PackName, Timestamp>, CatalogError> {
        self.database.read(|connection| {
            let mut all = connection
                .prepare_cached("SELECT pack, time FROM verified_pack WHERE repository = ?1")?;
            let rows = all.query_map([&repository.0[..]], |row| {
                Ok((PackName(digest(row, 0)?), time(row, 1)?))
            })?;
            rows.collect()
        })
    }

    /// The verification of each point that says most: the newest that found damage, if nothing
    /// newer looked at as much; else the newest of every byte; else the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub fn verified_points(
        &self,
        repository: RepositoryId,
    ) -> Result<BTreeMap<PointId, PointVerified>, CatalogError> {
        self.verified_where(repository, "1")
    }

    /// As [`History::verified_points`], of those only that are damaged by what is told of them.
    ///
    /// # Errors
    /// When the database fails.
    pub fn damaged_points(
        &self,
        repository: RepositoryId,
    ) -> Result<BTreeMap<PointId, PointVerified>, CatalogError> {
        let suspects = "point IN (SELECT point FROM verified_point
                                  WHERE repository = ?1 AND is_good = 0)";
        let mut found = self.verified_where(repository, suspects)?;
        found.retain(|_, verified| !verified.is_good);
        Ok(found)
    }

    fn verified_where(
        &self,
        repository: RepositoryId,
        condition: &str,
    ) -> Result<BTreeMap<PointId, PointVerified>, CatalogError> {
        let all: Vec<PointVerified> = self.database.read(|connection| {
            let mut all = connection.prepare_cached(&format!(
                "SELECT point, run, time, how, is_good, damaged_bytes FROM verified_point
                 WHERE repository = ?1 AND {condition} ORDER BY time, how",
            ))?;
            let rows = all.query_map([&repository.0[..]], verified)?;
            rows.collect::<rusqlite::Result<_>>()
        })?;
        let mut best: BTreeMap<PointId, PointVerified> = BTreeMap::new();
        for next in all {
            match best.get(&next.point) {
                Some(old) if !says_more(&next, old) => {}
                _ => drop(best.insert(next.point, next)),
            }
        }
        Ok(best)
    }
}

/// Whether `next`, the later one, is of more worth than `old`.
fn says_more(next: &PointVerified, old: &PointVerified) -> bool {
    let is_full = |it: &PointVerified| it.how != VerifiedHow::Sample;
    !next.is_good || is_full(next) || !is_full(old) && old.is_good
}

fn verified(row: &Row<'_>) -> rusqlite::Result<PointVerified> {
    let how: String = row.get(3)?;
    let unknown =
        || rusqlite::Error::InvalidColumnType(3, how.clone(), rusqlite::types::Type::Text);
    Ok(PointVerified {
        point: PointId(digest(row, 0)?),
        run: RunId(row.get(1)?),
        time: time(row, 2)?,
        how: VerifiedHow::from_word(&how).ok_or_else(unknown)?,
        is_good: row.get(4)?,
        damaged_bytes: u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0),
    })
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| {
        rusqlite::Error::InvalidColumnType(column, text.clone(), rusqlite::types::Type::Text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_stands_until_every_byte_was_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let (repository, point) = (RepositoryId([1; 16]), PointId([2; 32]));
        let note = |second, how, is_good| {
            let time = Timestamp::from_second(second).unwrap();
            let (run, damaged_bytes) = (RunId([3; 16]), if is_good { 0 } else { 7 });
            let found = PointVerified { point, run, time, how, is_good, damaged_bytes };
            history.note_verified(repository, &[found], &[], &BTreeSet::new(), time).unwrap();
            let shown = history.verified_points(repository).unwrap().remove(&point).unwrap();
            (shown.time.as_second(), shown.is_good)
        };
        assert_eq!(note(1, VerifiedHow::Sample, true), (1, true));
        assert_eq!(note(2, VerifiedHow::All, true), (2, true));
        assert_eq!(note(3, VerifiedHow::Sample, true), (2, true));
        assert_eq!(note(4, VerifiedHow::Point, false), (4, false));
        assert_eq!(note(5, VerifiedHow::Sample, true), (4, false));
        assert_eq!(note(6, VerifiedHow::All, true), (6, true));
    }

    #[test]
    fn packs_that_are_gone_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let (repository, packs) = (RepositoryId([1; 16]), [PackName([1; 32]), PackName([2; 32])]);
        let time = Timestamp::from_second(9).unwrap();
        let note = |good: &[PackName], present: &[PackName]| {
            let present = present.iter().copied().collect();
            history.note_verified(repository, &[], good, &present, time).unwrap();
            history.packs_read(repository).unwrap().into_keys().collect::<Vec<_>>()
        };
        assert_eq!(note(&packs, &packs), packs);
        assert_eq!(note(&[], &packs[1..]), packs[1..]);
        assert!(history.packs_read(RepositoryId([2; 16])).unwrap().is_empty());
    }
}
