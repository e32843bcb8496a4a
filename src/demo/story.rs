//! The story, step by step.

use super::DemoError;
use super::content::{Noise, data_tree, encrypt_disk, system_tree, text};
use super::disk::{ExtDisk, Verdict, hash_file};
use super::workplace::Workplace;
use crate::operations::{self, Reading, RestoreRequest};
use crate::progress::{Counts, Progress};
use crate::report::{StepLine, Summary};
use crate::settings::Settings;
use crate::units::{MIB, Name, format_bytes};
use jiff::tz::TimeZone;
use std::path::{Path, PathBuf};

const LEDGER: &str = "/accounts/ledger.txt";

/// Runs the demonstration. `tell` gets each line as it happens; `keep` leaves the folder there.
///
/// # Errors
/// The first thing that is not as it must be.
pub fn run(
    keep: bool,
    progress: &Progress,
    tell: &mut dyn FnMut(StepLine),
) -> Result<(), DemoError> {
    let workplace = Workplace::create(keep)?;
    let settings = workplace.settings()?;
    let teller = Teller { tell, step: 0 };
    let mut story = Story { workplace: &workplace, settings: &settings, progress, teller };
    let disks = story.make_disks()?;
    story.protect(&disks)?;
    let good = story.change(&disks)?;
    story.ransomware(&disks)?;
    story.tidy_up()?;
    story.bring_back(&good)?;
    if keep {
        story.teller.fact(format!("everything is kept in {}", workplace.folder().display()));
    }
    Ok(())
}

struct Teller<'a> {
    tell: &'a mut dyn FnMut(StepLine),
    step: u32,
}

impl Teller<'_> {
    fn step(&mut self, text: &str) {
        self.step += 1;
        self.line(true, text.to_owned());
    }

    fn fact(&mut self, text: String) {
        self.line(false, text);
    }

    fn line(&mut self, heading: bool, text: String) {
        (self.tell)(StepLine { step: self.step, heading, text });
    }
}

struct Story<'a> {
    workplace: &'a Workplace,
    settings: &'a Settings,
    progress: &'a Progress,
    teller: Teller<'a>,
}

/// The machine's disks.
struct Disks {
    root: ExtDisk,
    data: ExtDisk,
}

/// Hashes of the disks at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hashes {
    root: String,
    data: String,
}

