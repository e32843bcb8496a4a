//! Defects that two accidents in a row brought to light: what an interrupted process had left in
//! memory, another one took for durable. Each is shown to be mended, and with the mend taken out to
//! be found again by the same seeds.

use crate::twice::{Effort, PAIRS, twice};
use afterimage::units::{Breakage, break_here};

/// Nothing is found with any of these seeds, and with the defect something is.
fn is_mended(pair: &str, defect: Breakage, seeds: std::ops::Range<u64>) {
    let pair = PAIRS.iter().find(|it| it.case.name == pair).unwrap();
    let effort = Effort { pairs: 100, states: 8 };
    let look = || seeds.clone().find_map(|seed| twice(pair, seed, effort).err());
    assert_eq!(look(), None);
    break_here(Some(defect));
    let found = look();
    break_here(None);
    assert!(found.is_some(), "these seeds would not notice {defect:?}");
}

/// A backup was killed between the rename of a pack and the sync of its folder; the next one
/// referred to the pack, and was acknowledged; then a power cut took the pack's name.
#[test]
fn a_pack_whose_name_was_not_durable_was_relied_on() {
    is_mended("backup, backup", Breakage::FoundNamesUnsynced, 38..42);
}

/// The same with the image that an interrupted first copy had just created.
#[test]
fn an_image_whose_name_was_not_durable_was_filled_and_called_clean() {
    is_mended("seed, seed", Breakage::FoundNamesUnsynced, 0..6);
}

/// And with the header of a repository whose creation was interrupted in its last step, or the
/// folder that it is in. More than one step makes these durable now: none can be taken out alone.
#[test]
fn a_repository_whose_header_was_not_durable_took_a_backup() {
    let pair = PAIRS.iter().find(|it| it.case.name == "init, backup").unwrap();
    let effort = Effort { pairs: 200, states: 8 };
    assert_eq!((0..4).find_map(|seed| twice(pair, seed, effort).err()), None);
}

/// A store of the superblock was cut short before its sync; the next process redid the journal, or
/// removed it, by what memory said, and the medium still said what was before.
#[test]
fn a_superblock_that_was_not_durable_was_acted_on() {
    is_mended("replay, replay", Breakage::FoundStateUnsynced, 0..2);
}

/// A sync of an image failed; the repair compared it with what memory held, found no difference,
/// and called it clean.
#[test]
fn a_repair_believed_the_cache_after_a_sync_that_had_failed() {
    is_mended("seed, seed", Breakage::CacheBelieved, 0..12);
}

/// A prune was interrupted before the removal of its points was durable; a collection removed
/// their packs; then a power cut brought the points back, without them.
#[test]
fn a_removal_that_was_not_durable_lost_its_packs() {
    is_mended("prune, collection", Breakage::ManifestsUnsynced, 0..2);
}

/// A rotation was interrupted before the exchanged key file was durable; the next one removed the
/// slots of the old key; then a power cut brought the old key file back, which opened nothing.
#[test]
fn a_key_file_that_was_not_durable_lost_its_slots() {
    is_mended("rotation, rotation", Breakage::FoundKeyUnsynced, 0..12);
}
