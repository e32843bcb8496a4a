//! A site with one machine that was backed up, and the server before it.

use crate::client::{self, Answer, request, talk};
use crate::stand_in::{StandIn, name};
use afterimage::api::{ApiServer, Limits};
use afterimage::audit::{AuditLine, AuditLog, Rotation, read_lines};
use afterimage::catalog::{Added, History, Scope, TokenGrant};
use afterimage::fsio::RealFileSystem;
use afterimage::operations::{InitChoice, Reading, backup_machine, init};
use afterimage::progress::Progress;
use afterimage::settings::{ApiSettings, ApiTlsSettings, Settings};
use jiff::Timestamp;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub struct World {
    pub folder: tempfile::TempDir,
    pub daemon: Arc<StandIn>,
    pub audit: Arc<AuditLog>,
    pub socket: PathBuf,
    pub address: SocketAddr,
    pub server: Option<ApiServer>,
    runtime: tokio::runtime::Runtime,
}

/// What is listened at.
pub struct Listen {
    pub at: &'static str,
    pub tls: Option<ApiTlsSettings>,
}

pub const LOOPBACK: Listen = Listen { at: "127.0.0.1:0", tls: None };

/// Settings of two machines, of which the first has a replica.
fn settings(folder: &std::path::Path, listen: Listen) -> Settings {
    let text = r#"
        state_dir = "state"
        [repository.main]
        url = "repository"
        encryption = "none"
        [machine.web01]
        repository = "main"
        [[machine.web01.disk]]
        name = "root"
        source = { image = "root.raw", format = "raw", quiesced = true }
        [machine.web02]
        repository = "main"
        [[machine.web02.disk]]
        name = "root"
        source = { image = "other.raw", format = "raw", quiesced = true }
        [replica.web01-standby]
        machine = "web01"
        journal_dir = "standby"
        [[replica.web01-standby.disk]]
        name = "root"
        target = { image = "standby.raw" }
    "#;
    let mut settings = Settings::parse(text, &folder.join("afterimage.toml")).unwrap();
    settings.api = Some(ApiSettings { listen: listen.at.parse().unwrap(), tls: listen.tls });
    settings
}

impl World {
    pub fn new() -> Self {
        Self::with(LOOPBACK, Limits::default())
    }

    pub fn with(listen: Listen, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path(), listen);
        std::fs::write(folder.path().join("root.raw"), vec![7; 64 * 1024]).unwrap();
        init(&settings, &name("main"), InitChoice { recovery_key: false }).unwrap();
        let progress = Progress::default();
        backup_machine(&settings, &name("web01"), Reading::Changes, &progress).unwrap();
        let fs = RealFileSystem::shared();
        let audit = Arc::new(AuditLog::new(&fs, &settings.state_dir, Rotation::default()));
        let socket = settings.daemon.socket.clone();
        let daemon = StandIn::new(settings);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let handle = Arc::clone(&daemon);
        let server = runtime.block_on(ApiServer::start(handle, Arc::clone(&audit), limits));
        let server = server.unwrap();
        let address = server.address().unwrap();
        Self { folder, daemon, audit, socket, address, server: Some(server), runtime }
    }

    pub fn history(&self) -> &History {
        afterimage::daemon::DaemonHandle::history(self.daemon.as_ref())
    }

    /// A token, by its name.
    pub fn token(&self, own: &str, scopes: &[Scope], machines: Option<&[&str]>) -> String {
        let machines = machines.map(|all| all.iter().map(|it| name(it)).collect());
        let scopes = scopes.iter().copied().collect();
        self.add(own, &TokenGrant { scopes, machines, created: Timestamp::now(), expires: None })
    }

    pub fn add(&self, own: &str, grant: &TokenGrant) -> String {
        match self.history().add_token(&name(own), grant).unwrap() {
            Added::Token(secret) => secret.reveal().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// As root or the daemon's own user, over the socket.
    pub fn local(&self, method: &str, path: &str, body: Option<&str>) -> Answer {
        let text = request(method, path, None, body);
        talk(client::unix(&self.socket), text.as_bytes()).unwrap()
    }

    pub fn remote(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&str>,
    ) -> Answer {
        let text = request(method, path, token, body);
        talk(client::tcp(self.address), text.as_bytes()).unwrap()
    }

    pub fn raw(&self, bytes: &[u8]) -> Option<Answer> {
        talk(client::tcp(self.address), bytes)
    }

    pub fn lines(&self) -> Vec<AuditLine> {
        read_lines(&self.audit, None, 100_000).unwrap()
    }

    pub fn stop(&mut self, grace: Duration) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop(grace));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop(Duration::from_millis(100));
    }
}
