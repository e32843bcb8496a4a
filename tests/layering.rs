//! Who may use whom: the order of the flow, held against every `crate::…` path of the library.

mod code;

use code::{SourceFile, read_all, words};

/// Nouns, left to right: each uses only those before it.
const NOUNS: [&str; 18] = [
    "units",
    "throttle",
    "progress",
    "workers",
    "sys",
    "fsio",
    "audit",
    "cron",
    "extent",
    "nbd",
    "qmp",
    "source",
    "chunk",
    "store",
    "point",
    "catalog",
    "capture",
    "destination",
];
/// Verbs join nouns, and do not use each other.
const VERBS: [&str; 7] = ["backup", "replay", "recover", "scrub", "retain", "transfer", "usage"];
/// Faces that only know nouns and, of these, those before.
const PLAIN_FACES: [&str; 3] = ["settings", "schedule", "report"];
/// Faces that know everything before them, in this order.
const TOP_FACES: [&str; 8] =
    ["operations", "notify", "metrics", "daemon", "api", "client", "demo", "cli"];
/// For tests: knows nouns, and only tests know it.
const TESTING: &str = "testing";

/// Whether `from` may use `to`; `None` when one of them has no place in the table.
fn may_use(from: &str, to: &str) -> Option<bool> {
    let known = |name: &str| {
        NOUNS.contains(&name)
            || VERBS.contains(&name)
            || PLAIN_FACES.contains(&name)
            || TOP_FACES.contains(&name)
            || name == TESTING
    };
    if !known(from) || !known(to) {
        return None;
    }
    let place = |list: &[&str], name: &str| list.iter().position(|it| *it == name);
    let is_noun = NOUNS.contains(&to);
    Some(match (place(&NOUNS, from), place(&TOP_FACES, from)) {
        _ if from == to => true,
        (Some(from), _) => place(&NOUNS, to).is_some_and(|to| to < from),
        (None, None) => match (place(&PLAIN_FACES, from), place(&PLAIN_FACES, to)) {
            (Some(from), Some(to)) => to < from,
            _ => is_noun,
        },
        (None, Some(from)) => to != TESTING && place(&TOP_FACES, to).is_none_or(|to| to < from),
    })
}

/// Modules just below the crate's root that `code` names, with the places.
fn used_modules(code: &str) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    for at in words(code, "crate") {
        let Some(rest) = code[at + "crate".len()..].trim_start().strip_prefix("::") else {
            continue;
        };
        let rest = rest.trim_start();
        match rest.strip_prefix('{') {
            Some(list) => used.extend(list_heads(list).into_iter().map(|name| (at, name))),
            None => used.extend(head(rest).map(|name| (at, name))),
        }
    }
    used
}

/// The first name of each path in `a::b, c::{d, e}, f}`.
fn list_heads(list: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0_u32;
    let mut begins = true;
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !c.is_whitespace() => {
                heads.extend(head(&list[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    heads
}

fn head(path: &str) -> Option<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let end = path.find(|c| !is_part(c)).unwrap_or(path.len());
    // A macro or an item of the root itself is no module.
    (end > 0 && !path[end..].starts_with('!')).then(|| path[..end].to_owned())
}

/// What breaks the table in one file.
fn violations(file: &SourceFile) -> Vec<String> {
    let Some(from) = file.module() else { return Vec::new() };
    let mut found = Vec::new();
    for (at, to) in used_modules(&file.code) {
        // A test within a noun may build on the parts for tests, but not on nouns to its right.
        let is_test = file.product_code.get(at..at + 5) != Some("crate");
        let allowed = match may_use(&from, &to) {
            Some(allowed) => allowed || (is_test && to == TESTING),
            None => {
                found.push(format!("{}: {from} or {to} is not in the table", file.place(at)));
                continue;
            }
        };
        if !allowed {
            found.push(format!("{}: {from} must not use {to}", file.place(at)));
        }
    }
    found
}

#[test]
fn modules_use_only_what_stands_before_them() {
    let files = read_all("src");
    let found: Vec<String> = files.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    let uses: usize = files.iter().map(|file| used_modules(&file.code).len()).sum();
    assert!(uses > 100, "only {uses} paths were found: the scanner is blind");
}

#[test]
fn every_module_stands_in_the_table() {
    for file in read_all("src") {
        if let Some(module) = file.module() {
            assert!(may_use(&module, "units").is_some(), "{module} is not in the table");
        }
    }
}

#[test]
fn the_table_is_in_the_order_of_the_library() {
    let files = read_all("src");
    let library = files.iter().find(|file| file.path.ends_with("lib.rs")).unwrap();
    let declared: Vec<&str> = library
        .code
        .lines()
        .filter_map(|line| {
            line.trim().trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';')
        })
        .collect();
    let nouns: Vec<&str> = declared.iter().copied().filter(|name| NOUNS.contains(name)).collect();
    assert_eq!(nouns, NOUNS);
    let verbs: Vec<&str> = declared.iter().copied().filter(|name| VERBS.contains(name)).collect();
    assert_eq!(verbs, VERBS);
}

fn check(path: &str, text: &str) -> Vec<String> {
    violations(&SourceFile::new(path.into(), text.to_owned()))
}

#[test]
fn the_check_finds_what_is_wrong() {
    let wrong = [
        ("src/units/x.rs", "use crate::store::Keys;"),
        ("src/store/x.rs", "use crate::{units::Name, point::{Leaf, Span}};"),
        ("src/replay/x.rs", "fn f() { let _ = crate::backup::backup; }"),
        ("src/settings/x.rs", "use crate::backup::BackupError;"),
        ("src/report.rs", "use crate :: operations :: run;"),
        ("src/operations/x.rs", "use crate::cli::Cli;"),
        ("src/cli/x.rs", "use crate::testing::CutFileSystem;"),
        ("src/backup/x.rs", "use crate::testing::CutFileSystem;"),
        ("src/newcomer/x.rs", "use crate::units::Name;"),
        ("src/units/x.rs", "#[cfg(test)]\nmod tests { use crate::store::Keys; }"),
        ("src/destination/x.rs", "const A: char = '\"'; use crate::replay::plan; // \""),
    ];
    for (path, text) in wrong {
        assert_eq!(check(path, text).len(), 1, "{path}: {text}");
    }
}

#[test]
fn the_check_leaves_alone_what_is_right() {
    let right = [
        ("src/store/x.rs", "use crate::{units::Name, fsio};"),
        ("src/store/x.rs", "// use crate::point::Leaf;\n/* crate::point */ fn f() {}"),
        ("src/store/x.rs", "const A: &str = r#\"use \"crate::point::Leaf\"#;"),
        ("src/store/x.rs", "pub(crate) fn f<'a>(x: &'a str) {} const C: char = '\\'';"),
        ("src/store/x.rs", "#[cfg(test)]\nmod tests { use crate::testing::CutFileSystem; }"),
        ("src/destination/tests.rs", "use crate::testing::CutFileSystem;"),
        ("src/testing/x.rs", "use crate::fsio::FileSystem;"),
        ("src/cli/x.rs", "use crate::{demo, operations, recover};"),
        ("src/main.rs", "fn main() {}"),
    ];
    for (path, text) in right {
        assert!(check(path, text).is_empty(), "{:?}", check(path, text));
    }
}
