//! The settings file: read whole, checked whole, and reported on whole.
//!
//! The text becomes a TOML tree with positions (`syntax`), each part of the tree becomes a
//! draft (`repository`, `machine`, `replica`, by way of `reader` and `values`), and
//! the drafts are checked against each other (`crosscheck`). Each step adds to the same
//! `findings` and goes on, so that the user sees every mistake at once. Only when there is
//! none do the drafts become [`Settings`].

mod api;
mod crosscheck;
mod daemon;
mod findings;
mod limits;
mod machine;
mod mail;
mod named;
mod notices;
mod notify;
mod page;
mod problem;
mod reader;
mod replica;
mod repository;
mod slots;
mod source;
mod syntax;
mod times;
mod timing;
mod types;
mod upkeep;
mod values;
mod webhook;

pub use api::{ApiSettings, ApiTlsSettings};
pub use daemon::{
    DaemonSettings, HISTORY_DAYS_DEFAULT, IoPriority, LogTarget, RUNS_DEFAULT, SOCKET_NAME,
};
pub use limits::LimitSettings;
pub use notify::{
    MailSecurity, MailSettings, NotifyKind, NotifySettings, ReportSettings, WebhookSettings,
    WebhookUrl,
};
pub use problem::{Problem, SettingsError, SettingsErrors};
pub use timing::{MissedPolicy, RetrySettings, TimingSettings};
pub use types::{
    DiskSettings, EncryptionSettings, FileSettings, HookSettings, LibvirtSettings, MachineSettings,
    NbdSettings, PlaceKind, QemuSettings, ReplicaDiskSettings, ReplicaMode, ReplicaSettings,
    RepositorySettings, Schedule, Settings, SnapshotSettings, SourceSettings, TlsSettings, Trigger,
    UpkeepSettings,
};

use sha2::Digest;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

pub(crate) use reader::nearest;

use crosscheck::Drafts;
use findings::Findings;
use named::Context;
use page::{NOWHERE, Page};
use reader::{Located, TableReader};

use crate::fsio::{FileError, parent_dir};
use crate::units::{KIB, MIB, SettingsDigest};

/// Longest settings file, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 * MIB;
/// Folder for local state when the file names none.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/afterimage";
/// The time zone that is the host's own.
pub const TIMEZONE_LOCAL: &str = "local";
/// Smallest average size of a chunk, in bytes.
pub const CHUNK_BYTES_MIN: u64 = 4 * KIB;
/// Largest average size of a chunk, in bytes.
pub const CHUNK_BYTES_MAX: u64 = MIB;
/// The levels of zstd that can be chosen.
pub const COMPRESSION_LEVELS: RangeInclusive<i32> = -7..=19;
/// The longest time that points can be locked, in days.
pub const LOCK_DAYS_MAX: u32 = 36_500;
/// The most that one prune may remove without `--yes`, in percent of a machine's points, when the
/// settings say nothing.
pub const PRUNE_MAX_PERCENT_DEFAULT: u8 = 50;
/// Most files that may travel in a point as a machine's definition.
pub const DEFINITION_FILES_MAX: usize = 16;

impl Settings {
    /// Reads and checks a settings file.
    ///
    /// # Errors
    /// When the file is not there, cannot be read, is too long or is not text; and
    /// [`SettingsError::Invalid`] with everything that is wrong in it.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let bytes = read_capped(path)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(Self::parse(text, path)?),
            Err(error) => {
                let before = &bytes[..error.valid_up_to()];
                Err(SettingsError::NotText {
                    file: path.to_owned(),
                    line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
                    byte: bytes.get(before.len()).copied().unwrap_or_default(),
                })
            }
        }
    }

    /// Checks the text of a settings file. `file` is where the text is from: relative paths
    /// are relative to its folder. The disk is not looked at.
    ///
    /// # Errors
    /// With everything that is wrong in the text.
    pub fn parse(text: &str, file: &Path) -> Result<Self, SettingsErrors> {
        // Only an empty path, or a working folder that is gone, have no absolute form.
        let absolute = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let folder = parent_dir(&absolute);
        let page = Page::new(text);
        let mut findings = Findings::new(&page);
        let table = syntax::read(text, &mut findings);
        let root = TableReader::new("this file".to_owned(), 0..0, &table);
        let drafts = read_drafts(root, &folder, &mut findings);
        crosscheck::check(&drafts, &mut findings);

        if findings.is_empty() {
            let notices = notices::collect(&drafts, &page);
            if let Some(settings) = finish(drafts, absolute, digest(text), notices) {
                return Ok(settings);
            }
            // No draft is unusable without a finding; if one is, that must not pass for success.
            findings.wrong(&NOWHERE, "a part of this file was not understood");
        }
        let incomplete = findings.is_incomplete();
        let (problems, left_out) = findings.into_problems();
        Err(SettingsErrors { file: file.to_owned(), problems, left_out, incomplete })
    }
}

