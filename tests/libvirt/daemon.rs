//! A libvirtd of a test's own.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command that must succeed; gives back its output.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    succeeded(Command::new(program).args(arguments).output().unwrap(), program, arguments)
}

#[track_caller]
fn succeeded(output: Output, program: &str, arguments: &[&str]) -> String {
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

/// A running libvirtd. It is killed with all its domains when this is dropped, or when the test dies.
pub struct Daemon {
    folder: PathBuf,
    process: Child,
}

/// Debian's user for the processes of domains, which not every part of libvirt's packages makes.
const QEMU_USER: &str = "libvirt-qemu:x:64055:64055::/nonexistent:/bin/false";
const QEMU_GROUP: &str = "libvirt-qemu:x:64055:";

impl Daemon {
    /// Starts one that keeps its files in `folder`.
    pub fn start(folder: &Path) -> Self {
        std::fs::create_dir_all(folder.join("etc")).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        let at = folder.display();
        write(
            "etc/libvirtd.conf",
            &format!(
                "unix_sock_dir = \"{at}\"\nauth_unix_rw = \"none\"\nauth_unix_ro = \"none\"\n\
                 unix_sock_rw_perms = \"0777\"\n"
            ),
        );
        // Nothing of the system's is used: no control groups, no name spaces, no log daemon.
        write(
            "etc/qemu.conf",
            "security_driver = \"none\"\nnamespaces = [ ]\ncgroup_controllers = [ ]\n\
             stdio_handler = \"file\"\n",
        );
        for (name, line) in [("passwd", QEMU_USER), ("group", QEMU_GROUP)] {
            let there = std::fs::read_to_string(Path::new("/etc").join(name)).unwrap();
            let mut text: String = there
                .lines()
                .filter(|it| !it.starts_with("libvirt-qemu:"))
                .fold(String::new(), |mut text, line| {
                    writeln!(text, "{line}").unwrap();
                    text
                });
            writeln!(text, "{line}").unwrap();
            write(name, &text);
        }
        write("run", &script(folder));
        let log = std::fs::File::create(folder.join("libvirtd.log")).unwrap();
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--mount-proc"])
            .args(["--kill-child", "--propagation", "private", "sh", "-e"])
            .arg(folder.join("run"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { folder: folder.to_owned(), process };
        wait_for("the start of libvirtd", || {
            daemon.try_virsh(&["list"]).status.success().then_some(())
        });
        daemon
    }

    pub fn uri(&self) -> String {
        format!("qemu+unix:///system?socket={}/libvirt-sock", self.folder.display())
    }

    pub fn try_virsh(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("virsh");
        command.env("LC_ALL", "C").args(["--connect", &self.uri()]).args(arguments);
        command.stdin(Stdio::null()).output().unwrap()
    }

    #[track_caller]
    pub fn virsh(&self, arguments: &[&str]) -> String {
        succeeded(self.try_virsh(arguments), "virsh", arguments)
    }
}

/// What is run with folders of its own; it is the first process of its kind, so that all others end
/// with it.
fn script(folder: &Path) -> String {
    let at = folder.display();
    format!(
        "for place in /run /var/lib /var/log /var/cache; do\n\
             mount -t tmpfs tmpfs $place\n\
             mkdir $place/libvirt\n\
         done\n\
         mkdir -p /run/lock\n\
         mount --bind {at}/etc /etc/libvirt\n\
         mount --bind {at}/passwd /etc/passwd\n\
         mount --bind {at}/group /etc/group\n\
         libvirtd --config {at}/etc/libvirtd.conf --pid-file {at}/pid &\n\
         wait\n"
    )
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
