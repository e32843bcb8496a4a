//! Servers that lie in the handshake, stall, or end early: each is a clear error in bounded time.

use crate::liar::*;
use crate::liars::{BOUND, read};
use afterimage::nbd::{Fault, NbdError};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a client says to a server that follows a script, when it connects and then reads.
fn connected(script: Script) -> NbdError {
    let liar = Liar::new(script);
    let began = Instant::now();
    let error = match liar.connect() {
        Ok(client) => read(&client).expect_err("nobody answered"),
        Err(error) => error,
    };
    assert!(began.elapsed() < BOUND, "{error}");
    error
}

/// Greets, and then answers one option so; those before it honestly.
fn answering(option_wanted: u32, reply: Vec<u8>) -> Script {
    Box::new(move |mut stream| {
        greet(&mut stream);
        while let Some(found) = option(&mut stream) {
            if found == option_wanted {
                say(&mut stream, &reply);
                break;
            }
            say(&mut stream, &option_reply(found, ACK, &[]));
        }
        wait_for_end(&mut stream);
    })
}

fn saying(bytes: &'static [u8]) -> Script {
    Box::new(move |mut stream: UnixStream| {
        say(&mut stream, bytes);
        wait_for_end(&mut stream);
    })
}

fn blocks(least: u32, best: u32, most: u32) -> Vec<u8> {
    let mut payload = vec![0, 3];
    [least, best, most].iter().for_each(|it| payload.extend(it.to_be_bytes()));
    let ack = option_reply(GO, ACK, &[]);
    [export_info(SIZE_BYTES, 1), option_reply(GO, INFO, &payload), ack].concat()
}