impl Story<'_> {
    fn make_disks(&mut self) -> Result<Disks, DemoError> {
        self.teller
            .step("A machine with two ext4 disks is made, without root and without mounting");
        let trees = (self.workplace.path("tree-root"), self.workplace.path("tree-data"));
        for tree in [&trees.0, &trees.1] {
            std::fs::create_dir(tree).map_err(|e| DemoError::io(tree, e))?;
        }
        system_tree(&trees.0)?;
        data_tree(&trees.1)?;
        let path = |name| self.workplace.path(name);
        let root = ExtDisk::create(&path("root.img"), 512 * MIB, &trees.0)?;
        let data = ExtDisk::create(&path("data.img"), 256 * MIB, &trees.1)?;
        for (disk, name) in [(&root, "root"), (&data, "data")] {
            expect(ExtDisk::check(disk.path())? == Verdict::Clean, "a new disk is not clean")?;
            let (size, data) = sizes(disk.path())?;
            let (size, data) = (format_bytes(size), format_bytes(data));
            self.teller.fact(format!("{name}.img: {size}, of which {data} hold data"));
        }
        Ok(Disks { root, data })
    }

    fn protect(&mut self, disks: &Disks) -> Result<(), DemoError> {
        self.teller.step("An encrypted repository is created, and the machine is backed up");
        let choice = operations::InitChoice { recovery_key: false };
        operations::init(self.settings, &name("main")?, choice)?;
        self.back_up()?;
        self.teller.step("The first copy is made on the standby");
        self.replicate()?;
        let same = self.standby_hashes()? == hashes(disks)?;
        expect(same, "the standby is not what the disks are")?;
        self.teller.fact("the standby's disks have the SHA-256 of the machine's disks".to_owned());
        Ok(())
    }

    fn change(&mut self, disks: &Disks) -> Result<Hashes, DemoError> {
        self.teller.step("The machine works: files are written, edited and deleted");
        let mut noise = Noise::new(3);
        let report = self.workplace.path("report.txt");
        std::fs::write(&report, text(&mut noise, 700_000))
            .map_err(|e| DemoError::io(&report, e))?;
        let ledger = self.workplace.path("ledger.txt");
        std::fs::write(&ledger, "balance 1250\n").map_err(|e| DemoError::io(&ledger, e))?;
        let (report, ledger) = (report.display(), ledger.display());
        disks.data.change(&format!(
            "rm {LEDGER}\nwrite {ledger} {LEDGER}\nwrite {report} /accounts/report.txt\n\
             rm /accounts/customer7.txt\n"
        ))?;
        disks.root.change(&format!(
            "rm /usr/share/app3/library.so\nwrite {report} /usr/share/app3/module.log\n"
        ))?;
        self.teller.step("An incremental backup, then its replay: only what changed is moved");
        self.back_up()?;
        self.replicate()?;
        let good = hashes(disks)?;
        expect(self.standby_hashes()? == good, "the standby is not what the disks are")?;
        for disk in ["standby/root.raw", "standby/data.raw"] {
            let verdict = ExtDisk::check(&self.workplace.path(disk))?;
            expect(verdict == Verdict::Clean, "a standby's file system is not clean")?;
        }
        let same = "the standby has the SHA-256 of the disks again, and e2fsck finds it clean";
        self.teller.fact(same.to_owned());
        Ok(good)
    }

    fn ransomware(&mut self, disks: &Disks) -> Result<(), DemoError> {
        self.teller.step("Ransomware encrypts the machine's disks, and nobody notices");
        let spoilt = encrypt_disk(disks.root.path())? + encrypt_disk(disks.data.path())?;
        self.teller.fact(format!("{} were overwritten with noise", format_bytes(spoilt)));
        self.teller
            .step("The schedule goes on: the next backup and replay carry it to the standby");
        self.back_up()?;
        self.replicate()?;
        let verdict = ExtDisk::check(&self.workplace.path("standby/data.raw"))?;
        expect(verdict == Verdict::Broken, "ransomware left the standby whole")?;
        self.teller
            .fact("e2fsck: the standby is broken too; a mirror alone is no backup".to_owned());
        Ok(())
    }

    /// The oldest point goes, and its space comes back; what is left is whole.
    fn tidy_up(&mut self) -> Result<(), DemoError> {
        self.teller.step("The oldest point is pruned, its space given back, and all else verified");
        let (machine, main) = (name("web01")?, name("main")?);
        let (settings, progress) = (self.settings, self.progress);
        let plan = operations::plan_prune(settings, &machine);
        let pruned = operations::prune(settings, &machine, plan, false, progress)?;
        let collected = operations::gc(settings, &main, progress)?;
        let scope = operations::VerifyScope::All;
        let verified =
            operations::verify_whole(settings, &main, scope, progress, &mut |_message| {})?;
        for (what, summary) in [("prune", pruned), ("gc", collected), ("verify", verified)] {
            let (detail, took) = (summary.detail.unwrap_or_default(), summary.duration_s);
            self.teller.fact(format!("{what:<9} {detail} in {took:.1} s"));
        }
        Ok(())
    }

    fn bring_back(&mut self, good: &Hashes) -> Result<(), DemoError> {
        self.teller.step("The older point, #2, is brought back from the same backups");
        let to = self.workplace.path("restored");
        let request = RestoreRequest {
            machine: "web01".to_owned(),
            repository: None,
            disk: None,
            point: "#2".to_owned(),
            zone: TimeZone::UTC,
            to: to.clone(),
            force: false,
            skip_damaged: false,
        };
        let before = self.progress.counts();
        let summary = operations::prepare_restore(self.settings, &request)?.run(self.progress)?;
        let written = self.progress.counts().written - before.written;
        let took = summary.duration_s;
        self.teller.fact(format!("{} written in {took:.1} s", format_bytes(written)));
        let (root, data) = (to.join("root.raw"), to.join("data.raw"));
        let restored = Hashes { root: hash_file(&root)?, data: hash_file(&data)? };
        expect(&restored == good, "the restored disks are not those of point #2")?;
        self.teller.fact(format!("root  SHA-256 {}  as before the attack", short(&restored.root)));
        self.teller.fact(format!("data  SHA-256 {}  as before the attack", short(&restored.data)));
        for disk in [&root, &data] {
            let verdict = ExtDisk::check(disk)?;
            expect(verdict == Verdict::Clean, "a restored file system is not clean")?;
        }
        let ledger = ExtDisk::read_file(&data, LEDGER)?;
        expect(ledger == b"balance 1250\n", "the restored ledger is not the one of point #2")?;
        self.teller.fact("e2fsck: clean; the ledger says: balance 1250".to_owned());
        Ok(())
    }

    fn back_up(&mut self) -> Result<(), DemoError> {
        let before = self.progress.counts();
        let summary = operations::backup_machine(
            self.settings,
            &name("web01")?,
            Reading::Changes,
            self.progress,
        )?;
        let moved = difference(self.progress.counts(), before);
        self.teller.fact(format!(
            "backup    point #{}: read {}, changed {}, new {}, stored {} in {:.1} s",
            number(&summary),
            format_bytes(moved.read),
            format_bytes(moved.changed),
            format_bytes(moved.new),
            format_bytes(moved.stored),
            summary.duration_s,
        ));
        Ok(())
    }

    fn replicate(&mut self) -> Result<(), DemoError> {
        let before = self.progress.counts();
        let standby = name("web01-standby")?;
        let summary = operations::replicate(self.settings, &standby, false, self.progress)?;
        let moved = difference(self.progress.counts(), before);
        self.teller.fact(format!(
            "replicate standby is at point #{}: wrote {} in {:.1} s",
            number(&summary),
            format_bytes(moved.written),
            summary.duration_s,
        ));
        Ok(())
    }

    fn standby_hashes(&self) -> Result<Hashes, DemoError> {
        Ok(Hashes {
            root: hash_file(&self.workplace.path("standby/root.raw"))?,
            data: hash_file(&self.workplace.path("standby/data.raw"))?,
        })
    }
}

fn hashes(disks: &Disks) -> Result<Hashes, DemoError> {
    Ok(Hashes { root: hash_file(disks.root.path())?, data: hash_file(disks.data.path())? })
}

fn number(summary: &Summary) -> u64 {
    summary.sequence.map_or(0, |sequence| sequence.0)
}

fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

fn name(text: &str) -> Result<Name, DemoError> {
    text.parse().map_err(|error: crate::units::InvalidName| DemoError::Settings(error.to_string()))
}

fn expect(holds: bool, what: &str) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError::Proof { what: what.to_owned() }) }
}

fn difference(after: Counts, before: Counts) -> Counts {
    Counts {
        read: after.read - before.read,
        changed: after.changed - before.changed,
        new: after.new - before.new,
        stored: after.stored - before.stored,
        written: after.written - before.written,
    }
}

/// Size and allocated bytes of a file.
fn sizes(path: &Path) -> Result<(u64, u64), DemoError> {
    use std::os::unix::fs::MetadataExt;
    let path: PathBuf = path.to_owned();
    let metadata = std::fs::metadata(&path).map_err(|e| DemoError::io(&path, e))?;
    Ok((metadata.len(), metadata.blocks() * 512))
}
