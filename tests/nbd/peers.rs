//! Servers of others, started and ended by the tests.

use afterimage::nbd::{Address, Client, Options};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server in its own process, killed when dropped.
pub struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// Starts a server that listens on `socket`, and waits until it does.
    pub fn start(command: &mut Command, socket: &Path) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("{command:?}: {error}; bash tests/run --install installs what is missing");
        });
        let mut daemon = Self { child, socket: socket.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !socket.exists() {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "{command:?} ends: {ended:?}");
            assert!(Instant::now() < deadline, "{command:?} does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    /// `qemu-nbd` with these arguments, for an export named `disk`.
    pub fn qemu(folder: &Path, arguments: &[&str]) -> Self {
        let socket = folder.join("qemu.sock");
        let mut command = Command::new("qemu-nbd");
        command.args(["--persistent", "--shared=8", "--export-name=disk", "--socket"]);
        Self::start(command.arg(&socket).args(arguments), &socket)
    }

    /// `nbdkit` with these arguments.
    pub fn nbdkit(folder: &Path, arguments: &[&str]) -> Self {
        let socket = folder.join("nbdkit.sock");
        let mut command = Command::new("nbdkit");
        command.args(["--foreground", "--exit-with-parent", "--unix"]);
        Self::start(command.arg(&socket).args(arguments), &socket)
    }

    pub fn address(&self, export: &str) -> Address {
        Address::unix(&self.socket, export).unwrap()
    }

    pub fn client(&self, export: &str) -> Client {
        self.client_with(export, &Options::default())
    }

    pub fn client_with(&self, export: &str, options: &Options) -> Client {
        Client::connect(&self.address(export), options).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it where it is: it does not answer, and its connections stay.
    pub fn freeze(&self) {
        let status = Command::new("kill").args(["-STOP", &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All bytes of an export.
pub fn content(client: &Client) -> Vec<u8> {
    let mut bytes = vec![0xee; usize::try_from(client.size_bytes()).unwrap()];
    client.read_exact_at(&mut bytes, 0).unwrap_or_else(|error| panic!("{error}"));
    bytes
}
