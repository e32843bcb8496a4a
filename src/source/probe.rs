//! What a file holds, from its first and last bytes.
//!
//! A guest decides what its raw disk begins with. A disk that begins like a qcow2 image whose
//! backing file is one of the host's secrets would, were content alone believed, put that secret
//! into the guest's own disk at the next restore. So content is believed only where a name that
//! the guest does not choose agrees with it; otherwise the user is asked.

use super::error::SourceError;
use super::file::SourceFile;
use super::{ImageFormat, qcow2};

const HEAD_BYTES: u64 = 512;
const TAIL_BYTES: u64 = 512;

/// Formats that are recognised only to be refused: at which byte, what stands there, whose it is.
/// Sources: `qemu-img`'s probes and the formats' own specifications.
const FOREIGN: [(usize, &[u8], &str); 10] = [
    (0, b"KDMV", "VMDK"),
    (0, b"COWD", "VMDK"),
    (0, b"# Disk DescriptorFile", "VMDK"),
    (0, b"vhdxfile", "VHDX"),
    (0, b"conectix", "VHD"),
    (0x40, &0xbeda_107f_u32.to_le_bytes(), "VDI"),
    (0, b"QED\0", "QED"),
    (0, b"WithoutFreeSpace", "Parallels"),
    (0, b"WithouFreSpacExt", "Parallels"),
    (0, b"Bochs Virtual HD Image", "Bochs"),
];

/// A VHD of fixed size is a raw disk with this at the start of its last 512 bytes.
const VHD_FOOTER: &[u8] = b"conectix";

/// The format of `file`.
///
/// # Errors
/// [`SourceError::UnsupportedFormat`] for formats that are not read, and
/// [`SourceError::FormatUnclear`] when content and name contradict each other.
pub(super) fn probe(file: &SourceFile) -> Result<ImageFormat, SourceError> {
    let size = file.size_bytes();
    let mut head = vec![0; size.min(HEAD_BYTES) as usize];
    file.read_exact_at(&mut head, 0)?;
    let tail_bytes = size.min(TAIL_BYTES);
    let mut tail = vec![0; tail_bytes as usize];
    file.read_exact_at(&mut tail, size - tail_bytes)?;

    let path = || file.path().to_owned();
    let holds = |(at, magic, _): &&(usize, &[u8], &str)| {
        head.get(*at..).is_some_and(|rest| rest.starts_with(magic))
    };
    if let Some((_, _, format)) = FOREIGN.iter().find(holds) {
        return Err(SourceError::UnsupportedFormat { path: path(), format });
    }
    if tail.starts_with(VHD_FOOTER) {
        return Err(SourceError::UnsupportedFormat { path: path(), format: "VHD" });
    }
    let named_qcow2 = !file.is_device()
        && file.path().extension().is_some_and(|extension| {
            extension.eq_ignore_ascii_case("qcow2") || extension.eq_ignore_ascii_case("qcow")
        });
    let why = match (head.starts_with(&qcow2::MAGIC), named_qcow2) {
        (true, true) => return Ok(ImageFormat::Qcow2),
        (false, false) => return Ok(ImageFormat::Raw),
        (true, false) => {
            "its content begins like a qcow2 image, but its name does not end in .qcow2, and the \
             guest of a raw disk could have written that"
        }
        (false, true) => "it is named like a qcow2 image, but its content does not begin like one",
    };
    Err(SourceError::FormatUnclear { path: path(), why })
}
