//! All files of a folder, kept in memory to be laid out again and again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Content by path below the folder.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Reads everything below `folder`.
pub fn read_files(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let content = std::fs::read(&path).unwrap();
                files.insert(path.strip_prefix(folder).unwrap().to_owned(), content);
            }
        }
    }
    files
}

/// Writes them to another folder, with the folders that a repository must have.
pub fn write_files(files: &Files, folder: &Path) {
    for needed in ["repository/tmp", "repository/points", "repository/packs", "repository/keys"] {
        std::fs::create_dir_all(folder.join(needed)).unwrap();
    }
    for (path, content) in files {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}
