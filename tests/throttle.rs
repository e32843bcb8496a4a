//! Runs whose bandwidth is limited, with real disks and connections.
//!
//! What is asserted of time is that nothing is faster than its limit, which a slow host cannot make
//! wrong.

use afterimage::nbd::{
    Address, Client, Export, ExportError, Exports, Limits, Options, Server, Transport,
};
use afterimage::operations::{InitChoice, RestoreTask, Task, VerifyScope, init, perform};
use afterimage::progress::Progress;
use afterimage::report::ExitCode;
use afterimage::settings::Settings;
use afterimage::throttle::{Rate, Throttle, network};
use afterimage::units::Name;
use std::net::{Shutdown, TcpListener};
use std::num::NonZeroU64;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const DISK_BYTES: usize = 2 * MIB;

fn rate(bytes_per_s: usize) -> Rate {
    NonZeroU64::new(bytes_per_s as u64)
}

/// The least time in which so many bytes pass a limit; what may pass at once is a tenth of a second.
fn least(bytes: u64, bytes_per_s: usize) -> Duration {
    Duration::from_secs_f64((bytes as f64 / bytes_per_s as f64 - 0.1).max(0.0))
}

/// Bytes that no compression makes fewer.
fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as u8
    };
    (0..len).map(|_| next()).collect()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// A machine with one disk, a repository and a replica.
fn site(folder: &Path) -> Settings {
    let at = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        r#"
        state_dir = "{}"
        [repository.main]
        url = "{}"
        encryption = "none"
        [machine.web01]
        repository = "main"
        [[machine.web01.disk]]
        name = "root"
        source = {{ image = "{}" }}
        [replica.standby]
        machine = "web01"
        journal_dir = "{}"
        [[replica.standby.disk]]
        name = "root"
        target = {{ image = "{}" }}
        "#,
        at("state"),
        at("repository"),
        at("root.img"),
        at("standby"),
        at("standby.img")
    );
    let path = folder.join("afterimage.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(folder.join("root.img"), noise(DISK_BYTES, 7)).unwrap();
    let settings = Settings::load(&path).unwrap_or_else(|error| panic!("{error}"));
    init(&settings, &name("main"), InitChoice { recovery_key: false }).unwrap();
    settings
}

fn backup() -> Task {
    Task::Backup { machine: name("web01"), full_read: false, trust_changes: false }
}

#[test]
fn no_run_reads_faster_than_the_limit() {
    const RATE: usize = 4 * MIB;
    let folder = tempfile::tempdir().unwrap();
    let settings = site(folder.path());
    let restore = RestoreTask {
        machine: "web01".to_owned(),
        repository: None,
        disk: None,
        point: "latest".to_owned(),
        zone: None,
        to: folder.path().join("restored"),
        force: false,
        skip_damaged: false,
    };
    let tasks = [
        backup(),
        Task::Replicate { replica: name("standby"), adopt: false },
        Task::VerifyReplica { replica: name("standby") },
        Task::VerifyRepository { repository: name("main"), scope: VerifyScope::All },
        Task::Restore(restore),
    ];
    let throttle = Arc::new(Throttle::new(rate(RATE)));
    for task in tasks {
        let progress = Progress::default().limited(Arc::clone(&throttle));
        let begun = Instant::now();
        perform(&settings, &task, &progress, &|_| ()).unwrap_or_else(|failed| panic!("{failed}"));
        let (took, read) = (begun.elapsed(), progress.counts().read);
        assert!(read >= DISK_BYTES as u64, "{task:?} reads {read}");
        assert!(took >= least(read, RATE), "{task:?} reads {read} in {took:?}");
    }
}

