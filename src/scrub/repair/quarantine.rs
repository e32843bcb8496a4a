//! Moving damaged files out of the way. None is ever deleted.

use super::super::VerifyError;
use super::super::finding::Finding;
use crate::fsio::parent_dir;
use crate::store::{Repository, WriterSession};

/// Names that are tried when one is taken.
const TRIES: u32 = 1000;

/// What is written beside a file that was set apart.
#[derive(serde::Serialize)]
struct Note<'a> {
    /// Where it was, below the repository's folder.
    file: &'a str,
    reason: &'a str,
    time: jiff::Timestamp,
}

/// Moves the file of a finding to `quarantine/`, with a note of what is wrong with it; `false`
/// when it is no longer there.
pub(super) fn set_apart(
    repository: &Repository,
    session: &WriterSession,
    finding: &Finding,
) -> Result<bool, VerifyError> {
    let (fs, layout) = (repository.file_system(), repository.layout());
    let from = layout.root().join(&finding.file);
    if fs.stat(&from)?.is_none() {
        return Ok(false);
    }
    let folder = layout.quarantine();
    fs.create_dir_all(&folder)?;
    // Packs and manifests keep their own names, others tell where they were.
    let last = finding.file.rsplit('/').next().unwrap_or(&finding.file);
    let name = if last.len() == 64 { last.to_owned() } else { finding.file.replace('/', "_") };
    for number in 0..TRIES {
        let name = if number == 0 { name.clone() } else { format!("{name}.{number}") };
        let to = folder.join(&name);
        if fs.stat(&to)?.is_some() {
            continue;
        }
        let (file, reason) = (finding.file.as_str(), finding.reason.as_str());
        let note = Note { file, reason, time: jiff::Timestamp::now() };
        let text = serde_json::to_vec_pretty(&note).unwrap_or_default();
        let written = session.create()?;
        written.handle().write_all_at(&text, 0)?;
        // One that was left by a repair that was cut short says the same.
        written.publish_replacing(&folder.join(format!("{name}.json")))?;
        match fs.rename_no_replace(&from, &to) {
            Err(error) if error.already_exists() => continue,
            renamed => renamed?,
        }
        fs.sync_dir(&folder)?;
        fs.sync_dir(&parent_dir(&from))?;
        return Ok(true);
    }
    Ok(false)
}
