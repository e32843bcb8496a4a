//! TLS, with certificates that `openssl` makes.

use crate::common::authority::Authority;
use crate::exports::{MemoryExport, named};
use crate::peers::{Daemon, content};
use crate::{run, run_in_vain};
use afterimage::nbd::{
    Address, Client, Fault, Identity, Limits, NbdError, Options, Server, ServerError, ServerTls,
    TlsOptions, Transport,
};
use afterimage::testing::noise;
use std::process::Command;

impl Authority {
    fn identity(&self, who: &str) -> Identity {
        let certificates = self.path(&format!("{who}-cert.pem"));
        Identity { certificates, key: self.path(&format!("{who}-key.pem")) }
    }

    fn options(&self, identity: Option<Identity>) -> Options {
        let authority = self.path("ca-cert.pem");
        let tls = Some(TlsOptions { authority, identity, server_name: None });
        Options { tls, ..Options::default() }
    }

    fn server(&self) -> ServerTls {
        let client_authority = Some(self.path("ca-cert.pem"));
        ServerTls { identity: self.identity("server"), client_authority }
    }
}

fn encrypted(address: &Address) -> Address {
    address.to_string().replacen("nbd", "nbds", 1).parse().unwrap()
}

fn refused(address: &Address, options: &Options) -> NbdError {
    Client::connect(address, options).expect_err("a connection that should be refused")
}

#[test]
fn nbdkit_is_spoken_to_over_tls_and_only_when_both_sides_are_who_they_say() {
    let folder = tempfile::tempdir().unwrap();
    let good = Authority::new(folder.path(), "good");
    let bad = Authority::new(folder.path(), "bad");
    let files = format!("--tls-certificates={}", good.folder.display());
    let arguments = ["--tls=require", "--tls-verify-peer", &files, "memory", "16M"];
    let server = Daemon::nbdkit(folder.path(), &arguments);
    let plain = server.address("");
    let address = encrypted(&plain);
    let client = Some(good.identity("client"));

    let connected = Client::connect(&address, &good.options(client.clone())).unwrap();
    let data = noise(1, 5 << 20);
    connected.write_all_at(&data, 12_345).unwrap();
    let read = content(&connected);
    assert!(read[12_345..12_345 + data.len()] == data);
    assert!(connected.connections() > 1);

    let tls_failed = |error: &NbdError| matches!(error.fault, Fault::Tls(_) | Fault::Lost { .. });
    let error = refused(&plain, &Options::default());
    assert!(matches!(error.fault, Fault::TlsNeeded), "{error}");
    let error = refused(&address, &Options::default());
    assert!(matches!(error.fault, Fault::NoAuthority), "{error}");
    let error = refused(&address, &bad.options(client));
    assert!(matches!(error.fault, Fault::Tls(_)), "{error}");
    for wrong in [None, Some(bad.identity("client"))] {
        let error = refused(&address, &good.options(wrong));
        assert!(tls_failed(&error), "{error}");
    }
    let mut elsewhere = good.options(Some(good.identity("client")));
    if let Some(tls) = &mut elsewhere.tls {
        tls.server_name = Some("elsewhere.example".into());
    }
    let error = refused(&address, &elsewhere);
    assert!(matches!(error.fault, Fault::Tls(_)), "{error}");
}

#[test]
fn a_server_without_tls_gets_nothing_where_tls_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let good = Authority::new(folder.path(), "good");
    let server = Daemon::nbdkit(folder.path(), &["memory", "1M"]);
    let error = refused(&encrypted(&server.address("")), &good.options(None));
    assert!(matches!(error.fault, Fault::TlsMissing(_)), "{error}");
    let mut options = good.options(None);
    for (file, why) in [("none.pem", "No such file"), ("server.ext", "no certificate")] {
        if let Some(tls) = &mut options.tls {
            tls.authority = good.path(file);
        }
        let error = refused(&encrypted(&server.address("")), &options);
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn the_server_insists_on_tls_over_tcp_and_on_known_clients() {
    let folder = tempfile::tempdir().unwrap();
    let good = Authority::new(folder.path(), "good");
    let bad = Authority::new(folder.path(), "bad");
    let bytes = noise(2, 3 << 20);
    let exports = named(&[("disk", MemoryExport::read_only(bytes.clone()))]);
    let place = Transport::Tcp { host: "localhost".into(), port: 0 };
    let server = Server::start(exports, &place, Some(&good.server()), Limits::default()).unwrap();
    let address = server.address("disk").unwrap();
    assert!(address.is_tls(), "{address}");

    let ours = Client::connect(&address, &good.options(Some(good.identity("client")))).unwrap();
    assert!(content(&ours) == bytes);
    let uri = |authority: &Authority| {
        format!("{address}?tls-certificates={}", authority.folder.display())
    };
    let image = folder.path().join("copy.raw");
    run(Command::new("nbdcopy").arg(uri(&good)).arg(&image));
    assert!(std::fs::read(&image).unwrap() == bytes);
    run_in_vain(Command::new("nbdinfo").arg(uri(&bad)));
    let plain = address.to_string().replacen("nbds", "nbd", 1);
    run_in_vain(Command::new("nbdinfo").arg(&plain));
    let error = refused(&plain.parse().unwrap(), &Options::default());
    assert!(matches!(error.fault, Fault::TlsNeeded), "{error}");
    refused(&address, &good.options(None));
    refused(&address, &good.options(Some(bad.identity("client"))));
    // It still serves those that it knows.
    assert!(content(&ours) == bytes);
}

#[test]
fn other_hosts_are_served_only_with_certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let good = Authority::new(folder.path(), "good");
    let place = Transport::Tcp { host: "0.0.0.0".into(), port: 0 };
    let anyone = ServerTls { client_authority: None, ..good.server() };
    for tls in [None, Some(&anyone)] {
        let started = Server::start(named(&[]), &place, tls, Limits::default());
        assert!(matches!(started.err(), Some(ServerError::Unprotected { .. })));
    }
    Server::start(named(&[]), &place, Some(&good.server()), Limits::default()).unwrap().stop();
}
