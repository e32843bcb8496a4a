//! Habits that a compiler does not hold: short files, `unsafe` in one place, no panics on purpose.

mod code;

use code::{SourceFile, read_all, words};

/// Longest source file, in lines.
const LINES_MAX: usize = 450;
/// Never left behind, in tests neither.
const LEFT_BEHIND: [&str; 4] = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
/// Panics that product code must not have.
const PANICS: [&str; 2] = [".unwrap()", ".expect("];

fn violations(file: &SourceFile) -> Vec<String> {
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > LINES_MAX {
        found.push(format!("{} has {lines} lines, more than {LINES_MAX}", file.path.display()));
    }
    if !file.path.ends_with("src/sys.rs") {
        let unsafe_places = words(&file.code, "unsafe");
        found.extend(unsafe_places.iter().map(|at| format!("{}: `unsafe`", file.place(*at))));
    }
    let mut report = |code: &str, marks: &[&str]| {
        for mark in marks {
            for (at, _) in code.match_indices(mark) {
                found.push(format!("{}: `{mark}`", file.place(at)));
            }
        }
    };
    report(&file.code, &LEFT_BEHIND);
    report(&file.product_code, &PANICS);
    found
}

#[test]
fn the_sources_keep_the_habits() {
    let folders = ["src", "tests", "benches"];
    let files: Vec<SourceFile> = folders.into_iter().flat_map(read_all).collect();
    let found: Vec<String> = files.iter().flat_map(violations).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_check_finds_what_is_wrong() {
    let check =
        |path: &str, text: &str| violations(&SourceFile::new(path.into(), text.to_owned())).len();
    let unwrap = "fn f() { a().unwrap() }";
    for text in [
        unwrap,
        "fn f() { a().expect(\"b\") }",
        "fn f() { todo!() }",
        "unsafe fn f() {}",
        "#[cfg(test)]\nmod tests { #[ignore = \"slow\"] fn f() {} }",
        "#[cfg(test)]\nmod tests { fn f() {} }\nfn g() { a().unwrap() }",
        &"\n".repeat(LINES_MAX + 1),
    ] {
        assert_eq!(check("src/store/x.rs", text), 1, "{text}");
    }
    for (path, text) in [
        ("src/sys.rs", "unsafe { f() }"),
        ("src/store/x.rs", "// .unwrap() unsafe todo!\nfn f() { a().unwrap_or(1); }"),
        ("src/store/x.rs", "#[cfg(test)]\nmod tests { fn f() { a().unwrap() } }"),
        ("src/store/x.rs", "const A: &str = \"dbg!(1)\"; // dbg!"),
        ("src/store/tests/x.rs", unwrap),
        ("tests/x.rs", unwrap),
        ("src/store/x.rs", &"\n".repeat(LINES_MAX)),
    ] {
        assert_eq!(check(path, text), 0, "{path}: {text}");
    }
}
