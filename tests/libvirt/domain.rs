//! A domain that a test defines: with a guest that writes all the time, or paused with empty disks,
//! which is enough for most tests and starts at once.

use super::daemon::{Daemon, run, wait_for};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub const DOMAIN: &str = "web01";
/// The disks that libvirt finds: two qcow2 images, with checkpoints, and a raw one, without.
pub const DISKS: [&str; 3] = ["vda", "vdb", "vdc"];
const EMPTY_BYTES: &str = "16M";
pub const RAW_BYTES: u64 = 4 << 20;

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

/// A domain of a daemon of its own.
pub struct Domain {
    pub folder: PathBuf,
    pub daemon: Daemon,
}

impl Domain {
    /// Runs, with a guest that writes all the time, and its agent is ready.
    pub fn with_guest(folder: &Path) -> Self {
        let guest = guest();
        for name in ["kernel", "initrd"] {
            // libvirt gives them to the user of QEMU.
            std::fs::copy(guest.join(name), folder.join(name)).unwrap();
        }
        for (disk, from) in [("vda", "root.raw"), ("vdb", "data.raw")] {
            let (from, to) = (guest.join(from), folder.join(format!("{disk}.qcow2")));
            let (from, to) = (from.to_str().unwrap(), to.to_str().unwrap());
            run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", from, to]);
        }
        let domain = Self::define(folder, true);
        domain.virsh(&["start", DOMAIN]);
        wait_for("the start of the guest", || {
            let said = std::fs::read_to_string(folder.join("serial.log")).ok()?;
            said.contains("GUEST-READY").then_some(())
        });
        wait_for("the guest's agent", || {
            let ping = ["domfsthaw", DOMAIN];
            domain.daemon.try_virsh(&ping).status.success().then_some(())
        });
        domain
    }

    /// Runs, but is paused for ever.
    pub fn paused(folder: &Path) -> Self {
        let domain = Self::shut_off(folder);
        domain.virsh(&["start", "--paused", DOMAIN]);
        domain
    }

    /// Is shut off; its disks are empty.
    pub fn shut_off(folder: &Path) -> Self {
        for disk in ["vda", "vdb"] {
            let path = folder.join(format!("{disk}.qcow2"));
            run("qemu-img", &["create", "-q", "-f", "qcow2", path.to_str().unwrap(), EMPTY_BYTES]);
        }
        Self::define(folder, false)
    }

    fn define(folder: &Path, with_guest: bool) -> Self {
        let daemon = Daemon::start(&folder.join("libvirt"));
        std::fs::File::create(folder.join("vdc.raw")).unwrap().set_len(RAW_BYTES).unwrap();
        std::fs::write(folder.join("cd.iso"), [0; 2048]).unwrap();
        let path = folder.join("domain.xml");
        std::fs::write(&path, xml(folder, with_guest)).unwrap();
        daemon.virsh(&["define", path.to_str().unwrap()]);
        Self { folder: folder.to_owned(), daemon }
    }

    #[track_caller]
    pub fn virsh(&self, arguments: &[&str]) -> String {
        self.daemon.virsh(arguments)
    }

    /// Names of all checkpoints.
    pub fn checkpoints(&self) -> Vec<String> {
        let listed = self.virsh(&["checkpoint-list", DOMAIN, "--name"]);
        listed.lines().map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }

    /// All that carries a mark of afterimage: checkpoints, the backup job and files.
    pub fn marked(&self) -> Vec<String> {
        let mut marked = self.checkpoints();
        let job = self.daemon.try_virsh(&["backup-dumpxml", DOMAIN]);
        marked.push(String::from_utf8(job.stdout).unwrap().replace('\n', " "));
        let names = std::fs::read_dir(&self.folder).unwrap();
        marked.extend(names.map(|it| it.unwrap().file_name().into_string().unwrap()));
        marked.retain(|name| name.contains("afterimage-"));
        marked
    }

    /// Writes to a disk as its guest would.
    #[track_caller]
    pub fn write(&self, disk: &str, pattern: u8, offset: u64, len: u64) {
        let number = disk.as_bytes()[2] - b'a';
        let line = format!(
            "qemu-io -d /machine/peripheral/virtio-disk{number}/virtio-backend \"write -P {pattern} \
             {offset} {len}\""
        );
        let answer = self.virsh(&["qemu-monitor-command", DOMAIN, "--hmp", &line]);
        assert!(!answer.contains("rror"), "{line}: {answer}");
    }

    /// Removes the bitmap of a checkpoint behind libvirt's back.
    pub fn break_checkpoint(&self, disk: &str, checkpoint: &str) {
        let nodes = self.virsh(&["qemu-monitor-command", DOMAIN, "{\"execute\":\"query-block\"}"]);
        let nodes: serde_json::Value = serde_json::from_str(&nodes).unwrap();
        let number = disk.as_bytes()[2] - b'a';
        let device = format!("/machine/peripheral/virtio-disk{number}/virtio-backend");
        let mut devices = nodes["return"].as_array().unwrap().iter();
        let node = devices.find(|it| it["qdev"] == device.as_str()).unwrap();
        let arguments = serde_json::json!({ "execute": "block-dirty-bitmap-remove", "arguments": {
            "node": node["inserted"]["node-name"], "name": checkpoint } });
        self.virsh(&["qemu-monitor-command", DOMAIN, &arguments.to_string()]);
    }
}

fn xml(folder: &Path, with_guest: bool) -> String {
    let at = folder.display();
    let qemu = std::env::var("AFTERIMAGE_QEMU")
        .unwrap_or_else(|_| run("sh", &["-c", "command -v qemu-system-x86_64"]).trim().to_owned());
    let boot = if with_guest {
        format!(
            "<kernel>{at}/kernel</kernel><initrd>{at}/initrd</initrd>\
             <cmdline>console=ttyS0 quiet mitigations=off panic=-1</cmdline>"
        )
    } else {
        String::new()
    };
    let mut disks = String::new();
    for disk in DISKS {
        let format = if disk == "vdc" { "raw" } else { "qcow2" };
        write!(
            disks,
            "<disk type='file' device='disk'><driver name='qemu' type='{format}' discard='unmap'/>\
             <source file='{at}/{disk}.{format}'/><target dev='{disk}' bus='virtio'/></disk>"
        )
        .unwrap();
    }
    // Room for what is attached while it runs.
    let ports = "<controller type='pci' model='pcie-root-port'/>".repeat(8);
    format!(
        "<domain type='qemu'><name>{DOMAIN}</name><memory unit='MiB'>192</memory><vcpu>1</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type>{boot}</os><features><acpi/></features>\
         <cpu mode='custom'><model>qemu64</model></cpu><devices><emulator>{qemu}</emulator>{disks}\
         <disk type='file' device='cdrom'><driver name='qemu' type='raw'/>\
         <source file='{at}/cd.iso'/><target dev='sda' bus='sata'/><readonly/></disk>\
         <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>\
         <serial type='file'><source path='{at}/serial.log'/><target port='0'/></serial>\
         <memballoon model='none'/>\
         <controller type='pci' model='pcie-root'/>{ports}</devices></domain>"
    )
}
