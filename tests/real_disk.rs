//! The main job on a real ext4 disk that is changed through a mount, with the real program. The
//! script also runs by hand, at any size.

use std::path::Path;
use std::process::Command;

#[test]
fn a_real_disk_is_identical_after_each_replication_and_restore() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/real-disk");
    let work = tempfile::tempdir().unwrap();
    let output = Command::new("bash")
        .arg(script)
        .args([env!("CARGO_BIN_EXE_afterimage"), "384M", "/usr/share"])
        .arg(work.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "it needs root and loop devices\n{told}\n{errors}");
    assert!(told.contains("real disk: all identical"), "{told}");
}
