//! Bytes that change on the medium by themselves, in the file that decides what a replica is.

use crate::known::Finding;
use crate::lab::{Lab, REPLICAS, name};
use crate::sweep::{CASES, prepare};
use afterimage::destination::Superblock;
use std::path::Path;

/// Of each slot, so many bytes are changed: the record lies in them.
const BYTES: usize = 1024;

/// With any byte of one slot another one, a superblock says the same or is refused.
pub fn superblocks(seed: u64) -> Result<(), Finding> {
    let case = CASES.iter().find(|case| case.name == "replay").ok_or("no such case")?;
    let (lab, _) = prepare(case, seed)?;
    let path = Lab::home(0).superblock();
    let before = read(&lab, &path).map_err(|error| format!("unharmed: {error}"))?;
    let content = lab.disk.content(&path).ok_or("no superblock")?;
    for offset in (0..BYTES).chain(content.len() / 2..content.len() / 2 + BYTES) {
        let flipped = content[offset] ^ (1 << ((offset as u64 ^ seed) % 8));
        lab.disk.overwrite(&path, offset as u64, &[flipped]);
        if let Ok(after) = read(&lab, &path)
            && after != before
        {
            return Err(format!("with another byte {offset} the superblock says {after}"));
        }
        lab.disk.overwrite(&path, offset as u64, &[content[offset]]);
    }
    Ok(())
}

fn read(lab: &Lab, path: &Path) -> Result<String, Finding> {
    let record = Superblock::read_only(lab.fs().as_ref(), path, &name(REPLICAS[0].0));
    record.map(|record| format!("{record:?}")).map_err(|error| error.to_string())
}
