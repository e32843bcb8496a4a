//! Every file in `config/` is read without an error, and every file in `config/invalid/` gives
//! exactly the text that stands beside it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use afterimage::settings::{
    EncryptionSettings, PlaceKind, Settings, SettingsError, TIMEZONE_LOCAL, Trigger,
};
use proptest::prelude::*;

/// Set it to write the expected texts anew; then read every difference.
const UPDATE: &str = "AFTERIMAGE_UPDATE_EXPECTED";

/// The files in `folder` with this ending, sorted.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    files
}

fn samples() -> Vec<(PathBuf, String)> {
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).expect("a sample is text");
        (path, text)
    };
    files("config", "toml").into_iter().map(read).collect()
}

#[test]
fn every_sample_is_valid() {
    let samples = files("config", "toml");
    assert!(samples.len() >= 5, "{samples:?}");
    for sample in samples {
        if let Err(error) = Settings::load(&sample) {
            panic!("{}:\n{error}", sample.display());
        }
    }
}

#[test]
fn every_invalid_file_is_refused_with_the_expected_text() {
    let mut differences = Vec::new();
    for path in files("config/invalid", "toml") {
        let error = match Settings::load(&path) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(error) => format!("{error}\n"),
        };
        // The texts outlive a release.
        let version = format!("afterimage ({})", env!("CARGO_PKG_VERSION"));
        let found = error.replace(&version, "afterimage (VERSION)");
        let expected_path = path.with_extension("expected");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&expected_path, &found).expect("the expected text is written");
        }
        let expected = std::fs::read_to_string(&expected_path).unwrap_or_default();
        if found != expected {
            differences
                .push(format!("{}\n--- expected\n{expected}--- found\n{found}", path.display()));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_invalid_file_has_an_expected_text_and_the_other_way_round() {
    let stems = |ending| -> BTreeSet<PathBuf> {
        files("config/invalid", ending).iter().map(|path| path.with_extension("")).collect()
    };
    assert_eq!(stems("toml"), stems("expected"));
    assert!(stems("toml").len() >= 25);
}

#[test]
fn the_full_sample_says_what_it_means() {
    let settings = Settings::load(Path::new("config/afterimage.toml")).expect("valid");
    assert!(settings.file.is_absolute());
    let main = &settings.repositories[&"main".parse().expect("a name")];
    assert_eq!(main.path, Path::new("/srv/afterimage"));
    assert_eq!(main.encryption, EncryptionSettings::KeyFile("/etc/afterimage/main.key".into()));
    assert_eq!((main.chunk_bytes, main.compression_level), (Some(16 * 1024), 1));

    let web01 = &settings.machines[&"web01".parse().expect("a name")];
    assert_eq!(web01.schedule.as_ref().map(|one| one.timezone.as_str()), Some("Europe/Berlin"));
    let keep = web01.keep.as_ref().expect("rules");
    assert_eq!((keep.last, keep.monthly, keep.yearly), (3, 12, 2));
    assert_eq!(keep.within, Some(Duration::from_secs(2 * 86_400)));
    assert_eq!(web01.timezone, "Europe/Berlin");
    assert_eq!((web01.lock_days, web01.prune_max_percent), (7, 50));
    assert_eq!(web01.definition.len(), 2);
    assert!(web01.disks[0].source.file().is_some_and(|file| file.quiesced));

    let standby = &settings.replicas[&"web01-standby".parse().expect("a name")];
    assert_eq!(standby.trigger, Trigger::AfterBackup);
    assert_eq!(standby.disks[0].target_kind, PlaceKind::Image);
}

#[test]
fn no_report_shows_a_secret() {
    let mut seen = 0;
    for path in files("config/invalid", "toml") {
        let text = std::fs::read(&path).expect("read");
        if !String::from_utf8_lossy(&text).contains("should-not-be-shown") {
            continue;
        }
        let error = Settings::load(&path).expect_err("invalid");
        let json = match &error {
            SettingsError::Invalid(errors) => serde_json::to_string(errors).expect("json"),
            other => panic!("{other}"),
        };
        assert!(!format!("{error} {error:?} {json}").contains("should-not"), "{error}");
        seen += 1;
    }
    assert!(seen >= 3, "only {seen} files hold secrets");
}

#[test]
fn relative_paths_start_from_the_folder_of_the_file() {
    let text = "state_dir = 'state'\n[repository.r]\nurl = '../backups'\nencryption = 'none'\n";
    let settings = Settings::parse(text, Path::new("/etc/afterimage/x.toml")).expect("valid");
    assert_eq!(settings.state_dir, Path::new("/etc/afterimage/state"));
    let paths: Vec<_> = settings.repositories.values().map(|one| one.path.clone()).collect();
    assert_eq!(paths, [Path::new("/etc/afterimage/../backups")]);
}

#[test]
fn zones_are_inherited_and_canonical() {
    let sample = std::fs::read_to_string("config/minimal.toml").expect("a sample");
    let parse = |text: &str| Settings::parse(text, Path::new("/x.toml")).expect("valid");
    let zone = |settings: Settings| {
        let machine = settings.machines.into_values().next().expect("a machine");
        machine.schedule.expect("a schedule").timezone
    };
    let scheduled =
        sample.replace("repository = \"main\"", "repository = \"main\"\nschedule = '@daily'");
    assert_eq!(zone(parse(&scheduled)), TIMEZONE_LOCAL);
    assert_eq!(zone(parse(&format!("timezone = 'europe/paris'\n{scheduled}"))), "Europe/Paris");
}

#[test]
fn a_file_that_is_not_there_or_too_long_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("none.toml");
    let error = Settings::load(&path).expect_err("nothing is there");
    assert!(matches!(error, SettingsError::Missing { .. }), "{error:?}");
    let text = error.to_string();
    for part in ["none.toml", "-c FILE", "AFTERIMAGE_CONFIG", "config/afterimage.toml"] {
        assert!(text.contains(part), "{text}");
    }
    let error = Settings::load(folder.path()).expect_err("a folder is no file");
    assert!(matches!(error, SettingsError::Unreadable(_)), "{error:?}");
    std::fs::write(&path, vec![b'#'; (4 << 20) + 1]).expect("written");
    let error = Settings::load(&path).expect_err("it is too long");
    assert!(matches!(error, SettingsError::TooLong { .. }), "{error:?}");
}