#[test]
fn lies_in_the_handshake_are_found() {
    let ack = || option_reply(GO, ACK, &[]);
    let info = |size, flags| [export_info(size, flags), ack()].concat();
    let context = |name: &str| {
        option_reply(SET_META_CONTEXT, META_CONTEXT, &[&[0, 0, 0, 7], name.as_bytes()].concat())
    };
    let lies: Vec<(&str, Script)> = vec![
        ("does not begin as", saying(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")),
        ("old style", saying(b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53 and more")),
        ("fixed new style", saying(b"NBDMAGICIHAVEOPT\0\0")),
        ("does not tell the size", answering(GO, ack())),
        ("does not belong there", answering(GO, option_reply(GO, META_CONTEXT, &[0; 8]))),
        ("9223372036854775808 bytes", answering(GO, info(1 << 63, 1))),
        ("flags", answering(GO, info(SIZE_BYTES, 0))),
        ("twice", answering(GO, export_info(SIZE_BYTES, 1).repeat(2))),
        ("wrong length", answering(GO, option_reply(GO, INFO, &[0, 0, 1]))),
        ("wrong length", answering(GO, option_reply(GO, INFO, &[0; 13]))),
        ("wrong length", answering(GO, option_reply(GO, INFO, &[0]))),
        ("agrees with more", answering(GO, option_reply(GO, ACK, &[0]))),
        ("contradict", answering(GO, blocks(0, 4096, 1 << 20))),
        ("contradict", answering(GO, blocks(3, 4096, 1 << 20))),
        ("contradict", answering(GO, blocks(1 << 17, 1 << 17, 1 << 20))),
        ("contradict", answering(GO, blocks(512, 256, 1 << 20))),
        ("contradict", answering(GO, blocks(512, 4096, 2048))),
        ("contradict", answering(GO, blocks(512, 512, 1000))),
        (
            "no whole blocks",
            answering(GO, {
                let mut payload = vec![0, 3];
                [4096_u32, 4096, 4096].iter().for_each(|it| payload.extend(it.to_be_bytes()));
                [export_info(SIZE_BYTES + 1, 1), option_reply(GO, INFO, &payload), ack()].concat()
            }),
        ),
        ("option 8, option 7 was sent", answering(GO, option_reply(STRUCTURED_REPLY, ACK, &[]))),
        ("has 65537 bytes", answering(GO, option_reply(GO, INFO, &[0; 65_537]))),
        ("is none", answering(GO, vec![0; 20])),
        ("1000 replies", answering(GO, option_reply(GO, INFO, &[0, 2, 65]).repeat(1001))),
        (
            "does not belong there",
            answering(STRUCTURED_REPLY, option_reply(STRUCTURED_REPLY, INFO, &[])),
        ),
        ("nobody asked for", answering(SET_META_CONTEXT, context("qemu:allocation-depth"))),
        ("twice", answering(SET_META_CONTEXT, context("base:allocation").repeat(2))),
        (
            "twice",
            answering(SET_META_CONTEXT, {
                [context("base:allocation"), context("qemu:dirty-bitmap:a")].concat()
            }),
        ),
        (
            "does not belong there",
            answering(SET_META_CONTEXT, {
                option_reply(SET_META_CONTEXT, META_CONTEXT, &[1, 2, 3])
            }),
        ),
    ];
    for (why, script) in lies {
        let error = connected(script);
        assert!(matches!(error.fault, Fault::Protocol(_)), "{why}: {error}");
        assert!(error.to_string().contains(why), "{why}: {error}");
    }
}

#[test]
fn refusals_are_told_as_what_they_are() {
    let refusal = |code: u32| option_reply(GO, (1 << 31) + code, b"no\x1b[2J way");
    let fault = |code| connected(answering(GO, refusal(code))).fault;
    assert!(matches!(fault(6), Fault::UnknownExport(said) if said.words() == "no [2J way"));
    assert!(matches!(fault(5), Fault::TlsNeeded));
    assert!(matches!(fault(7), Fault::ShuttingDown));
    assert!(matches!(fault(2), Fault::Refused { .. }));
    assert!(matches!(fault(1), Fault::Refused { .. }));
}

#[test]
fn silence_and_dribble_are_told_in_bounded_time() {
    // Nothing at all; half a greeting; a greeting without answers; an agreement without more.
    let stalling: Vec<Script> = vec![
        saying(b""),
        saying(b"NBDMAGICIHAV"),
        saying(b"NBDMAGICIHAVEOPT\0\x03"),
        Box::new(|mut stream| {
            agree(&mut stream, true);
            wait_for_end(&mut stream);
        }),
        Box::new(|mut stream| {
            agree(&mut stream, false);
            let asked = request(&mut stream).unwrap();
            say(&mut stream, &simple(asked.cookie, 0));
            say(&mut stream, &[0; 4095]);
            wait_for_end(&mut stream);
        }),
        // A byte now and then, each soon enough for a limit of each read.
        Box::new(|mut stream| {
            agree(&mut stream, true);
            let asked = request(&mut stream).unwrap();
            for byte in data(&asked, 1, 8192, &[5; 4096]) {
                std::thread::sleep(Duration::from_millis(100));
                if std::io::Write::write_all(&mut stream, &[byte]).is_err() {
                    break;
                }
            }
        }),
    ];
    for (number, script) in stalling.into_iter().enumerate() {
        let error = connected(script);
        assert!(matches!(error.fault, Fault::Stalled { .. }), "{number}: {error}");
        assert!(!error.is_permanent(), "{error}");
    }
}

#[test]
fn an_early_end_is_told() {
    let ending: Vec<Script> = vec![
        Box::new(drop),
        Box::new(|mut stream| say(&mut stream, b"NBDMAGICIHAVEOPT\0\x03")),
        Box::new(|mut stream| agree(&mut stream, true)),
        Box::new(|mut stream| {
            agree(&mut stream, true);
            let asked = request(&mut stream).unwrap();
            say(&mut stream, &data(&asked, 1, 8192, &[5; 4096])[..100]);
        }),
    ];
    for (number, script) in ending.into_iter().enumerate() {
        let error = connected(script);
        assert!(matches!(error.fault, Fault::Lost { .. }), "{number}: {error}");
        assert!(!error.is_permanent(), "{error}");
    }
}
