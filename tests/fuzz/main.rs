//! Every parser that meets bytes from outside, with inputs that were changed: see `targets`.
//!
//! `AFTERIMAGE_FUZZ_CASES` says how many changed inputs each target gets, `AFTERIMAGE_FUZZ_SEED`
//! with which seed they are made. An input that fails is kept in a file, which is named.

mod mutate;
mod seeds;
mod targets;

use afterimage::testing::Random;
use mutate::Mutator;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use targets::{TARGETS, Target};

/// What takes longer than this hangs, on a machine that does other things too.
const CASE_TIME_MAX: Duration = Duration::from_secs(20);

fn number_from(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/corpus").join(target)
}

/// The corpus of a target, by the names of its files.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = corpus_folder(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| {
        panic!("{}: {error}", folder.display());
    });
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Gives one input to a target; keeps it in a file when that fails.
fn try_input(target: &Target, bytes: &[u8], origin: &str) -> bool {
    let began = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| target.check(bytes)));
    let took = began.elapsed();
    if let Ok(accepted) = outcome
        && took <= CASE_TIME_MAX
    {
        return accepted;
    }
    let name = format!("afterimage-fuzz-{}-{}", target.name, std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    panic!(
        "target {} fails with {} ({origin}), after {took:?}; `cargo fuzz run --sanitizer none {} \
         {}` repeats it",
        target.name,
        path.display(),
        target.name,
        path.display()
    );
}

/// The corpus as it is, then changed.
fn fuzz(name: &str) {
    let target = targets::find(name).unwrap();
    let corpus = corpus(name);
    let seed = number_from("AFTERIMAGE_FUZZ_SEED").unwrap_or(20_261_127);
    let cases = number_from("AFTERIMAGE_FUZZ_CASES").unwrap_or(u64::from(target.cases));
    println!("target {name}: seed {seed}, {cases} cases");
    let mut accepted = 0;
    for (path, bytes) in &corpus {
        let is_accepted = try_input(target, bytes, &path.display().to_string());
        // What the encoders wrote must be read; what a fuzzer found may be anything.
        let is_seed = path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("seed-"));
        assert!(is_accepted || !is_seed, "{} is not accepted", path.display());
        accepted += u64::from(is_accepted);
    }
    assert!(accepted > 0, "nothing of the corpus is accepted");
    let inputs: Vec<&[u8]> = corpus.iter().map(|(_, bytes)| bytes.as_slice()).collect();
    let mut mutator = Mutator::new(Random::new(seed), target.input_bytes_max);
    let mut changed_accepted = 0_u64;
    for case in 0..cases {
        let input = mutator.next(&inputs);
        let origin = format!("seed {seed}, case {case}");
        changed_accepted += u64::from(try_input(target, &input, &origin));
    }
    println!("target {name}: {changed_accepted} of {cases} changed inputs were accepted");
}

/// One test for each target, so that they run beside each other.
macro_rules! tests {
    ($($test:ident => $target:literal,)*) => {
        $(
            #[test]
            fn $test() {
                fuzz($target);
            }
        )*

        const TESTED: &[&str] = &[$($target),*];
    };
}

tests! {
    an_audit_log_that_was_changed_is_never_in_order => "audit",
    a_damaged_catalog_is_an_error_and_never_believed => "catalog",
    a_hostile_list_of_changes_stays_within_the_disk => "changed-list",
    what_a_command_prints_about_changes_stays_within_the_disk => "changed-output",
    a_hostile_list_of_condemned_packs_is_refused => "condemned",
    what_answers_in_place_of_a_daemon_is_read_in_one_way_or_refused => "daemon-answer",
    what_libvirt_says_of_a_domain_is_read_or_refused => "domain",
    a_hostile_header_is_refused => "header",
    a_damaged_history_is_an_error => "history",
    a_hostile_pin_or_lock_is_refused => "hold",
    a_hostile_journal_is_refused => "journal",
    a_hostile_journal_with_the_right_digest_stays_in_its_bounds => "journal-repaired",
    a_hostile_export_of_keys_puts_nothing_back_that_does_not_open => "key-export",
    a_hostile_leaf_is_refused => "leaf",
    an_index_that_lies_about_places_does_no_harm => "location",
    the_note_of_a_lock_is_only_a_note => "lock-note",
    a_hostile_manifest_is_refused => "manifest",
    names_that_could_leave_their_folder_are_refused => "names",
    a_hostile_nbd_server_is_believed_nothing => "nbd-client",
    a_hostile_nbd_client_stays_within_the_disk => "nbd-server",
    a_hostile_node_is_refused => "node",
    bytes_that_are_no_object_do_not_decode => "object",
    a_hostile_pack_is_refused => "pack",
    a_hostile_pack_with_the_right_checksum_stays_in_its_bounds => "pack-repaired",
    a_hostile_sealed_pack_is_refused => "pack-sealed",
    what_names_no_point_is_refused => "point-choice",
    a_file_of_unknown_format_is_never_taken_for_two => "probe",
    a_hostile_qcow2_image_never_reads_as_false_zeros => "qcow2",
    a_hostile_chain_of_images_never_reads_as_false_zeros => "qcow2-chain",
    lines_of_a_hostile_monitor_or_agent_are_bounded => "qmp",
    a_mistyped_recovery_key_is_refused => "recovery-key",
    a_hostile_record_of_removed_points_is_refused => "removal",
    a_schedule_that_never_comes_is_refused => "schedule",
    hostile_settings_are_refused_with_every_reason => "settings",
    a_hostile_key_slot_does_not_open => "slot",
    a_hostile_index_of_key_slots_is_told => "slot-index",
    a_hostile_superblock_is_refused => "superblock",
    a_hostile_superblock_with_the_right_checksum_keeps_its_invariants => "superblock-repaired",
    what_is_no_token_is_refused => "token",
    a_hostile_tree_is_refused_or_read_in_order => "tree",
}

#[test]
fn every_target_is_tested_and_has_a_corpus_and_a_fuzzer() {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names, TESTED);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap();
    for name in names {
        assert!(corpus_folder(name).is_dir(), "{name} has no corpus");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/ has no {name}");
        assert!(root.join(format!("fuzz/targets/{name}.rs")).is_file(), "fuzz/ has no {name}.rs");
    }
}

/// Writes what `seeds` makes to the corpus, on request.
#[test]
fn seeds_are_written_on_request() {
    if std::env::var_os("AFTERIMAGE_WRITE_CORPUS").is_none() {
        return;
    }
    for (target, seeds) in seeds::all() {
        let folder = corpus_folder(target);
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in seeds {
            std::fs::write(folder.join(format!("seed-{name}")), bytes).unwrap();
        }
    }
}
