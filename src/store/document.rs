//! Small files that stand alone, sealed as a whole; the manifests of points are such documents.
//!
//! ```text
//! header  64 bytes  magic 8 | format u32 | sealed u8 | 0 u8[3] | repository 16 | salt 32
//! body              as it is, or sealed with AES-256-GCM (nonce 0, bound to the header)
//! ```

use super::seal::Sealer;
use super::{Keys, StoreError, slots};

/// Length of a document's header, in bytes.
pub const DOCUMENT_HEADER_BYTES: usize = 64;

/// The file that holds `body`.
///
/// # Errors
/// When there are no random numbers for the salt.
pub fn seal_document(
    keys: &Keys,
    magic: &[u8; 8],
    format: u32,
    body: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let salt = slots::random()?;
    let mut bytes = Vec::with_capacity(DOCUMENT_HEADER_BYTES + body.len() + 16);
    bytes.extend_from_slice(magic);
    bytes.extend_from_slice(&format.to_le_bytes());
    bytes.extend_from_slice(&[u8::from(keys.is_encrypted()), 0, 0, 0]);
    bytes.extend_from_slice(&keys.repository().0);
    bytes.extend_from_slice(&salt);
    let header = bytes.clone();
    bytes.extend_from_slice(body);
    if let Some(key) = keys.manifest_key(&salt)
        && !Sealer::new(&key).seal(0, &header, &mut bytes, DOCUMENT_HEADER_BYTES)
    {
        return Err(StoreError::MemoryFault);
    }
    Ok(bytes)
}

/// The format that a document says it has; `None` of what is shorter than a header.
pub fn document_format(bytes: &[u8]) -> Option<u32> {
    let (header, _) = bytes.split_first_chunk::<DOCUMENT_HEADER_BYTES>()?;
    Some(u32::from_le_bytes([header[8], header[9], header[10], header[11]]))
}

/// The body of a document, opened in place.
///
/// # Errors
/// What is wrong with it, in words.
pub fn open_document<'a>(
    keys: &Keys,
    magic: &[u8; 8],
    format: u32,
    bytes: &'a mut [u8],
) -> Result<&'a [u8], String> {
    let Some((header, body)) = bytes.split_first_chunk_mut::<DOCUMENT_HEADER_BYTES>() else {
        return Err("it was cut off".to_owned());
    };
    if &header[..8] != magic {
        return Err("it does not begin as it must".to_owned());
    }
    let found = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if found != format {
        return Err(format!(
            "it has format {found}, this version of afterimage reads {format}; use a newer one"
        ));
    }
    if header[16..32] != keys.repository().0 {
        return Err("it belongs to another repository".to_owned());
    }
    if header[12..16] != [u8::from(keys.is_encrypted()), 0, 0, 0] {
        return Err("its flags are not those of this repository".to_owned());
    }
    let mut salt = [0; 32];
    salt.copy_from_slice(&header[32..]);
    match keys.manifest_key(&salt) {
        None => Ok(body),
        Some(key) => match Sealer::new(&key).open(0, header.as_slice(), body) {
            Some(plain) => Ok(plain),
            None => Err("it was not sealed with this repository's keys".to_owned()),
        },
    }
}