#[test]
fn endless_mistakes_make_a_short_report() {
    let text: String = (0..50_000).map(|number| format!("k{number} = 1\n")).collect();
    let errors = Settings::parse(&text, Path::new("/x.toml")).expect_err("unknown keys");
    assert!(errors.problems.len() <= 200);
    // One for each key, and one for the repository that is not there.
    assert_eq!(errors.problems.len() + errors.left_out, 50_001);
    assert!(errors.to_string().ends_with("50001 problems in /x.toml; 200 of them are shown"));
}

#[test]
fn the_report_is_json_too() {
    let errors = Settings::parse("a = 1\n", Path::new("/x.toml")).expect_err("an unknown key");
    let json = serde_json::to_value(&errors).expect("json");
    assert_eq!(json["file"], "/x.toml");
    assert_eq!(json["problems"][0]["line"], 1);
    assert_eq!(json["problems"][0]["excerpt"], "a = 1\n^");
}

/// Whatever the text is, there are settings or a report; the report is sorted and harmless.
fn check_any_text(text: &str) -> Result<(), TestCaseError> {
    if let Err(errors) = Settings::parse(text, Path::new("/etc/afterimage/x.toml")) {
        prop_assert!(!errors.problems.is_empty());
        prop_assert!(errors.problems.is_sorted_by_key(|one| (one.line, one.column)));
        let control = errors.to_string().chars().find(|c| c.is_control() && *c != '\n');
        prop_assert_eq!(control, None);
    }
    Ok(())
}

/// Pieces that matter to the parser.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec![
            "\"",
            "'",
            "\"\"\"",
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ",",
            ".",
            "\n",
            "\r\n",
            "#",
            "\\",
            "\u{0}",
            "\u{1b}",
            "\u{feff}",
            "ü",
            "\u{202e}",
            "1",
            "-1",
            "1e999",
            "true",
            "[machine.web01]\n",
            "[notify.mail.a]\n",
            "allowed = \"22:00-06:00\"\n",
            "schedule = '* * * * *'\n",
            "disk",
            "name",
            "\"../x\"",
            "= 99999999999999999999\n",
        ])
        .prop_map(str::to_owned),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        check_any_text(&text)?;
    }

    #[test]
    fn no_mixture_of_pieces_makes_it_panic(pieces in prop::collection::vec(piece(), 0..30)) {
        check_any_text(&pieces.concat())?;
    }

    #[test]
    fn no_change_of_a_sample_makes_it_panic(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..30, piece()),
            1..5,
        ),
    ) {
        let samples = samples();
        let mut text = which.get(&samples).1.clone();
        for (at, removed, added) in changes {
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary(start + removed).max(start);
            text.replace_range(start..end, &added);
        }
        check_any_text(&text)?;
    }
}
