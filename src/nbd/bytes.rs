//! Numbers in network byte order, out of and into bytes.

use std::io::{self, Read};

/// Reads `N` bytes.
pub(super) fn array<const N: usize>(from: &mut (impl Read + ?Sized)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn u16_from(from: &mut (impl Read + ?Sized)) -> io::Result<u16> {
    array(from).map(u16::from_be_bytes)
}

pub(super) fn u32_from(from: &mut (impl Read + ?Sized)) -> io::Result<u32> {
    array(from).map(u32::from_be_bytes)
}

pub(super) fn u64_from(from: &mut (impl Read + ?Sized)) -> io::Result<u64> {
    array(from).map(u64::from_be_bytes)
}

/// Reads `len` bytes. The caller has checked that there is memory for so many.
pub(super) fn vector(from: &mut (impl Read + ?Sized), len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// A message that is taken apart from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `len` bytes; `None` where there are fewer.
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string behind its length.
    pub(super) fn string(&mut self) -> Option<&'a str> {
        let len = self.u32()?;
        std::str::from_utf8(self.take(usize::try_from(len).ok()?)?).ok()
    }
}

/// Appends a string behind its length. None that is sent is longer than a name may be.
pub(super) fn put_string(message: &mut Vec<u8>, text: &str) {
    message.extend((text.len() as u32).to_be_bytes());
    message.extend(text.as_bytes());
}
