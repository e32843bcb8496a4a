//! A QEMU that runs for a test: with a guest that writes all the time, or paused with empty disks,
//! which is enough for most tests and starts at once.
//!
//! `AFTERIMAGE_QEMU` names another `qemu-system-x86_64`, such as one of another version.

use afterimage::qmp::Monitor;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Sizes of the disks of a machine without a guest.
pub const ROOT_BYTES: u64 = 16 << 20;
pub const DATA_BYTES: u64 = 8 << 20;

/// Runs a command that must succeed; gives back its output.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {out}{err}");
    out.into_owned()
}

/// Waits until something is so.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The folder with the guest, made once.
fn guest() -> &'static Path {
    static GUEST: OnceLock<PathBuf> = OnceLock::new();
    GUEST.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest");
        // Tests run in several processes.
        let lock = folder.with_extension("lock");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guest/make");
        run("flock", &[lock.to_str().unwrap(), "bash", script, folder.to_str().unwrap()]);
        folder
    })
}

/// A running QEMU; it is killed when this is dropped. Its disk `root` is a qcow2 image, `data` a raw
/// one, which cannot store bitmaps.
pub struct Machine {
    pub folder: PathBuf,
    process: Child,
    has_guest: bool,
}

impl Machine {
    /// A machine whose guest writes all the time, when its agent is ready.
    pub fn with_guest(folder: &Path) -> Self {
        let guest = guest();
        let (from, to) = (guest.join("root.raw"), folder.join("root.qcow2"));
        let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
        run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", from, to]);
        std::fs::copy(guest.join("data.raw"), folder.join("data.raw")).unwrap();
        let machine =
            Self { folder: folder.to_owned(), process: start(folder, true), has_guest: true };
        machine.wait_until_ready();
        machine
    }