fn digest(text: &str) -> SettingsDigest {
    SettingsDigest(sha2::Sha256::digest(text.as_bytes()).into())
}

fn read_capped(path: &Path) -> Result<Vec<u8>, SettingsError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::NotFound => SettingsError::Missing { file: path.to_owned() },
        _ => SettingsError::Unreadable(FileError::new("read", path, source)),
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 <= FILE_BYTES_MAX {
        Ok(bytes)
    } else {
        Err(SettingsError::TooLong { file: path.to_owned() })
    }
}

fn read_drafts(mut root: TableReader<'_>, folder: &Path, findings: &mut Findings<'_>) -> Drafts {
    let state_dir = match root.field("state_dir") {
        Some(field) => values::path(&field, folder, findings),
        None => Some(Located { value: PathBuf::from(STATE_DIR_DEFAULT), at: NOWHERE }),
    };
    let timezone = root
        .field("timezone")
        .and_then(|field| values::timezone(&field, findings))
        .unwrap_or_else(|| TIMEZONE_LOCAL.to_owned());
    let daemon = daemon::read(&mut root, state_dir.as_ref(), folder, findings);
    let (missed, retry) = (daemon.settings.missed, daemon.settings.retry);
    let context = Context { folder, timezone, missed, retry };
    let limits = limits::read(&mut root, &context.timezone, findings);
    let api = api::read(&mut root, folder, findings);
    let notify = notify::read(&mut root, &context, findings);

    let repositories = named::tables(&mut root, "repository", findings);
    let machines = named::tables(&mut root, "machine", findings);
    let replicas = named::tables(&mut root, "replica", findings);
    if root.has_unknown_table() {
        // Under a misspelt name, it may hold what seems to be missing.
        findings.set_incomplete();
    }
    if root.has("repository").is_none() {
        let hint = "begin one with [repository.main]; config/afterimage.toml is a sample";
        findings.absent(&NOWHERE, "this file has no repository", hint);
    }
    root.finish(findings);

    Drafts {
        state_dir,
        daemon,
        limits,
        api,
        notify,
        repositories: repositories
            .into_iter()
            .map(|(name, reader)| repository::read(name, reader, &context, findings))
            .collect(),
        machines: machines
            .into_iter()
            .map(|(name, reader)| machine::read(name, reader, &context, findings))
            .collect(),
        replicas: replicas
            .into_iter()
            .map(|(name, reader)| replica::read(name, reader, &context, findings))
            .collect(),
    }
}

/// The settings; `None` when a draft is not usable.
fn finish(
    drafts: Drafts,
    file: PathBuf,
    fingerprint: SettingsDigest,
    notices: Vec<Problem>,
) -> Option<Settings> {
    let repositories = drafts.repositories.into_iter().map(|draft| {
        let settings = draft.settings?;
        Some((settings.name.clone(), settings))
    });
    let machines = drafts.machines.into_iter().map(|draft| {
        let settings = draft.into_settings()?;
        Some((settings.name.clone(), settings))
    });
    let replicas = drafts.replicas.into_iter().map(|draft| {
        let settings = draft.into_settings()?;
        Some((settings.name.clone(), settings))
    });
    Some(Settings {
        file,
        fingerprint,
        daemon: drafts.daemon.settings,
        limits: drafts.limits,
        api: match drafts.api {
            Some(draft) => Some(draft.settings?),
            None => None,
        },
        notify: drafts.notify.into_settings()?,
        state_dir: drafts.state_dir?.value,
        repositories: repositories.collect::<Option<_>>()?,
        machines: machines.collect::<Option<_>>()?,
        replicas: replicas.collect::<Option<_>>()?,
        notices,
    })
}
