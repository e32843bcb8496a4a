//! Compression of objects.

use super::StoreError;

/// How an object's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are: compressing them would have saved next to nothing.
    Raw,
    /// One zstd frame.
    Zstd,
}

impl Encoding {
    /// The byte in a pack's trailer.
    pub fn to_byte(self) -> u8 {
        match self {
            Self::Raw => 0,
            Self::Zstd => 1,
        }
    }

    /// Reads the byte of a trailer.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Raw),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// An object's bytes, ready to be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoded<'a> {
    /// How they are encoded.
    pub encoding: Encoding,
    /// The bytes.
    pub bytes: &'a [u8],
    /// Length before encoding.
    pub plain_len: u32,
}

/// Compresses and decompresses; one for each thread, its buffers are used again and again.
pub struct Codec {
    level: i32,
    /// Made when it is first needed: readers need none.
    compressor: Option<zstd::bulk::Compressor<'static>>,
    decompressor: zstd::bulk::Decompressor<'static>,
    compressed: Vec<u8>,
    restored: Vec<u8>,
}

impl std::fmt::Debug for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Codec")
    }
}

impl Codec {
    /// A codec that compresses at zstd's `level`.
    ///
    /// # Errors
    /// When zstd has no memory.
    pub fn new(level: i32) -> Result<Self, StoreError> {
        let no_memory = |source| crate::fsio::FileError::new("start", "zstd".as_ref(), source);
        Ok(Self {
            level,
            compressor: None,
            decompressor: zstd::bulk::Decompressor::new().map_err(no_memory)?,
            compressed: Vec::new(),
            restored: Vec::new(),
        })
    }

    /// Encodes `plain`, decodes the result again and gives the decoded bytes to `is_same`, which
    /// says whether they are what was meant (by hashing them, so that a flipped bit in `plain`
    /// itself shows too).
    ///
    /// # Errors
    /// [`StoreError::MemoryFault`] when they are not.
    pub fn encode<'a>(
        &'a mut self,
        plain: &'a [u8],
        is_same: impl FnOnce(&[u8]) -> bool,
    ) -> Result<Encoded<'a>, StoreError> {
        let plain_len = u32::try_from(plain.len()).map_err(|_| StoreError::MemoryFault)?;
        self.compressed.resize(zstd::zstd_safe::compress_bound(plain.len()), 0);
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(
                zstd::bulk::Compressor::new(self.level).map_err(|_| StoreError::MemoryFault)?,
            ),
        };
        let compressed_len = compressor
            .compress_to_buffer(plain, &mut self.compressed[..])
            .map_err(|_| StoreError::MemoryFault)?;
        // One part in 64 must be saved, otherwise reading it back costs more than it is worth.
        if compressed_len > plain.len() - plain.len() / 64 {
            return match is_same(plain) {
                true => Ok(Encoded { encoding: Encoding::Raw, bytes: plain, plain_len }),
                false => Err(StoreError::MemoryFault),
            };
        }
        self.restored.resize(plain.len(), 0);
        let restored_len = self
            .decompressor
            .decompress_to_buffer(&self.compressed[..compressed_len], &mut self.restored[..])
            .map_err(|_| StoreError::MemoryFault)?;
        if restored_len == plain.len() && is_same(&self.restored) {
            let bytes = &self.compressed[..compressed_len];
            Ok(Encoded { encoding: Encoding::Zstd, bytes, plain_len })
        } else {
            Err(StoreError::MemoryFault)
        }
    }

    /// Whether `bytes` may decode to `plain_len` bytes, by what they say themselves: whoever has to
    /// make room for them asks first.
    pub fn may_be(encoding: Encoding, bytes: &[u8], plain_len: u32) -> bool {
        match encoding {
            Encoding::Raw => bytes.len() == plain_len as usize,
            Encoding::Zstd => match zstd::zstd_safe::get_frame_content_size(bytes) {
                Ok(Some(len)) => len == u64::from(plain_len),
                Ok(None) => true,
                Err(_) => false,
            },
        }
    }

    /// Decodes into `plain`, whose length is the length that the object must have. Memory is
    /// bounded by it, whatever the frame claims. `false` when the bytes do not decode to exactly
    /// that length.
    pub fn decode(&mut self, encoding: Encoding, bytes: &[u8], plain: &mut [u8]) -> bool {
        match encoding {
            Encoding::Raw if bytes.len() == plain.len() => {
                plain.copy_from_slice(bytes);
                true
            }
            Encoding::Raw => false,
            Encoding::Zstd => {
                let wanted = plain.len();
                matches!(self.decompressor.decompress_to_buffer(bytes, plain), Ok(len) if len == wanted)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_that_flips_before_the_commit_is_found() {
        let mut codec = Codec::new(1).unwrap();
        let text = b"all work and no play ".repeat(100);
        let encoded = codec.encode(&text, |restored| restored == text).unwrap();
        assert_eq!(encoded.encoding, Encoding::Zstd);
        assert!(encoded.bytes.len() < text.len() / 4);
        assert!(matches!(codec.encode(&text, |_| false), Err(StoreError::MemoryFault)));
        let noise: Vec<u8> =
            (0..64_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(codec.encode(&noise, |_| true).unwrap().encoding, Encoding::Raw);
        assert!(matches!(codec.encode(&noise, |_| false), Err(StoreError::MemoryFault)));
    }

    #[test]
    fn a_frame_that_decodes_to_another_length_is_refused() {
        let mut codec = Codec::new(1).unwrap();
        let bomb = zstd::bulk::compress(&vec![0; 1 << 20], 1).unwrap();
        assert!(!codec.decode(Encoding::Zstd, &bomb, &mut [0; 1000]));
        assert!(!codec.decode(Encoding::Zstd, &bomb[..10], &mut vec![0; 1 << 20]));
        assert!(!codec.decode(Encoding::Raw, &bomb, &mut [0; 10]));
        assert!(Codec::may_be(Encoding::Zstd, &bomb, 1 << 20));
        assert!(!Codec::may_be(Encoding::Zstd, &bomb, 1 << 26));
        assert!(!Codec::may_be(Encoding::Raw, &bomb, 1 << 20));
        assert!(!Codec::may_be(Encoding::Zstd, b"no frame", 1 << 26));
        assert!(codec.decode(Encoding::Zstd, &bomb, &mut vec![0; 1 << 20]));
    }
}