#[test]
fn a_run_that_waits_for_the_limit_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let settings = site(folder.path());
    // All of it would take half a year.
    let throttle = Arc::new(Throttle::new(rate(1)));
    let progress = Progress::default().limited(throttle);
    let failed = std::thread::scope(|scope| {
        let run = scope.spawn(|| perform(&settings, &backup(), &progress, &|_| ()));
        while progress.counts().read == 0 && !run.is_finished() {
            std::thread::yield_now();
        }
        // If it did not have to wait, it would be done soon.
        std::thread::sleep(Duration::from_millis(300));
        progress.cancel();
        run.join().unwrap().unwrap_err()
    });
    assert_eq!(failed.exit_code(), ExitCode::Interrupted, "{failed}");
}

struct Memory(Mutex<Vec<u8>>);

impl Export for Memory {
    fn size_bytes(&self) -> u64 {
        self.0.lock().unwrap().len() as u64
    }

    fn is_writable(&self) -> bool {
        true
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), ExportError> {
        let start = offset as usize;
        buffer.copy_from_slice(&self.0.lock().unwrap()[start..start + buffer.len()]);
        Ok(())
    }

    fn write_at(&self, data: &[u8], offset: u64) -> Result<(), ExportError> {
        let start = offset as usize;
        self.0.lock().unwrap()[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn flush(&self) -> Result<(), ExportError> {
        Ok(())
    }
}

/// An NBD server of one empty disk.
fn server(place: &Transport) -> Server {
    let mut exports = Exports::default();
    exports.insert("disk", Arc::new(Memory(Mutex::new(vec![0; MIB])))).unwrap();
    Server::start(exports, place, None, Limits::default()).unwrap()
}

/// How long it takes to write the disk and to read it back.
fn there_and_back(address: &Address, options: &Options) -> Duration {
    let content = noise(MIB, 3);
    let client = Client::connect(address, options).unwrap();
    let begun = Instant::now();
    client.write_all_at(&content, 0).unwrap();
    let mut found = vec![0; MIB];
    client.read_exact_at(&mut found, 0).unwrap();
    assert!(found == content);
    begun.elapsed()
}

/// A TCP port that leads to a unix socket, for one connection. The relay has no limit.
fn relay(socket: PathBuf) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        let mut unix = UnixStream::connect(socket).unwrap();
        let (mut tcp_too, mut unix_too) = (tcp.try_clone().unwrap(), unix.try_clone().unwrap());
        std::thread::spawn(move || {
            // However it ends, the client sees it.
            let _ = std::io::copy(&mut tcp, &mut unix);
            let _ = unix.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut unix_too, &mut tcp_too);
        let _ = tcp_too.shutdown(Shutdown::Both);
    });
    port
}

// The limit is that of the whole process: no other test here uses the network.
#[test]
fn the_network_has_a_limit_that_is_no_fault_of_the_peer() {
    let tcp = |port| Transport::Tcp { host: "127.0.0.1".to_owned(), port };
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let local = server(&Transport::Unix { path: socket.clone() });
    let limited = server(&tcp(0));
    let options = Options { connections: 1, ..Options::default() };

    // Both ends are in this process, and each pays for both ways.
    network().set_rate(rate(4 * MIB));
    let took = there_and_back(&limited.address("disk").unwrap(), &options);
    assert!(took >= least(4 * MIB as u64, 4 * MIB), "{took:?}");

    // A request may take a second, and what is waited for the limit does not count.
    network().set_rate(rate(3 * MIB / 4));
    let hasty = Options { request_time_max: Duration::from_secs(1), ..options.clone() };
    let address = Address::new(tcp(relay(socket)), false, "disk").unwrap();
    let took = there_and_back(&address, &hasty);
    assert!(took >= least(2 * MIB as u64, 3 * MIB / 4), "{took:?}");

    // A unix socket is no network: at this rate it would take days, and be cut off.
    network().set_rate(rate(10));
    there_and_back(&local.address("disk").unwrap(), &hasty);

    // As after a reload that takes the limit away.
    network().set_rate(None);
    there_and_back(&limited.address("disk").unwrap(), &hasty);
}
