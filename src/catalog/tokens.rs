//! Tokens of the API, in the history: a token is no cache.

use super::secret::{TokenHash, TokenSecret};
use super::{CatalogError, History, Scope};
use crate::units::Name;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Transaction, params};
use std::collections::BTreeSet;

pub(super) const MIGRATION: &str = "
    CREATE TABLE token (
        name TEXT NOT NULL PRIMARY KEY, hash BLOB NOT NULL UNIQUE CHECK (length(hash) = 32),
        record TEXT NOT NULL, used TEXT, revoked TEXT
    ) STRICT, WITHOUT ROWID;
";

/// All are compared with what somebody sends, so there is an end.
const TOKENS_MAX: i64 = 1000;
/// Uses closer to each other are not all noted.
const USE_NOTED_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenGrant {
    /// What it may be used for.
    pub scopes: BTreeSet<Scope>,
    /// The machines that it is for, with their replicas; `None`: all, and the whole site.
    pub machines: Option<BTreeSet<Name>>,
    /// When it was made.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// A token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its name, by which the audit log calls it.
    pub name: Name,
    /// What it is for.
    pub grant: TokenGrant,
    /// When it was last used, to a minute.
    pub used: Option<Timestamp>,
    /// When it was revoked.
    pub revoked: Option<Timestamp>,
}

impl Token {
    /// Whether it counts at `now`.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.grant.expires.is_none_or(|end| now < end)
    }

    /// Whether it may be used for `scope`.
    pub fn may(&self, scope: Scope) -> bool {
        let scopes = &self.grant.scopes;
        scopes.contains(&scope) || scopes.contains(&Scope::Admin)
    }
}

/// What became of a wish for a token.
#[derive(Debug)]
pub enum Added {
    /// Here it is. It is shown once.
    Token(TokenSecret),
    /// One with this name counts already.
    NameTaken,
    /// There are too many.
    TooMany,
}

impl History {
    /// Makes a token. One with the same name that counts no more is replaced.
    ///
    /// # Errors
    /// When the database fails, or the system has no random numbers.
    pub fn add_token(&self, name: &Name, grant: &TokenGrant) -> Result<Added, CatalogError> {
        let secret = TokenSecret::random().map_err(CatalogError::Random)?;
        let json = serde_json::to_string(grant).map_err(|error| self.damaged(&error))?;
        let old = self.token(name)?;
        if old.as_ref().is_some_and(|token| token.is_valid(grant.created)) {
            return Ok(Added::NameTaken);
        }
        let added = self.database.write(|transaction| {
            if let Some(old) = &old {
                // Only the one that was looked at: another process may have made one meanwhile.
                remove_same(transaction, old)?;
            }
            let count: i64 =
                transaction.query_row("SELECT count(*) FROM token", [], |row| row.get(0))?;
            if count >= TOKENS_MAX {
                return Ok(Added::TooMany);
            }
            let row = params![name.as_str(), &secret.hash().0[..], json];
            let sql = "INSERT OR IGNORE INTO token (name, hash, record) VALUES (?1, ?2, ?3)";
            Ok(match transaction.execute(sql, row)? {
                0 => Added::NameTaken,
                _ => Added::Token(secret),
            })
        })?;
        Ok(added)
    }

    /// All tokens by their names, also those that count no more.
    ///
    /// # Errors
    /// When the database fails, or holds what this program cannot read.
    pub fn tokens(&self) -> Result<Vec<Token>, CatalogError> {
        Ok(self.stored_tokens()?.into_iter().map(|(token, _)| token).collect())
    }

    /// The token that has this name.
    ///
    /// # Errors
    /// As [`History::tokens`].
    pub fn token(&self, name: &Name) -> Result<Option<Token>, CatalogError> {
        Ok(self.tokens()?.into_iter().find(|token| token.name == *name))
    }

    /// The token that somebody has shown, whether it still counts or not.
    ///
    /// # Errors
    /// As [`History::tokens`].
    pub fn find_token(&self, shown: &TokenSecret) -> Result<Option<Token>, CatalogError> {
        let hash = shown.hash();
        let mut found = None;
        // All of them, whichever fits: how long it takes tells nothing.
        for (token, stored) in self.stored_tokens()? {
            if stored.is(&hash) {
                found = Some(token);
            }
        }
        Ok(found)
    }

    /// Revokes a token. `false`: there is none with this name that was not revoked.
    ///
    /// # Errors
    /// When the database fails.
    pub fn revoke_token(&self, name: &Name, now: Timestamp) -> Result<bool, CatalogError> {
        let sql = "UPDATE token SET revoked = ?2 WHERE name = ?1 AND revoked IS NULL";
        let changed = self.database.write(|transaction| {
            transaction.execute(sql, params![name.as_str(), now.to_string()])
        })?;
        Ok(changed > 0)
    }

