//! Peers that do what they should not.

use crate::client::{self, request};
use crate::world::{LOOPBACK, World};
use afterimage::api::Limits;
use afterimage::catalog::Scope;
use afterimage::daemon::DaemonHandle;
use afterimage::report::EventKind;
use afterimage::testing::Random;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Memory of this process, in KiB.
fn memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The most by which memory may grow meanwhile.
const GROWTH_KIB: u64 = 64 * 1024;

fn assert_answers(world: &World, token: &str) {
    let began = Instant::now();
    assert_eq!(world.remote("GET", "/v1/health", None, None).status, 200);
    assert_eq!(world.remote("GET", "/v1/live", Some(token), None).status, 200);
    assert_eq!(world.local("GET", "/v1/live", None).status, 200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn malformed_requests_are_refused_and_harm_nothing() {
    let world = World::new();
    let token = world.token("all", &[Scope::Admin], None);
    let good = request("POST", "/v1/pause", Some(&token), Some(r#"{"subject":"all"}"#));
    let before = memory_kib();
    let mut texts: Vec<Vec<u8>> = [
        "", "\r\n\r\n", "GET", "GET / HTTP/9.9\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n",
        "GET /v1/live HTTP/1.1\r\n\r\n",
        "GET /v1/%00%ff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /v1/runs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "GET /v1/live HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \u{e9}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec();
    let mut random = Random::new(20_261_128);
    for _ in 0..300 {
        let mut changed = good.clone().into_bytes();
        for _ in 0..1 + random.below(4) {
            let at = random.below(changed.len() as u64) as usize;
            changed[at] = random.below(256) as u8;
        }
        texts.push(changed);
    }
    for text in texts {
        let mut stream = client::tcp(world.address);
        // Whoever is refused early may not be listened to until the end.
        let _ = stream.write_all(&text);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let text = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || text.starts_with("HTTP/1.1 "), "{text}");
        assert!(!text.starts_with("HTTP/1.1 500"), "{text}");
    }
    assert_answers(&world, &token);
    assert!(memory_kib() < before + GROWTH_KIB, "{} KiB more", memory_kib() - before);
}

#[test]
fn huge_requests_are_cut_off() {
    let world = World::new();
    let token = world.token("all", &[Scope::Admin], None);
    let before = memory_kib();
    // A body that is told to be too long, one that turns out to be, and an endless head.
    let body = format!(r#"{{"subject":"{}"}}"#, "a".repeat(64 * 1024));
    let answer = world.remote("POST", "/v1/pause", Some(&token), Some(&body));
    assert_eq!(answer.status, 413, "{answer:?}");
    let head = request("POST", "/v1/pause", Some(&token), None);
    let chunked = head.replace(
        "\r\n\r\n",
        "\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let piece = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    assert_refused(&world, chunked.as_bytes(), piece.as_bytes(), &["413"]);
    let line = format!("X-Long: {}\r\n", "a".repeat(4000));
    assert_refused(&world, b"GET /v1/live HTTP/1.1\r\n", line.as_bytes(), &["431", "400"]);
    let many = "A: b\r\n";
    assert_refused(&world, b"GET /v1/live HTTP/1.1\r\n", many.as_bytes(), &["431", "400"]);
    let path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(1 << 20));
    assert_refused(&world, path.as_bytes(), b"", &["414", "431", "400"]);
    assert_answers(&world, &token);
    assert!(memory_kib() < before + GROWTH_KIB, "{} KiB more", memory_kib() - before);
}

/// Sends a beginning and then the same piece again and again, at most 16 MiB of it.
fn assert_refused(world: &World, begin: &[u8], piece: &[u8], wanted: &[&str]) {
    let mut stream = client::tcp(world.address);
    let mut sent = 0;
    let mut result = stream.write_all(begin);
    while result.is_ok() && !piece.is_empty() && sent < 16 << 20 {
        result = stream.write_all(piece);
        sent += piece.len();
    }
    assert!(sent < 16 << 20, "everything was taken");
    let mut answer = [0; 12];
    // The answer may be lost when the connection is reset.
    if stream.read_exact(&mut answer).is_ok() {
        let status = std::str::from_utf8(&answer[9..]).unwrap();
        assert!(wanted.contains(&status), "{status}");
    }
}

#[test]
fn idle_and_slow_connections_neither_stop_nor_grow_it() {
    let limits = Limits { connections: 60, per_address: 30, ..Limits::default() };
    let world = World::with(LOOPBACK, limits);
    let token = world.token("all", &[Scope::Admin], None);
    let before = memory_kib();
    let mut open: Vec<TcpStream> = Vec::new();
    for number in 0..400 {
        let mut stream = client::tcp(world.address);
        match number % 4 {
            0 => {}
            // Heads that come a byte at a time.
            1 => stream.write_all(b"GET /v1/li").unwrap_or_default(),
            2 => stream.write_all(b"GET /v1/live HTTP/1.1\r\nHost: loc").unwrap_or_default(),
            // Kept open after an answer.
            _ => {
                let health = "GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
                stream.write_all(health.as_bytes()).unwrap_or_default();
            }
        }
        open.push(stream);
        if number % 100 == 99 {
            assert_answers(&world, &token);
        }
    }
    for stream in &mut open {
        let _ = stream.write_all(b"v");
    }
    assert_answers(&world, &token);
    assert!(memory_kib() < before + GROWTH_KIB, "{} KiB more", memory_kib() - before);
    // Most of them were closed to make room.
    let closed = open.iter_mut().map(is_closed).filter(|closed| *closed).count();
    assert!(closed >= 400 - 60, "only {closed}");
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => {
                let waits = [std::io::ErrorKind::WouldBlock, std::io::ErrorKind::TimedOut];
                return !waits.contains(&error.kind());
            }
        }
    }
}

#[test]
fn a_head_that_never_ends_and_an_idle_connection_are_closed_in_time() {
    let limits = Limits { head: Duration::from_millis(300), ..Limits::default() };
    let world = World::with(LOOPBACK, limits);
    for begin in
        ["", "GET /v1/health HTTP/1.1\r\n", "GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"]
    {
        let mut stream = client::tcp(world.address);
        stream.write_all(begin.as_bytes()).unwrap();
        let began = Instant::now();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(began.elapsed() < Duration::from_secs(20), "{begin}");
    }
}

#[test]
fn a_stream_that_is_not_read_is_cut_and_the_others_go_on() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let world = World::with(LOOPBACK, limits);
    let token = world.token("all", &[Scope::Read], None);
    let mut stuck = client::tcp(world.address);
    stuck.write_all(request("GET", "/v1/events", Some(&token), None).as_bytes()).unwrap();
    let before = memory_kib();
    let note = Some("a".repeat(60_000));
    world.daemon.pause("all", note, None, "test").unwrap();
    let began = Instant::now();
    // More than any buffer on the way takes.
    let mut is_cut = false;
    while !is_cut && began.elapsed() < Duration::from_secs(20) {
        for _ in 0..100 {
            let pauses = world.daemon.pauses();
            world.daemon.happen(None, None, EventKind::Paused { pauses });
        }
        std::thread::sleep(Duration::from_millis(50));
        // A peer that is cut off can send no more.
        is_cut = stuck.write_all(b"x").is_err();
    }
    assert!(is_cut);
    assert_answers(&world, &token);
    assert!(memory_kib() < before + GROWTH_KIB, "{} KiB more", memory_kib() - before);
}

#[test]
fn wrong_tokens_are_answered_more_slowly_and_good_ones_are_not() {
    let world = World::new();
    let token = world.token("all", &[Scope::Read], None);
    let wrong = format!("aft_{}", "A".repeat(43));
    let began = Instant::now();
    for _ in 0..7 {
        assert_eq!(world.remote("GET", "/v1/live", Some(&wrong), None).status, 401);
    }
    // 0, 0, 0, 50, 100, 200 and 400 ms.
    assert!(began.elapsed() >= Duration::from_millis(750), "{:?}", began.elapsed());
    assert_eq!(world.remote("GET", "/v1/live", Some(&token), None).status, 200);
}
