//! Metrics in a file, for an exporter that reads it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot write the metrics to {}: {source}; make the folder, or name another file with \
     `metrics_file` in [daemon] or with `--to`",
    path.display()
)]
pub struct MetricsError {
    path: PathBuf,
    source: std::io::Error,
}

/// Writes the text to a file, in place of the one that is there: whoever reads meanwhile has the
/// old one or the new one, whole. Others may read it.
///
/// # Errors
/// When it cannot be written; then the old one is still there.
pub fn write_file(path: &Path, text: &str) -> Result<(), MetricsError> {
    // Readers of such a folder only take names that end with `.prom`. No two processes share it.
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        MetricsError { path: path.to_owned(), source }
    })
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    // One that stayed behind is replaced; a link that somebody put there is not followed.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o644).open(path)?;
    // Not durable: after a power cut it is written anew.
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("afterimage.prom");
        for text in ["one 1\n", "two 2\n"] {
            write_file(&path, text).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let error = write_file(&folder.path().join("no/such"), "x").unwrap_err().to_string();
        assert!(error.contains("`--to`"), "{error}");
    }
}
