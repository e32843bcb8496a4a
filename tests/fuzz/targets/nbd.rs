//! What an NBD server says to the client, and a client to the server.

use afterimage::extent::Extent;
use afterimage::nbd::{
    Address, BASE_ALLOCATION, Client, ErrorCode, Export, ExportError, Exports, Limits, NbdError,
    Options, Stream, serve_stream,
};
use std::io::{self, Cursor, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Size of the disk that the server serves, in bytes.
const DISK_BYTES: usize = 16 << 10;
/// How much of an export is looked at.
const LOOK_BYTES: u64 = 16 << 10;

/// A peer that says what was written down, whatever it is told.
struct Tape(Cursor<Vec<u8>>);

impl Read for Tape {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Tape {
    fn set_deadline(&mut self, _: Option<Instant>) {}
}

fn tape(bytes: &[u8]) -> Box<dyn Stream> {
    Box::new(Tape(Cursor::new(bytes.to_vec())))
}

/// The bytes of a server.
pub fn client(bytes: &[u8]) -> bool {
    use_client(tape(bytes)).is_ok()
}

/// Does the same with whatever server is behind the stream.
pub fn use_client(stream: Box<dyn Stream>) -> Result<(), NbdError> {
    let address = Address::unix(Path::new("/nowhere"), "disk").unwrap();
    let contexts = vec!["qemu:dirty-bitmap:a".to_owned()];
    let client = Client::over(stream, &address, &Options { contexts, ..Options::default() })?;
    let size_bytes = client.size_bytes();
    assert!(i64::try_from(size_bytes).is_ok());
    assert!(size_bytes.is_multiple_of(u64::from(client.block_bytes())));
    let look = Extent::between(0, size_bytes.min(LOOK_BYTES));
    let mut buffer = vec![0xee; look.len() as usize];
    let first = client.read_exact_at(&mut buffer, 0);
    let status = client.block_status(BASE_ALLOCATION, look);
    if let Ok(list) = &status {
        let mut at = 0;
        for (piece, _) in list {
            assert!(piece.start() == at && !piece.is_empty());
            at = piece.end();
        }
        assert_eq!(at, look.end());
    }
    let changed = client.changed_extents("a");
    if let Ok(list) = &changed {
        assert!(list.windows(2).all(|pair| pair[0].end() < pair[1].start()));
        assert!(list.iter().all(|it| !it.is_empty() && it.end() <= size_bytes));
    }
    let block = vec![1; client.block_bytes() as usize];
    let written = client.write_durably_at(&block, 0).and_then(|()| client.flush());
    for error in [first.as_ref().err(), written.as_ref().err()].into_iter().flatten() {
        let _ = (error.to_string(), error.is_permanent());
    }
    first.and(status.map(drop)).and(changed.map(drop)).and(written)
}

/// A small disk, of which the last half reads as zeros at first.
pub struct Disk(Mutex<Vec<u8>>);

impl Disk {
    pub fn new() -> Self {
        let mut bytes = vec![7; DISK_BYTES];
        bytes[DISK_BYTES / 2..].fill(0);
        Self(Mutex::new(bytes))
    }
}

impl Export for Disk {
    fn size_bytes(&self) -> u64 {
        DISK_BYTES as u64
    }

    fn is_writable(&self) -> bool {
        true
    }

    // What lies past the end of the disk panics.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ExportError> {
        let from = offset as usize;
        buffer.copy_from_slice(&self.0.lock().unwrap()[from..from + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        let from = offset as usize;
        self.0.lock().unwrap()[from..from + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn write_zeroes(&self, range: Extent, _: bool) -> Result<(), ExportError> {
        self.0.lock().unwrap()[range.start() as usize..range.end() as usize].fill(0);
        Ok(())
    }

    fn contexts(&self) -> Vec<String> {
        vec![BASE_ALLOCATION.into(), "qemu:dirty-bitmap:a".into()]
    }

    fn block_status(&self, _: &str, range: Extent) -> Result<Vec<(Extent, u32)>, ExportError> {
        assert!(!range.is_empty() && range.end() <= DISK_BYTES as u64);
        match range.intersection(Extent::between(0, DISK_BYTES as u64 / 2)) {
            data if data.is_empty() => Err(ExportError::new(ErrorCode::IO, "not known")),
            data => Ok(vec![(data, 0), (Extent::between(data.end(), range.end()), 3)]),
        }
    }
}

/// What the server serves: a disk by two names.
pub fn exports() -> Exports {
    let mut exports = Exports::default();
    for name in ["", "disk"] {
        assert!(exports.insert(name, Arc::new(Disk::new())).unwrap().is_none());
    }
    exports
}

/// The bytes of a client.
pub fn server(bytes: &[u8]) -> bool {
    serve_stream(&exports(), &Limits::default(), tape(bytes)).is_ok()
}
