//! Reads `[repository.NAME]`.

use std::path::PathBuf;

use super::daemon::PARALLEL_MAX;
use super::findings::{Findings, quoted};
use super::named::Context;
use super::reader::{Field, Located, TableReader};
use super::types::{EncryptionSettings, RepositorySettings};
use super::upkeep::{self, UpkeepDraft};
use super::{COMPRESSION_LEVELS, values};
use crate::units::Name;

/// zstd's own default is 3; 1 costs a few percent of space and stores twice as fast.
const COMPRESSION_LEVEL_DEFAULT: i32 = 1;

/// Above this, a collection would write most packs anew again and again.
const GC_FILL_PERCENT: std::ops::RangeInclusive<u8> = 0..=95;
const GC_FILL_PERCENT_DEFAULT: u8 = 75;

const ENCRYPTION_HINT: &str = "write encryption = { passphrase_file = \"…\" }, or \
                               { key_file = \"…\" }, or \"none\" to store everything readable";

/// A repository as far as it could be read.
#[derive(Debug)]
pub(super) struct RepositoryDraft {
    pub(super) name: Located<Name>,
    pub(super) path: Option<Located<PathBuf>>,
    /// The key or pass phrase file.
    pub(super) secret: Option<Located<PathBuf>>,
    pub(super) upkeep: UpkeepDraft,
    /// `None` when something is wrong.
    pub(super) settings: Option<RepositorySettings>,
}

pub(super) fn read(
    name: Located<Name>,
    mut reader: TableReader<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> RepositoryDraft {
    let path = reader
        .required("url", "name a directory, such as url = \"/srv/afterimage\"")
        .and_then(|field| directory(&field, context, findings));
    let encryption = reader
        .required("encryption", ENCRYPTION_HINT)
        .and_then(|field| encryption(&field, context, findings));
    let chunk_bytes =
        reader.field("chunk_size").and_then(|field| values::chunk_bytes(&field, findings));
    let compression_level = match reader.field("compression_level") {
        Some(field) => field.whole_number(COMPRESSION_LEVELS, findings),
        None => Some(COMPRESSION_LEVEL_DEFAULT),
    };
    let gc_fill_percent = match reader.field("gc_fill_percent") {
        Some(field) => field.whole_number(GC_FILL_PERCENT, findings),
        None => Some(GC_FILL_PERCENT_DEFAULT),
    };
    let runs = reader.field("runs");
    let runs = runs.and_then(|field| field.whole_number(1..=PARALLEL_MAX, findings));
    let upkeep = upkeep::read(&mut reader, context, findings);
    reader.finish(findings);

    let secret = encryption.as_ref().and_then(|found| found.secret.clone());
    let settings = match (&path, encryption, compression_level, gc_fill_percent) {
        (Some(path), Some(encryption), Some(compression_level), Some(gc_fill_percent)) => {
            Some(RepositorySettings {
                name: name.value.clone(),
                path: path.value.clone(),
                encryption: encryption.settings,
                chunk_bytes,
                compression_level,
                gc_fill_percent,
                runs,
                upkeep: upkeep.settings(),
            })
        }
        _ => None,
    };
    RepositoryDraft { name, path, secret, upkeep, settings }
}

fn directory(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<Located<PathBuf>> {
    if let Some(scheme) = field.as_str().and_then(url_scheme) {
        let message = values::unsupported(&format!("a repository at {}", quoted(scheme)));
        let hint = "a repository can be a directory: url = \"/srv/afterimage\"";
        findings.wrong_hint(&field.at, message, hint);
        return None;
    }
    values::path(field, context.folder, findings)
}

/// The beginning of a URL, up to and with `://`.
fn url_scheme(text: &str) -> Option<&str> {
    let end = text.find("://")?;
    let scheme = &text[..end];
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
    let is_scheme =
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(allowed);
    is_scheme.then_some(&text[..end + "://".len()])
}

struct Encryption {
    settings: EncryptionSettings,
    secret: Option<Located<PathBuf>>,
}

fn encryption(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<Encryption> {
    match field.as_str() {
        Some("none") => {
            return Some(Encryption { settings: EncryptionSettings::None, secret: None });
        }
        Some(other) => {
            let message = format!("{} is not a way to encrypt", quoted(other));
            findings.wrong_hint(&field.at, message, ENCRYPTION_HINT);
            return None;
        }
        None => {}
    }
    let example = "encryption = { key_file = \"/etc/afterimage/main.key\" }, or \"none\"";
    let mut reader = field.table("`encryption`".to_owned(), example, findings)?;
    let key_file = reader.field("key_file");
    let passphrase_file = reader.field("passphrase_file");
    let chosen = match (key_file, passphrase_file) {
        (Some(_), Some(second)) => {
            let message = "`encryption` has both a key file and a pass phrase file";
            findings.wrong_hint(&second.key_at, message, "leave out one of the two");
            None
        }
        (Some(file), None) => values::path(&file, context.folder, findings)
            .map(|secret| (EncryptionSettings::KeyFile(secret.value.clone()), secret)),
        (None, Some(file)) => values::path(&file, context.folder, findings)
            .map(|secret| (EncryptionSettings::PassphraseFile(secret.value.clone()), secret)),
        (None, None) => {
            if reader.entries().is_empty() {
                findings.wrong_hint(&field.at, "`encryption` is empty", ENCRYPTION_HINT);
            }
            None
        }
    };
    reader.finish(findings);
    chosen.map(|(settings, secret)| Encryption { settings, secret: Some(secret) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        assert_eq!(url_scheme("s3://bucket/prefix"), Some("s3://"));
        assert_eq!(url_scheme("HTTPS://site:9443/name"), Some("HTTPS://"));
        for path in ["/srv/a://b", "srv", "", "://x", "ä://b", "1a://b"] {
            assert_eq!(url_scheme(path), None, "{path}");
        }
    }
}
