//! The program with settings that name NBD exports.

use crate::exports::{MemoryExport, serve};
use afterimage::nbd::{Limits, Server};
use afterimage::testing::noise;
use std::path::Path;
use std::sync::Arc;

const DISK_BYTES: usize = (3 << 20) + 512;

fn settings(folder: &Path, server: &Server) {
    let address = |name: &str| server.address(name).unwrap();
    let text = format!(
        "state_dir = \"state\"\n\
         [repository.main]\nurl = \"repository\"\nencryption = \"none\"\n\
         [machine.web01]\nrepository = \"main\"\n\
         [[machine.web01.disk]]\nname = \"root\"\nsource = {{ nbd = \"{}\" }}\n\
         [replica.standby]\nmachine = \"web01\"\ntrigger = \"manual\"\n\
         [[replica.standby.disk]]\nname = \"root\"\ntarget = {{ nbd = \"{}\" }}\n",
        address("disk"),
        address("standby"),
    );
    std::fs::write(folder.join("afterimage.toml"), text).unwrap();
}

/// Runs the program, and gives what it says.
fn run(folder: &Path, arguments: &[&str], succeeds: bool) -> String {
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_afterimage"));
    command.arg("-c").arg(folder.join("afterimage.toml")).args(arguments);
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap()).concat();
    assert_eq!(output.status.success(), succeeds, "{arguments:?}: {said}");
    said
}

#[test]
fn a_machine_on_an_export_is_backed_up_and_replicated_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = noise(1, DISK_BYTES);
    bytes[1 << 20..2 << 20].fill(0);
    let disk = MemoryExport::new(bytes.clone());
    let standby = MemoryExport::new(vec![0; DISK_BYTES]);
    let exports = [("disk", Arc::clone(&disk)), ("standby", Arc::clone(&standby))];
    let server = serve(folder.path(), &exports, Limits::default());
    settings(folder.path(), &server);
    let run = |arguments: &[&str]| run(folder.path(), arguments, true);
    run(&["config", "check"]);
    run(&["init"]);
    let said = run(&["backup", "now"]);
    // The hole is not read.
    assert!(said.contains("read 2.00 MiB"), "{said}");
    let said = run(&["replicate", "now"]);
    assert!(said.contains("first copy"), "{said}");
    assert!(standby.content() == bytes);

    bytes[12_345..99_999].copy_from_slice(&noise(2, 99_999 - 12_345));
    *disk.bytes.lock().unwrap() = bytes.clone();
    run(&["backup", "now"]);
    let said = run(&["replicate", "now"]);
    assert!(said.contains("from point #1"), "{said}");
    assert!(standby.content() == bytes);
    let said = run(&["verify", "--replica", "standby"]);
    assert!(said.contains("equals point #2"), "{said}");
    run(&["points"]);

    // What others wrote is found by a verification.
    standby.bytes.lock().unwrap()[77] ^= 1;
    let said = self::run(folder.path(), &["verify", "--replica", "standby"], false);
    assert!(said.contains("differ"), "{said}");
    server.stop();
    for command in [["backup", "now"], ["replicate", "now"]] {
        let said = self::run(folder.path(), &command, false);
        assert!(said.contains("cannot connect"), "{said}");
    }
}