    /// A machine that is paused for ever.
    pub fn paused(folder: &Path) -> Self {
        let root = folder.join("root.qcow2");
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", root.to_str().unwrap(), &ROOT_BYTES.to_string()],
        );
        std::fs::File::create(folder.join("data.raw")).unwrap().set_len(DATA_BYTES).unwrap();
        let machine =
            Self { folder: folder.to_owned(), process: start(folder, false), has_guest: false };
        machine.wait_until_ready();
        machine
    }

    fn wait_until_ready(&self) {
        let serial = self.folder.join("serial.log");
        wait_for("the start of QEMU", || self.qmp().exists().then_some(()));
        if self.has_guest {
            wait_for("the start of the guest", || {
                std::fs::read_to_string(&serial).ok()?.contains("GUEST-READY").then_some(())
            });
        }
    }

    /// The monitor for who captures. The tests have one of their own.
    pub fn qmp(&self) -> PathBuf {
        self.folder.join("qmp.sock")
    }

    pub fn agent(&self) -> PathBuf {
        self.folder.join("agent.sock")
    }

    pub fn monitor(&self) -> Monitor {
        wait_for("a connection to QEMU", || {
            Monitor::connect(&self.folder.join("test.sock"), PATIENCE).ok()
        })
    }

    #[track_caller]
    pub fn execute(&self, command: &str, arguments: Value) -> Value {
        self.monitor().execute(command, arguments).unwrap()
    }

    /// Writes to a disk as its guest would.
    #[track_caller]
    pub fn write(&self, disk: &str, pattern: u8, offset: u64, len: u64) {
        self.qemu_io(disk, &format!("write -P {pattern} {offset} {len}"));
    }

    #[track_caller]
    pub fn qemu_io(&self, disk: &str, command: &str) {
        let device = format!("/machine/peripheral/{disk}/virtio-backend");
        let line = format!("qemu-io -d {device} \"{command}\"");
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }));
        assert!(!answer.as_str().unwrap().contains("rror"), "{line}: {answer}");
    }

    /// All that carries a mark of afterimage: exports, jobs, nodes, objects, bitmaps and files.
    pub fn marked(&self) -> Vec<String> {
        let mut monitor = self.monitor();
        let mut marked = Vec::new();
        let mut look = |command: &str, arguments: Value, key: &str| {
            let listed = monitor.execute(command, arguments).unwrap();
            let names = listed.as_array().unwrap().iter().filter_map(|it| it[key].as_str());
            marked.extend(names.filter(|it| it.starts_with("afterimage-")).map(str::to_owned));
        };
        look("query-block-exports", json!({}), "id");
        look("query-jobs", json!({}), "id");
        look("query-named-block-nodes", json!({ "flat": true }), "node-name");
        look("qom-list", json!({ "path": "/objects" }), "name");
        // It serves one client at a time.
        drop(monitor);
        marked.extend(self.bitmaps().into_iter().filter(|it| it.starts_with("afterimage-")));
        for folder in [self.folder.clone(), std::env::temp_dir()] {
            let names = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
            let names = names.map(|name| name.to_string_lossy().into_owned());
            // Other tests' sockets have other owners.
            let is_ours = |name: &String| name.starts_with(&super::lab::mark_prefix(&self.folder));
            marked.extend(names.filter(is_ours));
        }
        marked
    }

    /// Names of all bitmaps, once for each disk.
    pub fn bitmaps(&self) -> Vec<String> {
        let nodes = self.execute("query-named-block-nodes", json!({ "flat": true }));
        let mut names = Vec::new();
        for node in nodes.as_array().unwrap() {
            let bitmaps = node["dirty-bitmaps"].as_array().into_iter().flatten();
            names.extend(bitmaps.filter_map(|it| Some(it["name"].as_str()?.to_owned())));
        }
        names.retain(|name| !name.is_empty());
        names
    }

    /// The node of a disk.
    pub fn node(&self, disk: &str) -> String {
        let devices = self.execute("query-block", json!({}));
        let path = format!("/machine/peripheral/{disk}/virtio-backend");
        let device = devices.as_array().unwrap().iter().find(|it| it["qdev"] == path.as_str());
        device.unwrap()["inserted"]["node-name"].as_str().unwrap().to_owned()
    }

    /// Ends QEMU in an orderly way, and starts it anew from the same images.
    pub fn restart(&mut self) {
        self.stop();
        self.start_again();
    }

    pub fn stop(&mut self) {
        self.execute("quit", json!({}));
        self.process.wait().unwrap();
    }

    /// As a power cut.
    pub fn kill_and_restart(&mut self) {
        self.kill();
        self.start_again();
    }

    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        for socket in ["qmp.sock", "test.sock", "agent.sock", "serial.log"] {
            let _ = std::fs::remove_file(self.folder.join(socket));
        }
        self.process = start(&self.folder, self.has_guest);
        self.wait_until_ready();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn start(folder: &Path, with_guest: bool) -> Child {
    let program = std::env::var("AFTERIMAGE_QEMU").unwrap_or("qemu-system-x86_64".to_owned());
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    for arguments in [
        "-accel tcg -M q35 -cpu qemu64 -nodefaults -display none -no-reboot",
        "-qmp unix:qmp.sock,server=on,wait=off -qmp unix:test.sock,server=on,wait=off",
        "-blockdev driver=file,filename=root.qcow2,node-name=root-file,discard=unmap",
        "-blockdev driver=qcow2,file=root-file,node-name=root-node,discard=unmap",
        "-device virtio-blk-pci,drive=root-node,id=root,serial=root",
        // Its node gets a name from QEMU, another one each time.
        "-drive if=none,id=data-drive,format=raw,file=data.raw,discard=unmap",
        "-device virtio-blk-pci,drive=data-drive,id=data",
    ] {
        // Images by their whole path, as they have to be found by it.
        let named = |word: &str| {
            let folder = folder.display();
            word.replace("=root.qcow2", &format!("={folder}/root.qcow2"))
                .replace("=data.raw", &format!("={folder}/data.raw"))
        };
        command.args(arguments.split(' ').map(named));
    }
    if with_guest {
        command.args("-m 192 -serial file:serial.log -device virtio-serial-pci".split(' '));
        command.args("-chardev socket,path=agent.sock,server=on,wait=off,id=agent".split(' '));
        command.args(["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]);
        command.arg("-kernel").arg(guest().join("kernel"));
        command.arg("-initrd").arg(guest().join("initrd"));
        command.args(["-append", "console=ttyS0 quiet mitigations=off panic=-1"]);
    } else {
        command.args(["-m", "64", "-S"]);
    }
    let log = std::fs::File::create(folder.join("qemu.log")).unwrap();
    command.stderr(log).spawn().unwrap()
}
