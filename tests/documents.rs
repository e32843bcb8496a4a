//! What the documents say can be tried: the settings in them are valid, the links in them lead
//! somewhere.

use afterimage::settings::Settings;
use std::path::{Path, PathBuf};

fn documents() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in [root.to_owned(), root.join("docs"), root.join("fixtures")] {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        paths.extend(entries.filter(|path| path.extension().is_some_and(|found| found == "md")));
    }
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The code blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begin = format!("```{language}\n");
    let after = text.split(begin.as_str()).skip(1);
    after.map(|rest| rest.split("```").next().unwrap_or(rest)).collect()
}

#[test]
fn settings_in_the_documents_are_valid() {
    let mut seen = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "toml") {
            let settings = Settings::parse(block, Path::new("/etc/afterimage/afterimage.toml"));
            let settings = settings.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert!(settings.notices.is_empty(), "{:?}", settings.notices);
            seen += 1;
        }
    }
    assert!(seen > 0, "no document shows settings");
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut seen = 0;
    for (path, text) in documents() {
        for rest in text.split("](").skip(1) {
            let link = rest.split(')').next().unwrap_or(rest);
            if link.starts_with("https://") {
                continue;
            }
            let to = path.parent().unwrap().join(link);
            assert!(to.exists(), "{}: {link}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} links were found");
}
