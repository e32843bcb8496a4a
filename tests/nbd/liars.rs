//! Servers that lie in their replies: each is a clear error in bounded time, and after a lie nothing
//! is asked any more.

use crate::liar::*;
use afterimage::extent::Extent;
use afterimage::nbd::{BASE_ALLOCATION, Client, Fault, NbdError};
use std::time::{Duration, Instant};

/// How long an error may take where the limits are one second, on a machine that does other
/// things too.
pub const BOUND: Duration = Duration::from_secs(30);

type Reply = fn(&Asked) -> Vec<u8>;

/// What a client says to one reply that it gets.
fn told(is_structured: bool, reply: Reply, ask: fn(&Client) -> Result<(), NbdError>) -> NbdError {
    let liar = Liar::new(Box::new(move |mut stream| {
        agree(&mut stream, is_structured);
        if let Some(asked) = request(&mut stream) {
            say(&mut stream, &reply(&asked));
            wait_for_end(&mut stream);
        }
    }));
    let client = liar.connect().unwrap_or_else(|error| panic!("{error}"));
    let began = Instant::now();
    let error = ask(&client).expect_err("the lie was believed");
    assert!(began.elapsed() < BOUND, "{error}");
    assert!(error.to_string().contains("nbd+unix:///disk?socket="), "{error}");
    if matches!(error.fault, Fault::Request { .. }) {
        client.check_alive().unwrap();
    } else {
        let again = ask(&client).unwrap_err();
        assert!(matches!(again.fault, Fault::Failed(_)), "{again}");
    }
    error
}

pub fn read(client: &Client) -> Result<(), NbdError> {
    client.read_exact_at(&mut [0xee; 4096], 8192)
}

fn write(client: &Client) -> Result<(), NbdError> {
    client.write_all_at(&[7; 4096], 8192)
}

fn block_status(client: &Client) -> Result<(), NbdError> {
    client.block_status(BASE_ALLOCATION, Extent::between(8192, 12_288)).map(drop)
}

fn half(byte: u8) -> Vec<u8> {
    vec![byte; 2048]
}

