//! The client and the server together, against a model: a vector of bytes.

use crate::exports::{MemoryExport, serve};
use crate::peers::content;
use afterimage::extent::Extent;
use afterimage::nbd::{
    BASE_ALLOCATION, Client, Fault, Limits, Options, STATE_ZERO, Server, Transport, Zeroing,
};
use afterimage::testing::noise;
use proptest::prelude::*;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Not a multiple of anything.
const SIZE_BYTES: u64 = (5 << 20) + 777;

#[derive(Debug, Clone)]
enum Step {
    Read(u64, u64),
    Write(u64, u64, u64),
    WriteDurably(u64, u64, u64),
    Zero(u64, u64),
    Trim(u64, u64),
    Flush,
    Status(u64, u64),
    NextData(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..SIZE_BYTES + 10;
    let len = prop_oneof![0_u64..10_000, Just(1 << 20), Just((2 << 20) + 1), Just(SIZE_BYTES)];
    let range = (at.clone(), len);
    prop_oneof![
        4 => range.clone().prop_map(|(at, len)| Step::Read(at, len)),
        4 => (range.clone(), any::<u64>()).prop_map(|((at, len), seed)| Step::Write(at, len, seed)),
        1 => (range.clone(), any::<u64>())
            .prop_map(|((at, len), seed)| Step::WriteDurably(at, len, seed)),
        2 => range.clone().prop_map(|(at, len)| Step::Zero(at, len)),
        1 => range.clone().prop_map(|(at, len)| Step::Trim(at, len)),
        1 => Just(Step::Flush),
        2 => range.prop_map(|(at, len)| Step::Status(at, len)),
        1 => at.prop_map(Step::NextData),
    ]
}

/// The part of the model; `None` where it ends first.
fn part(model: &mut [u8], at: u64, len: u64) -> Option<&mut [u8]> {
    model.get_mut(usize::try_from(at).ok()?..usize::try_from(at + len).ok()?)
}

fn check<T>(part: Option<T>, done: Result<(), afterimage::nbd::NbdError>) -> Option<T> {
    match &done {
        Ok(()) => assert!(part.is_some(), "an access past the end succeeds"),
        Err(error) => {
            assert!(part.is_none() && matches!(error.fault, Fault::PastEnd { .. }), "{error}");
        }
    }
    part
}

fn take_step(client: &Client, export: &MemoryExport, model: &mut [u8], step: Step) {
    match step {
        Step::Read(at, len) => {
            let mut buffer = vec![0xee; len as usize];
            let done = client.read_exact_at(&mut buffer, at);
            if let Some(part) = check(part(model, at, len), done) {
                assert!(buffer == part, "{at}, {len}");
            }
        }
        Step::Write(at, len, seed) => {
            let bytes = noise(seed, len as usize);
            let done = client.write_all_at(&bytes, at);
            if let Some(part) = check(part(model, at, len), done) {
                part.copy_from_slice(&bytes);
            }
        }
        Step::WriteDurably(at, len, seed) => {
            let before = export.flushes.load(Ordering::Relaxed);
            let bytes = noise(seed, len as usize);
            let done = client.write_durably_at(&bytes, at);
            if let Some(part) = check(part(model, at, len), done) {
                part.copy_from_slice(&bytes);
                assert!(len == 0 || export.flushes.load(Ordering::Relaxed) > before);
            }
        }
        Step::Zero(at, len) => {
            let range = Extent::between(at, at + len);
            let done = client.write_zeroes(range, Zeroing::MayUnmap);
            if let Some(part) = check(part(model, at, len), done) {
                part.fill(0);
            }
        }
        Step::Trim(at, len) => {
            let done = client.trim(Extent::between(at, at + len));
            if let Some(part) = check(part(model, at, len), done) {
                part.fill(0);
            }
        }
        Step::Flush => {
            let before = export.flushes.load(Ordering::Relaxed);
            client.flush().unwrap();
            assert_eq!(export.flushes.load(Ordering::Relaxed), before + 1);
        }
        Step::Status(at, len) => check_status(client, model, Extent::between(at, at + len)),
        Step::NextData(at) => {
            let next = client.next_data(at).unwrap();
            let from = (at as usize).min(model.len());
            let end = next.map_or(model.len(), |next| next as usize);
            assert!(model[from..end].iter().all(|byte| *byte == 0));
            assert!(next.is_none_or(|next| next >= at));
        }
    }
}

fn check_status(client: &Client, model: &mut [u8], range: Extent) {
    let found = client.block_status(BASE_ALLOCATION, range);
    let Some(bytes) = part(model, range.start(), range.len()) else {
        assert!(found.is_err());
        return;
    };
    let found = found.unwrap();
    let mut at = range.start();
    for (piece, flags) in &found {
        assert_eq!(piece.start(), at);
        at = piece.end();
        let from = (piece.start() - range.start()) as usize;
        let is_zero = bytes[from..from + piece.len() as usize].iter().all(|byte| *byte == 0);
        assert!(is_zero || flags & STATE_ZERO == 0);
    }
    assert_eq!(at, range.end());
    assert!(found.windows(2).all(|pair| pair[0].1 != pair[1].1));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn the_export_is_what_the_model_is(steps in proptest::collection::vec(step(), 1..30)) {
        let folder = tempfile::tempdir().unwrap();
        let mut model = vec![0; SIZE_BYTES as usize];
        model[..9999].fill(1);
        let export = MemoryExport::new(model.clone());
        let server = serve(folder.path(), &[("", Arc::clone(&export))], Limits::default());
        let client = Client::connect(&server.address("").unwrap(), &Options::default()).unwrap();
        for step in steps {
            take_step(&client, &export, &mut model, step);
        }
        prop_assert!(content(&client) == model);
        prop_assert!(export.content() == model);
    }
}

#[test]
fn a_dirty_bitmap_is_told_and_bad_sectors_fail_alone() {
    let folder = tempfile::tempdir().unwrap();
    let disk =
        MemoryExport { bad_at: Some(1 << 20), is_read_only: true, ..MemoryExport::default() };
    *disk.bytes.lock().unwrap() = noise(1, 4 << 20);
    let server = serve(folder.path(), &[("disk", Arc::new(disk))], Limits::default());
    let contexts = vec!["qemu:dirty-bitmap:odd".to_owned()];
    let options = Options { contexts, ..Options::default() };
    let client = Client::connect(&server.address("disk").unwrap(), &options).unwrap();
    let mib = |at: u64| Extent::between(at << 20, (at + 1) << 20);
    assert_eq!(client.changed_extents("odd").unwrap(), [mib(1), mib(3)]);
    let mut buffer = vec![0; 3 << 20];
    let bad = client.read_exact_at(&mut buffer, 0).unwrap_err();
    assert!(bad.to_string().contains("it says: a bad  [31msector"), "{bad}");
    client.read_exact_at(&mut buffer[..1 << 20], 2 << 20).unwrap();
    let refused = client.write_all_at(&buffer, 0).unwrap_err();
    assert!(matches!(refused.fault, Fault::ReadOnly), "{refused}");
}

/// Whether the server ends the connection, soon.
fn is_sent_away(mut stream: &UnixStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

fn connect(folder: &Path) -> UnixStream {
    UnixStream::connect(folder.join("nbd.sock")).unwrap()
}

#[test]
fn hostile_clients_are_sent_away_and_the_others_served() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        connections_max: 4,
        handshake_time_max: Duration::from_secs(1),
        request_time_max: Duration::from_secs(1),
        idle_time_max: Duration::from_secs(60),
    };
    let bytes = noise(1, 1 << 20);
    let exports = [("disk", MemoryExport::new(bytes.clone()))];
    let server = serve(folder.path(), &exports, limits);
    let options = Options { connections: 1, ..Options::default() };
    let address = server.address("disk").unwrap();
    let client = Client::connect(&address, &options).unwrap();
    // Silence, and nonsense.
    assert!(is_sent_away(&connect(folder.path())));
    let mut stream = connect(folder.path());
    stream.write_all(&[0xff; 100]).unwrap();
    assert!(is_sent_away(&stream));
    // An option of 4 GiB.
    let mut stream = connect(folder.path());
    stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x07\xff\xff\xff\xff").unwrap();
    assert!(is_sent_away(&stream));
    // Options without end.
    let mut stream = connect(folder.path());
    stream.write_all(b"\0\0\0\x03").unwrap();
    for _ in 0..300 {
        if stream.write_all(b"IHAVEOPT\0\0\0\x63\0\0\0\0").is_err() {
            break;
        }
    }
    assert!(is_sent_away(&stream));
    // A write of 4 GiB, and half a request.
    for request in [
        b"\x25\x60\x95\x13\0\0\0\x01handle_1\0\0\0\0\0\0\0\0\xff\xff\xff\xff".as_slice(),
        b"\x25\x60\x95\x13\0\0",
        b"\x25\x60\x95\x14\0\0\0\0handle_1\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let mut stream = connect(folder.path());
        stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk").unwrap();
        stream.write_all(request).unwrap();
        assert!(is_sent_away(&stream));
    }
    // Too many: those beyond the limit are sent away at once, whoever they are.
    let crowd: Vec<UnixStream> = (0..3).map(|_| connect(folder.path())).collect();
    while server.clients() < 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Client::connect(&address, &options).is_err());
    drop(crowd);
    let mut read = vec![0; bytes.len()];
    client.read_exact_at(&mut read, 0).unwrap();
    assert!(read == bytes);
}

