//! A real guest that writes all the time.

use super::lab::{DISKS, Lab};
use super::machine::{run, wait_for};
use afterimage::capture::{Bases, CaptureError, Captured, Capturer, QemuMachine};
use afterimage::point::{Consistency, Provenance};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Writes what the capture exports to files, every byte of it, before it is backed up.
#[derive(Debug)]
struct Dumping<'a> {
    qemu: &'a QemuMachine,
    folder: PathBuf,
}

impl Capturer for Dumping<'_> {
    fn capture(&self, noted: &Bases) -> Result<Box<dyn Captured>, CaptureError> {
        let captured = self.qemu.capture(noted)?;
        for (name, source) in captured.disks() {
            let mut file = std::fs::File::create(self.folder.join(name.as_str())).unwrap();
            let mut piece = vec![0; 4 << 20];
            for offset in (0..source.size_bytes()).step_by(piece.len()) {
                let len = (source.size_bytes() - offset).min(piece.len() as u64) as usize;
                source.read_exact_at(&mut piece[..len], offset).unwrap();
                file.write_all(&piece[..len]).unwrap();
            }
        }
        Ok(captured)
    }
}

/// The number that the guest wrote to a disk last.
pub fn count(image: &Path) -> u64 {
    let text = run("debugfs", &["-R", "cat /count", image.to_str().unwrap()]);
    text.split_whitespace().next().unwrap_or("0").parse().unwrap()
}

/// The file systems of a point that was taken frozen are whole, and belong to one instant.
pub fn check_frozen(images: &[PathBuf]) -> u64 {
    for image in images {
        run("e2fsck", &["-fn", image.to_str().unwrap()]);
    }
    let (root, data) = (count(&images[0]), count(&images[1]));
    assert!(root == data || root == data + 1, "{root} and {data} are of two instants");
    root
}

#[test]
fn ten_points_of_a_guest_that_writes_equal_what_was_captured() {
    let lab = Lab::with_guest();
    let mut counts = Vec::new();
    for round in 0..10 {
        let folder = lab.world.path(&format!("dump-{round}"));
        std::fs::create_dir(&folder).unwrap();
        let made = lab.try_backup(&Dumping { qemu: &lab.qemu, folder: folder.clone() }).unwrap();
        assert_eq!(made.notes, Vec::<String>::new());
        assert_eq!(made.point.manifest.consistency, Consistency::ApplicationConsistent);
        let how = if round == 0 { Provenance::FullRead } else { Provenance::Bitmap };
        assert!(made.disks.iter().all(|disk| disk.provenance == how), "{:?}", made.disks);
        let images = lab.restored(&made.point, "restored");
        for (disk, image) in DISKS.iter().zip(&images) {
            let dumped = folder.join(disk);
            let (dumped, image) = (dumped.to_str().unwrap(), image.to_str().unwrap());
            run("qemu-img", &["compare", "-f", "raw", "-F", "raw", dumped, image]);
        }
        counts.push(check_frozen(&images));
        let marked = lab.machine.marked();
        assert_eq!(marked.len(), 2, "{marked:?}");
        std::fs::remove_dir_all(folder).unwrap();
        let (disk, last) = (lab.machine.folder.join("data.raw"), counts[round]);
        wait_for("a write of the guest", || (count(&disk) > last).then_some(()));
    }
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "it did not write: {counts:?}");
}

#[test]
fn points_of_a_guest_that_is_not_frozen_are_as_after_a_power_cut() {
    let mut lab = Lab::with_guest();
    lab.qemu.agent = None;
    for _ in 0..3 {
        let made = lab.backup();
        assert_eq!(made.point.manifest.consistency, Consistency::CrashConsistent);
        let images = lab.restored(&made.point, "restored");
        let (root, data) = (count(&images[0]), count(&images[1]));
        assert!(root == data || root == data + 1, "{root} and {data} are of two instants");
        for image in images {
            let image = image.to_str().unwrap();
            // The first replays the journal, and says so.
            let replayed = std::process::Command::new("e2fsck").args(["-fp", image]).output();
            assert!(replayed.unwrap().status.code().unwrap() <= 1);
            run("e2fsck", &["-fn", image]);
        }
    }
}