#[test]
fn lies_in_the_reply_to_a_read_are_found() {
    let lies: &[(&str, Reply)] = &[
        ("came already", |a| {
            [data(a, 0, 8192, &half(1)), data(a, 0, 10_239, &half(2)), data(a, 1, 12_287, &[3])]
                .concat()
        }),
        ("came already", |a| [data(a, 0, 8192, &half(1)), data(a, 1, 8192, &half(1))].concat()),
        ("came already", |a| [hole(a, 0, 8192, 4096), hole(a, 1, 8192, 4096)].concat()),
        ("came already", |a| [data(a, 0, 10_240, &half(1)), hole(a, 1, 8192, 4096)].concat()),
        ("not all of it came", |a| data(a, 1, 8192, &half(1))),
        ("not all of it came", |a| chunk(a.cookie, 1, 0, &[])),
        ("not all of it came", |a| {
            [data(a, 0, 8192, &half(1)), data(a, 1, 10_241, &half(1)[1..])].concat()
        }),
        ("where nobody asked", |a| data(a, 1, 8191, &half(1))),
        ("where nobody asked", |a| data(a, 1, 12_287, &half(1)[..2])),
        ("where nobody asked", |a| data(a, 1, 12_288, &[1])),
        ("where nobody asked", |a| data(a, 1, u64::MAX, &[1])),
        ("where nobody asked", |a| hole(a, 1, 8192, 4097)),
        ("where nobody asked", |a| hole(a, 1, 8192, u32::MAX)),
        ("where nobody asked", |a| hole(a, 1, 9000, 0)),
        ("4294967287 bytes from 8192", |a| {
            chunk_of(a.cookie, 1, 1, u32::MAX, &8192_u64.to_be_bytes())
        }),
        ("has 8 bytes", |a| chunk(a.cookie, 1, 1, &8192_u64.to_be_bytes())),
        ("has 13 bytes", |a| chunk(a.cookie, 1, 2, &[0; 13])),
        ("type 0 has 1 bytes", |a| chunk(a.cookie, 1, 0, &[0])),
        ("type 0 has 0 bytes", |a| chunk(a.cookie, 0, 0, &[])),
        ("type 5 does not belong", |a| status(a, 1, 7, &[(4096, 0)])),
        ("type 77 does not belong", |a| chunk(a.cookie, 1, 77, &[0; 16])),
        ("not to 1", |a| data(&Asked { cookie: a.cookie + 1 }, 1, 8192, &[1; 4096])),
        ("not to 1", |a| simple(a.cookie ^ 1, 5)),
        ("simple reply to a read", |a| [simple(a.cookie, 0), vec![1; 4096]].concat()),
        ("is no reply", |_| b"HTTP/1.1 400 Bad Request".to_vec()),
        ("says that there is none", |a| error(a, 1, 0, b"fine")),
        ("has 5 bytes", |a| chunk(a.cookie, 1, 0x8001, &[0; 5])),
        ("has 70000 bytes", |a| chunk(a.cookie, 1, 0x8001, &[0; 70_000])),
        // What it says is longer than the chunk, or shorter.
        ("has 8 bytes", |a| chunk(a.cookie, 1, 0x8001, &[0, 0, 0, 5, 0, 3, 65, 65])),
        ("has 8 bytes", |a| chunk(a.cookie, 1, 0x8001, &[0, 0, 0, 5, 0, 1, 65, 65])),
        ("has 6 bytes", |a| chunk(a.cookie, 1, 0x8002, &[0, 0, 0, 5, 0, 0])),
        ("error at 1", |a| chunk(a.cookie, 1, 0x8002, &[0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])),
        ("too many pieces", |a| (0..2048).flat_map(|at| hole(a, 0, 8192 + at * 2, 1)).collect()),
        ("too many pieces", |a| error(a, 0, 5, b"again").repeat(100)),
    ];
    for (why, reply) in lies {
        let error = told(true, *reply, read);
        assert!(matches!(error.fault, Fault::Protocol(_)), "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
    let lies: &[(&str, Reply)] = &[
        ("is no reply", |a| data(a, 1, 8192, &[1; 4096])),
        ("not to 1", |a| simple(a.cookie + 7, 0)),
    ];
    for (why, reply) in lies {
        let error = told(false, *reply, read);
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn lies_in_block_status_are_found() {
    let lies: &[(&str, Reply)] = &[
        ("has 4 bytes", |a| status(a, 1, 7, &[])),
        ("has 15 bytes", |a| chunk(a.cookie, 1, 5, &[0; 15])),
        ("of 0 bytes", |a| status(a, 1, 7, &[(0, 0), (4096, 0)])),
        ("of 4096 bytes from 12288", |a| status(a, 1, 7, &[(4096, 0), (4096, 0)])),
        ("of 4294967295 bytes", |a| status(a, 1, 7, &[(u32::MAX, 0)])),
        ("context 8, unasked", |a| status(a, 1, 8, &[(4096, 0)])),
        ("context 7, unasked", |a| status(a, 0, 7, &[(4096, 3)]).repeat(2)),
        ("lacks a context", |a| status(a, 1, 9, &[(4096, 0)])),
        ("lacks a context", |a| chunk(a.cookie, 1, 0, &[])),
        ("without any status", |a| simple(a.cookie, 0)),
        ("does not belong", |a| hole(a, 1, 8192, 4096)),
        ("has 4294967292 bytes", |a| chunk_of(a.cookie, 1, 5, u32::MAX - 3, &[0; 100])),
        ("has no end", |a| error(a, 0, 5, b"again").repeat(100)),
    ];
    for (why, reply) in lies {
        let error = told(true, *reply, block_status);
        assert!(matches!(error.fault, Fault::Protocol(_)), "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn lies_in_the_reply_to_a_write_are_found() {
    let lies: &[(&str, Reply)] = &[
        ("does not belong", |a| data(a, 1, 8192, &[0; 4096])),
        ("not to 1", |a| simple(0, u32::try_from(a.cookie).unwrap())),
        ("has no end", |a| error(a, 0, 28, b"").repeat(100)),
    ];
    for (why, reply) in lies {
        let error = told(true, *reply, write);
        assert!(matches!(error.fault, Fault::Protocol(_)), "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn errors_that_are_told_in_order_leave_the_connection_good() {
    let replies: &[(&str, bool, Reply)] = &[
        ("input/output error (it says: bad sector)", true, |a| error(a, 1, 5, b"bad sector\n")),
        ("error 99", true, |a| [error(a, 0, 99, b""), chunk(a.cookie, 1, 0, &[])].concat()),
        ("no space left", true, |a| simple(a.cookie, 28)),
        ("not permitted", false, |a| simple(a.cookie, 1)),
        // An error of a kind that is not known.
        ("out of memory", true, |a| chunk(a.cookie, 1, 0x9999, &[0, 0, 0, 12, 0, 1, 65, 1, 2, 3])),
    ];
    for (why, is_structured, reply) in replies {
        for ask in [read, write] {
            let error = told(*is_structured, *reply, ask);
            assert!(matches!(error.fault, Fault::Request { .. }), "{why}: {error}");
            assert!(error.to_string().contains(why), "{why}: {error}");
        }
    }
    // Data before and behind the error is read past.
    let error = told(
        true,
        |a| [data(a, 0, 8192, &half(1)), error(a, 0, 5, b"mid"), hole(a, 1, 10_240, 2048)].concat(),
        read,
    );
    assert!(matches!(error.fault, Fault::Request { .. }), "{error}");
}

#[test]
fn good_replies_in_any_order_are_put_together() {
    let liar = Liar::new(Box::new(|mut stream| {
        agree(&mut stream, true);
        let asked = request(&mut stream).unwrap();
        let pieces = [
            data(&asked, 0, 10_240, &[3; 1024]),
            hole(&asked, 0, 9216, 1024),
            data(&asked, 0, 11_264, &[4; 1024]),
            data(&asked, 0, 8192, &[1; 1024]),
            chunk(asked.cookie, 1, 0, &[]),
        ];
        say(&mut stream, &pieces.concat());
        let asked = request(&mut stream).unwrap();
        // The last may reach past what was asked for; other contexts are of no interest.
        let statuses = [
            status(&asked, 0, 9, &[(1, 1), (2, 0)]),
            status(&asked, 1, 7, &[(1024, 3), (1024, 3), (1 << 19, 0)]),
        ];
        say(&mut stream, &statuses.concat());
        wait_for_end(&mut stream);
    }));
    let client = liar.connect().unwrap();
    let mut buffer = [0xee; 4096];
    client.read_exact_at(&mut buffer, 8192).unwrap();
    for (part, byte) in buffer.chunks(1024).zip([1, 0, 3, 4]) {
        assert!(part.iter().all(|it| *it == byte));
    }
    let found = client.block_status(BASE_ALLOCATION, Extent::between(8192, 12_288)).unwrap();
    assert_eq!(found, [(Extent::between(8192, 10_240), 3), (Extent::between(10_240, 12_288), 0)]);
}

#[test]
fn block_status_without_end_is_given_up() {
    let liar = Liar::new(Box::new(|mut stream| {
        greet(&mut stream);
        while let Some(found) = option(&mut stream) {
            let mut reply = match found {
                SET_META_CONTEXT => contexts(),
                GO => export_info(1 << 50, 1),
                _ => Vec::new(),
            };
            reply.extend(option_reply(found, ACK, &[]));
            say(&mut stream, &reply);
            if found == GO {
                break;
            }
        }
        // A byte at a time, for ever.
        while let Some(asked) = request(&mut stream) {
            std::thread::sleep(Duration::from_millis(1));
            say(&mut stream, &status(&asked, 1, 7, &[(1, 0)]));
        }
    }));
    let client = liar.connect().unwrap();
    let began = Instant::now();
    let error = client.block_status(BASE_ALLOCATION, Extent::between(0, 1 << 50)).unwrap_err();
    assert!(matches!(error.fault, Fault::Stalled { .. }), "{error}");
    assert!(began.elapsed() < BOUND);
}