#[test]
fn a_client_that_takes_no_answers_is_sent_away() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits { request_time_max: Duration::from_secs(1), ..Limits::default() };
    let exports = [("disk", MemoryExport::new(noise(1, 32 << 20)))];
    let server = serve(folder.path(), &exports, limits);
    let mut stream = connect(folder.path());
    stream.write_all(b"\0\0\0\x03IHAVEOPT\0\0\0\x01\0\0\0\x04disk").unwrap();
    stream.write_all(b"\x25\x60\x95\x13\0\0\0\0handle_1\0\0\0\0\0\0\0\0\x02\0\0\0").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.clients() == 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    while server.clients() > 0 {
        assert!(Instant::now() < deadline, "it still is there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_server_that_stops_leaves_nothing_and_takes_a_dead_ones_place() {
    let folder = tempfile::tempdir().unwrap();
    let exports = [("disk", MemoryExport::new(vec![1; 4096]))];
    let socket = folder.path().join("nbd.sock");
    // As left by one that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let server = serve(folder.path(), &exports, Limits::default());
    let mode = std::os::unix::fs::PermissionsExt::mode(&socket.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    // One that lives is left alone.
    let place = Transport::Unix { path: socket.clone() };
    let exports = crate::exports::named(&exports);
    assert!(Server::start(exports.clone(), &place, None, Limits::default()).is_err());
    let client = Client::connect(&server.address("disk").unwrap(), &Options::default()).unwrap();
    let mut byte = [0];
    client.read_exact_at(&mut byte, 4095).unwrap();
    server.stop();
    assert!(!socket.exists());
    let lost = client.read_exact_at(&mut byte, 0).unwrap_err();
    assert!(matches!(lost.fault, Fault::Lost { .. }), "{lost}");
    // A file that is no socket is not removed.
    std::fs::write(&socket, "precious").unwrap();
    assert!(Server::start(exports, &place, None, Limits::default()).is_err());
    assert_eq!(std::fs::read_to_string(&socket).unwrap(), "precious");
}
