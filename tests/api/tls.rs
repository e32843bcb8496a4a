//! TLS, with certificates that `openssl` makes.

use crate::authority::Authority;
use crate::world::{Listen, World};
use afterimage::api::{ApiServer, Limits};
use afterimage::catalog::Scope;
use afterimage::daemon::DaemonHandle;
use afterimage::settings::{ApiSettings, ApiTlsSettings, Settings};
use reqwest::blocking::Client;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// A certificate of the authority `name`, in place of one that is there.
fn certificate(folder: &Path, name: &str) -> (ApiTlsSettings, Authority) {
    let authority = Authority::new(folder, name);
    for (from, to) in [("server-cert.pem", "api.crt"), ("server-key.pem", "api.key")] {
        std::fs::copy(authority.path(from), folder.join(to)).unwrap();
    }
    (ApiTlsSettings { certificate: folder.join("api.crt"), key: folder.join("api.key") }, authority)
}

/// A client that believes what the authority signed, and nothing else.
fn client(authority: &Authority) -> Client {
    // Others may have chosen already, which is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = std::fs::read(authority.path("ca-cert.pem")).unwrap();
    let own = reqwest::Certificate::from_pem(&text).unwrap();
    Client::builder().tls_certs_only([own]).timeout(Duration::from_secs(20)).build().unwrap()
}

#[test]
fn another_address_answers_with_tls_and_tokens_only() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, authority) = certificate(folder.path(), "one");
    let listen = Listen { at: "0.0.0.0:0", tls: Some(tls.clone()) };
    let limits = Limits { handshake: Duration::from_millis(500), ..Limits::default() };
    let world = World::with(listen, limits);
    let token = world.token("all", &[Scope::Read], None);
    let port = world.address.port();
    let client = client(&authority);
    let get = |path: &str| client.get(format!("https://127.0.0.1:{port}{path}"));
    for rule in ApiServer::rules().iter().filter(|rule| rule.method == "GET") {
        let status = get(&rule.path.replace("{id}", "0000")).send().unwrap().status();
        assert_eq!(status, if rule.path == "/v1/health" { 200 } else { 401 }, "{rule:?}");
    }
    assert_eq!(get("/v1/live").bearer_auth(&token).send().unwrap().status(), 200);
    // Without TLS, and with none at all.
    let plain = crate::client::request("GET", "/v1/health", None, None);
    let mut answer = Vec::new();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(plain.as_bytes()).unwrap();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"));
    let mut silent = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0, "it is closed without a word");
}

#[test]
fn a_new_certificate_counts_after_a_reload_and_a_bad_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, authority) = certificate(folder.path(), "one");
    let listen = Listen { at: "127.0.0.1:0", tls: Some(tls.clone()) };
    let world = World::with(listen, Limits::default());
    let server = world.server.as_ref().unwrap();
    let settings = world.daemon.settings();
    let url = format!("https://127.0.0.1:{}/v1/health", world.address.port());
    let old = client(&authority);
    assert_eq!(old.get(&url).send().unwrap().status(), 200);
    std::fs::write(&tls.certificate, "no certificate").unwrap();
    let problem = server.reload(&settings).unwrap_err().to_string();
    assert!(problem.contains("api.crt"), "{problem}");
    assert_eq!(old.get(&url).send().unwrap().status(), 200, "the old one stays");
    let (_, other) = certificate(folder.path(), "other");
    assert_eq!(server.reload(&settings).unwrap(), [""; 0]);
    assert_eq!(client(&other).get(&url).send().unwrap().status(), 200);
    let listen = "127.0.0.1:9".parse().unwrap();
    let other = Settings { api: Some(ApiSettings { listen, tls: None }), ..(*settings).clone() };
    assert_eq!(server.reload(&other).unwrap().len(), 2, "both need a new start");
}
