//! What it takes to set a domain up again: its description, and the variables of its firmware.

use super::domain::Domain;
use crate::fsio::{RealFileSystem, read_whole};
use crate::units::Name;

/// No firmware keeps more.
const NVRAM_BYTES_MAX: u64 = 64 * 1024 * 1024;
const DESCRIPTION: &str = "domain.xml";
const NVRAM: &str = "nvram.fd";

/// The files, and what could not be captured, in words. `xml` is the description as it is when the
/// domain is shut off. libvirt leaves passwords out of it unless it is asked for them.
pub(super) fn files(domain: &Domain, xml: &str) -> (Vec<(Name, Vec<u8>)>, Vec<String>) {
    let mut files = Vec::new();
    let mut notes = Vec::new();
    let mut add = |name: &str, content: Vec<u8>| {
        // Both are names.
        files.extend(name.parse().ok().map(|name: Name| (name, content)));
    };
    add(DESCRIPTION, xml.as_bytes().to_vec());
    if let Some(path) = &domain.nvram {
        match read_whole(&RealFileSystem, path, NVRAM_BYTES_MAX) {
            Ok(content) => add(NVRAM, content),
            // libvirt makes it at the first start.
            Err(error) if error.not_found() && domain.id.is_none() => {}
            Err(error) => {
                notes.push(format!("the variables of its firmware are not captured: {error}"));
            }
        }
    }
    (files, notes)
}