    /// Notes that a token was used now, if that was not noted within the last minute.
    ///
    /// # Errors
    /// When the database fails.
    pub fn note_token_used(&self, token: &Token, now: Timestamp) -> Result<(), CatalogError> {
        let is_noted = |used: Timestamp| now.duration_since(used).abs() < USE_NOTED_EVERY;
        if token.used.is_some_and(is_noted) {
            return Ok(());
        }
        let sql = "UPDATE token SET used = ?2 WHERE name = ?1";
        self.database.write(|transaction| {
            transaction.execute(sql, params![token.name.as_str(), now.to_string()])
        })?;
        Ok(())
    }

    fn stored_tokens(&self) -> Result<Vec<(Token, TokenHash)>, CatalogError> {
        type Row = (String, [u8; 32], String, Option<String>, Option<String>);
        let rows: Vec<Row> = self.database.read(|connection| {
            let sql = "SELECT name, hash, record, used, revoked FROM token ORDER BY name LIMIT ?1";
            let mut all = connection.prepare_cached(sql)?;
            let rows = all.query_map([TOKENS_MAX], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })?;
            rows.collect()
        })?;
        let damaged = |what: &str| CatalogError::Damaged {
            path: self.database.path().to_owned(),
            reason: format!("{what} of a token is not readable; revoke it and make a new one"),
        };
        rows.into_iter()
            .map(|(name, hash, record, used, revoked)| {
                let time = |text: Option<String>| {
                    text.map(|text| text.parse().map_err(|_| damaged("a time"))).transpose()
                };
                let token = Token {
                    name: name.parse().map_err(|_| damaged("the name"))?,
                    grant: serde_json::from_str(&record).map_err(|_| damaged("the record"))?,
                    used: time(used)?,
                    revoked: time(revoked)?,
                };
                Ok((token, TokenHash(hash)))
            })
            .collect()
    }
}

fn remove_same(transaction: &Transaction<'_>, old: &Token) -> rusqlite::Result<()> {
    let sql = "SELECT record FROM token WHERE name = ?1";
    let record: Option<String> =
        transaction.query_row(sql, [old.name.as_str()], |row| row.get(0)).optional()?;
    let is_same = record
        .and_then(|record| serde_json::from_str::<TokenGrant>(&record).ok())
        .is_some_and(|grant| grant == old.grant);
    if is_same {
        transaction.execute("DELETE FROM token WHERE name = ?1", [old.name.as_str()])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).unwrap()
    }

    fn grant(expires: Option<i64>) -> TokenGrant {
        let machines = Some(BTreeSet::from(["web01".parse().unwrap()]));
        let scopes = BTreeSet::from([Scope::Read, Scope::Backup]);
        TokenGrant { scopes, machines, created: at(0), expires: expires.map(at) }
    }

    fn added(history: &History, name: &str, grant: &TokenGrant) -> TokenSecret {
        match history.add_token(&name.parse().unwrap(), grant).unwrap() {
            Added::Token(secret) => secret,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_token_is_found_by_its_secret_until_it_ends_or_is_revoked() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let secret = added(&history, "ops", &grant(Some(100)));
        let other = added(&history, "other", &grant(None));
        let found = history.find_token(&secret).unwrap().unwrap();
        assert_eq!((found.name.as_str(), &found.grant), ("ops", &grant(Some(100))));
        assert!(found.is_valid(at(99)) && !found.is_valid(at(100)));
        assert!(found.may(Scope::Backup) && !found.may(Scope::Prune));
        assert!(history.find_token(&TokenSecret::random().unwrap()).unwrap().is_none());
        let name = "other".parse().unwrap();
        assert!(history.revoke_token(&name, at(5)).unwrap());
        assert!(!history.revoke_token(&name, at(6)).unwrap());
        let revoked = history.find_token(&other).unwrap().unwrap();
        assert!(!revoked.is_valid(at(1)), "whatever the clock says");
        assert_eq!(revoked.revoked, Some(at(5)));
    }

    #[test]
    fn a_name_is_free_again_when_its_token_counts_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let name: Name = "ops".parse().unwrap();
        let old = added(&history, "ops", &grant(None));
        assert!(matches!(history.add_token(&name, &grant(None)).unwrap(), Added::NameTaken));
        history.revoke_token(&name, at(1)).unwrap();
        let new = added(&history, "ops", &grant(None));
        assert!(history.find_token(&old).unwrap().is_none());
        assert!(history.find_token(&new).unwrap().unwrap().is_valid(at(2)));
        assert_eq!(history.tokens().unwrap().len(), 1);
    }

    #[test]
    fn uses_are_noted_once_a_minute_and_no_secret_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path()).unwrap();
        let secret = added(&history, "ops", &grant(None));
        for (second, noted) in [(10, 10), (69, 10), (70, 70), (5, 5)] {
            let token = history.find_token(&secret).unwrap().unwrap();
            history.note_token_used(&token, at(second)).unwrap();
            let token = history.find_token(&secret).unwrap().unwrap();
            assert_eq!(token.used, Some(at(noted)), "{second}");
        }
        drop(history);
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            let text = secret.reveal().as_bytes();
            assert!(!bytes.windows(text.len()).any(|window| window == text));
        }
    }
}
