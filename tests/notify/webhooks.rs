//! Webhooks, against a server that does what servers should and should not do.

use crate::common::authority::Authority;
use crate::http_server::{Answer, HttpServer};
use crate::site::{Site, failed, until};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

fn hmac_hex(secret: &[u8], text: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

#[test]
fn a_notification_arrives_signed_and_as_it_is_documented() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    site.webhook("ops", &format!("https://localhost:{}/hook?key=T0KEN", server.port));
    let notifier = site.notifier();
    notifier.observe(&[failed("web01")], site.now).unwrap();
    until("a request", || !server.received().is_empty());
    let received = server.received().remove(0);
    assert_eq!(received.line, "POST /hook?key=T0KEN HTTP/1.1");
    let seconds = site.now.as_second().to_string();
    let mut signed = format!("{seconds}.").into_bytes();
    signed.extend(&received.body);
    let expected = format!("t={seconds},v1={}", hmac_hex(b"hush-hush", &signed));
    assert_eq!(received.headers["afterimage-signature"], expected);
    assert_eq!(received.headers["afterimage-timestamp"], seconds);
    assert_eq!(received.headers["content-type"], "application/json");
    let json = received.json();
    assert_eq!(received.headers["afterimage-id"], json["id"].as_str().unwrap());
    assert_eq!(json["id"].as_str().unwrap().len(), 32);
    for (field, value) in [
        ("kind", "began"),
        ("category", "failure"),
        ("severity", "error"),
        ("time", "2026-11-28T08:00:00Z"),
        ("host", "host01"),
        ("title", "backup of web01 failed"),
        ("text", "the disk /dev/vda cannot be read"),
        ("next", "afterimage backup web01"),
    ] {
        assert_eq!(json[field], value, "{field}");
    }
    assert_eq!(json["version"], 1);
    assert_eq!(json["condition"]["what"], "run-failed");
    assert_eq!(json["condition"]["began"], json["id"]);
    let document = include_str!("../../docs/notifications.md");
    for field in json.as_object().unwrap().keys() {
        assert!(document.contains(&format!("`{field}`")), "{field} is not documented");
    }
}

#[test]
fn every_bad_answer_is_an_error_in_bounded_time_that_tells_no_part_of_the_address() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    let elsewhere = HttpServer::start(site.tls());
    site.webhook("ops", &format!("https://localhost:{}/hook/T0KEN?key=T0KEN", server.port));
    site.sender.attempt_max = Duration::from_secs(2);
    let other = format!("https://localhost:{}/T0KEN", elsewhere.port);
    for (answer, why) in [
        (Answer::Status(500), "500"),
        (Answer::Status(404), "404"),
        (Answer::Redirect(other), "redirects are not followed"),
        (Answer::EndlessBody(503), "503"),
        (Answer::EndlessHeaders, "cannot be reached"),
        (Answer::ClosesEarly, "cannot be reached"),
        (Answer::Silence, "within 2 s"),
    ] {
        server.next([answer.clone()]);
        let began = Instant::now();
        let error = site.test_error();
        assert!(error.contains(why), "{answer:?}: {error}");
        assert!(!error.contains("T0KEN") && !error.contains("hush"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "{answer:?}");
    }
    assert_eq!(elsewhere.connections(), 0);
    // A body that has no end says nothing against the status before it.
    server.next([Answer::EndlessBody(200)]);
    assert_eq!(site.test().problem, None);
}

#[test]
fn private_addresses_are_not_connected_to_unless_that_is_allowed() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    for host in
        ["localhost", "127.0.0.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"]
    {
        let url = format!("https://{host}:{}/", server.port);
        site.webhook("ops", &url).allow_private = false;
        let error = site.test_error();
        assert!(error.contains("allow_private"), "{host}: {error}");
    }
    assert_eq!(server.connections(), 0);
    for host in ["localhost", "127.0.0.1"] {
        site.webhook("ops", &format!("https://{host}:{}/", server.port));
        assert_eq!(site.test().problem, None, "{host}");
    }
}

#[test]
fn nothing_leaves_for_the_internet_without_tls() {
    let mut site = Site::new();
    let server = HttpServer::start(None);
    // It is an address of the internet, to which nothing is sent.
    site.webhook("ops", "http://1.1.1.1/");
    assert!(site.test_error().contains("without TLS"));
    site.webhook("ops", "ftp://localhost/");
    assert!(site.test_error().contains("https://"));
    site.webhook("ops", "https://user:T0KEN@localhost/");
    let error = site.test_error();
    assert!(error.contains("names a user") && !error.contains("T0KEN"), "{error}");
    site.webhook("ops", &format!("http://localhost:{}/", server.port)).allow_private = false;
    assert_eq!(site.test().problem, None);
    site.webhook("ops", "http://10.255.255.1/").allow_private = false;
    assert!(site.test_error().contains("without TLS"));
}

#[test]
fn a_server_that_nobody_vouches_for_gets_nothing() {
    let mut site = Site::new();
    let bad = Authority::new(site.folder.path(), "bad");
    let server = HttpServer::start(site.tls());
    let url = format!("https://localhost:{}/", server.port);
    site.webhook("ops", &url).authority = Some(bad.path("ca-cert.pem"));
    let error = site.test_error();
    assert!(error.contains("certificate"), "{error}");
    site.webhook("ops", &url).authority = None;
    let error = site.test_error();
    assert!(error.contains("certificate"), "{error}");
    assert!(server.received().is_empty());
}

#[test]
fn a_secret_is_read_anew_and_a_missing_one_is_named() {
    let mut site = Site::new();
    let server = HttpServer::start(site.tls());
    let url = format!("https://localhost:{}/", server.port);
    let file = site.webhook("ops", &url).secret_file.clone().unwrap();
    std::fs::write(&file, "another").unwrap();
    assert_eq!(site.test().problem, None);
    let received = server.received().remove(0);
    let mut signed = format!("{}.", site.now.as_second()).into_bytes();
    signed.extend(&received.body);
    let mac = hmac_hex(b"another", &signed);
    assert!(received.headers["afterimage-signature"].ends_with(&mac));
    for content in [Some(&b"\n"[..]), Some(&b"\xff"[..]), None] {
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let error = site.test_error();
        assert!(error.contains("ops.secret"), "{error}");
    }
    assert_eq!(server.received().len(), 1);
}

#[test]
fn proxies_of_the_environment_are_not_used() {
    const CHILD: &str = "AFTERIMAGE_TEST_PROXY";
    if std::env::var(CHILD).is_ok() {
        let mut site = Site::new();
        let server = HttpServer::start(site.tls());
        site.webhook("ops", &format!("https://localhost:{}/", server.port));
        assert_eq!(site.test().problem, None);
        return;
    }
    let proxy = HttpServer::start(None);
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["webhooks::proxies_of_the_environment_are_not_used", "--exact"])
        .env(CHILD, "1")
        .envs(["HTTPS_PROXY", "https_proxy", "ALL_PROXY"].map(|name| (name, &address)))
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert_eq!(proxy.connections(), 0);
}
