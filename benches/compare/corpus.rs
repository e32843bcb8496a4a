//! The disks that are compared on, made from this machine's own files: a disk that is filled, then
//! changed through a mount, then overwritten at random; and a second one with the same files in
//! another order.

use crate::patch::{self, BLOCK_BYTES, Patch, Range, Way};
use crate::run::succeed;
use afterimage::testing::noise;
use anyhow::{Context, Result, ensure};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What zero granules of a disk are left out by, when it is cut.
const GRANULE_BYTES: usize = 32 * 1024;
/// One of so many used blocks is overwritten.
const OVERWRITTEN_ONE_IN: u64 = 100;
/// How many files the edits look at.
const FILES_LOOKED_AT: usize = 4000;
/// Written last: the corpus is whole.
const FACTS: &str = "corpus.json";

/// How large the disks are, and what fills them.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Size of each disk.
    pub disk_bytes: u64,
    /// No more than this is copied into one.
    pub fill_bytes: u64,
    /// Whose items are copied, one by one.
    pub trees: &'static [&'static str],
}

/// States of the first machine's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As it was filled.
    First,
    /// After edits through a mount.
    Later,
    /// One percent of its used blocks overwritten.
    Random,
}

/// What the corpus is, for the head of the table.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// Size of each disk.
    pub disk_bytes: u64,
    /// Blocks of the first disk that are not zero.
    pub used_bytes: u64,
    /// Granules of it that are not zero: what a backup has to cut and name.
    pub data_bytes: u64,
    /// Files in it.
    pub files: u64,
    /// How much the edits changed.
    pub later_bytes: u64,
    /// How much was overwritten at random, in how many ranges.
    pub random_bytes: u64,
    /// In how many ranges.
    pub random_extents: u64,
}

/// The corpus, with the disk in one of its states.
#[derive(Debug)]
pub struct Corpus {
    /// The first machine's disk: one file, changed in place.
    pub disk: PathBuf,
    /// The second machine's disk.
    pub other: PathBuf,
    /// From later to random.
    pub random: Patch,
    /// What it is.
    pub facts: Facts,
    later: Patch,
    state: Option<State>,
}

impl Corpus {
    /// Takes up what an earlier run prepared, or prepares it.
    pub fn open(folder: &Path, plan: &Plan) -> Result<Self> {
        let facts = match std::fs::read(folder.join(FACTS)) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(_) => prepare(folder, plan)?,
        };
        let mut corpus = Self {
            disk: folder.join("disk.img"),
            other: folder.join("other.img"),
            random: Patch::open(folder, "random")?,
            later: Patch::open(folder, "later")?,
            state: None,
            facts,
        };
        corpus.bring_to(State::First)?;
        Ok(corpus)
    }

    /// Changes the disk in place. Any state leads to any other, even one that was cut short.
    pub fn bring_to(&mut self, state: State) -> Result<()> {
        if self.state == Some(state) {
            return Ok(());
        }
        self.state = None;
        let disk = OpenOptions::new().write(true).open(&self.disk)?;
        let (later, random) = match state {
            State::First => (Way::Backwards, Way::Backwards),
            State::Later => (Way::Forwards, Way::Backwards),
            State::Random => (Way::Forwards, Way::Forwards),
        };
        if random == Way::Backwards {
            self.random.apply(&disk, random)?;
        }
        self.later.apply(&disk, later)?;
        if random == Way::Forwards {
            self.random.apply(&disk, random)?;
        }
        disk.sync_all()?;
        self.state = Some(state);
        Ok(())
    }

    /// Reads the disk once, so that the next run finds its source in the page cache.
    pub fn warm(&self) -> Result<()> {
        patch::each_piece(&File::open(&self.disk)?, |_, _| Ok(()))
    }
}

/// A file system in a file, mounted until this is dropped.
struct Mount(PathBuf);

impl Mount {
    fn new(image: &Path, at: &Path, options: &str) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        succeed(Command::new("mount").arg("-o").arg(options).arg(image).arg(at))?;
        Ok(Self(at.to_owned()))
    }

    fn end(self) -> Result<()> {
        let ended = succeed(Command::new("umount").arg(&self.0)).map(|_| ());
        std::mem::forget(self);
        ended
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = succeed(Command::new("umount").arg("-l").arg(&self.0));
    }
}

fn prepare(folder: &Path, plan: &Plan) -> Result<Facts> {
    println!("the disks are prepared in {}", folder.display());
    let (disk, other, first) =
        (folder.join("disk.img"), folder.join("other.img"), folder.join("first.img"));
    let (inside, beside) = (folder.join("mount"), folder.join("mount-other"));
    make_file_system(&disk, plan.disk_bytes)?;
    let mount = Mount::new(&disk, &inside, "loop")?;
    fill(&inside, plan, folder)?;
    let files = files_below(&inside)?;
    mount.end()?;

    make_file_system(&other, plan.disk_bytes)?;
    let from = Mount::new(&disk, &inside, "loop,ro,noload")?;
    let to = Mount::new(&other, &beside, "loop")?;
    copy_in_another_order(&inside, &beside)?;
    to.end()?;
    from.end()?;

    succeed(Command::new("cp").arg("--sparse=always").arg(&disk).arg(&first))?;
    let mount = Mount::new(&disk, &inside, "loop")?;
    edit(&inside, &files)?;
    mount.end()?;
    let later = keep_later(folder, &first, &disk)?;
    let (used_bytes, data_bytes, _) = used(&first)?;
    std::fs::remove_file(&first)?;
    let random = keep_random(folder, &disk)?;
    let facts = Facts {
        disk_bytes: plan.disk_bytes,
        used_bytes,
        data_bytes,
        files: files.len() as u64,
        later_bytes: later.bytes(),
        random_bytes: random.bytes(),
        random_extents: random.extents.len() as u64,
    };
    rustix::fs::sync();
    std::fs::write(folder.join(FACTS), serde_json::to_vec_pretty(&facts)?)?;
    Ok(facts)
}

fn make_file_system(image: &Path, bytes: u64) -> Result<()> {
    let _ = std::fs::remove_file(image);
    File::create(image)?.set_len(bytes)?;
    succeed(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4"]).arg(image))?;
    Ok(())
}

/// Copies items one by one, as long as they fit.
fn fill(to: &Path, plan: &Plan, own: &Path) -> Result<()> {
    let mut used_bytes = 0;
    for tree in plan.trees {
        let mut items: Vec<PathBuf> =
            std::fs::read_dir(tree)?.map(|item| Ok(item?.path())).collect::<Result<_>>()?;
        items.sort();
        for item in items.iter().filter(|item| !own.starts_with(item)) {
            let size = Command::new("du").args(["-s", "-B1"]).arg(item).output()?;
            let size = String::from_utf8_lossy(&size.stdout);
            let Some(bytes) = size.split('\t').next().and_then(|it| it.parse::<u64>().ok()) else {
                continue;
            };
            if used_bytes + bytes <= plan.fill_bytes {
                // Files of a running machine come and go; what can be copied is enough.
                let _ = Command::new("cp").arg("-a").arg(item).arg(to).output()?;
                used_bytes += bytes;
            }
        }
    }
    ensure!(used_bytes > plan.fill_bytes / 4, "only {used_bytes} bytes were found to copy");
    Ok(())
}

fn copy_in_another_order(from: &Path, to: &Path) -> Result<()> {
    let script = "cd \"$0\" && find . -mindepth 1 ! -type d ! -type s | LC_ALL=C sort -r \
                  | tar --no-recursion -cf - -T - | tar -xf - -C \"$1\"";
    succeed(Command::new("bash").args(["-o", "pipefail", "-c", script]).arg(from).arg(to))?;
    Ok(())
}

/// Regular files of at least a block, sorted.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let list = succeed(
        Command::new("find")
            .arg(folder)
            .args(["-xdev", "-type", "f"])
            .args(["-size", &format!("+{}c", BLOCK_BYTES - 1)]),
    )?;
    let mut files: Vec<PathBuf> = list.lines().map(PathBuf::from).collect();
    files.sort();
    Ok(files)
}

/// What a day does to a machine: files are edited, deleted and copied, a log grows.
fn edit(inside: &Path, files: &[PathBuf]) -> Result<()> {
    let step = (files.len() / FILES_LOOKED_AT).max(1);
    for (index, path) in files.iter().step_by(step).enumerate() {
        match index % 20 {
            0 => {
                let file = OpenOptions::new().write(true).open(path)?;
                file.write_all_at(format!("edited {index}\n").as_bytes(), 2048)?;
            }
            7 => std::fs::remove_file(path)?,
            13 => {
                std::fs::copy(path, inside.join(format!("copy-{index}")))?;
            }
            _ => {}
        }
    }
    let mut log = std::io::BufWriter::new(File::create(inside.join("service.log"))?);
    for line in 0..40_000_u64 {
        writeln!(log, "line {line} of a growing log {}", line * 7919)?;
    }
    Ok(log.flush()?)
}

fn read(file: &File, (offset, len): Range) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn keep_later(folder: &Path, first: &Path, disk: &Path) -> Result<Patch> {
    let extents = patch::differences(first, disk)?;
    let (first, disk) = (File::open(first)?, File::open(disk)?);
    Patch::keep(folder, "later", extents, |extent| {
        Ok((read(&first, extent)?, read(&disk, extent)?))
    })
}

/// Chooses one percent of the used blocks, by a fixed sequence.
fn keep_random(folder: &Path, disk: &Path) -> Result<Patch> {
    let (_, _, blocks) = used(disk)?;
    let mut extents = Vec::new();
    let dice = noise(20_261_122, blocks.len() * 4);
    for (block, dice) in blocks.iter().zip(dice.chunks(4)) {
        let dice = u32::from_le_bytes(dice.try_into().context("four bytes")?);
        if u64::from(dice) * OVERWRITTEN_ONE_IN < 1 << 32 {
            patch::push(&mut extents, (*block, BLOCK_BYTES as u64));
        }
    }
    let disk = File::open(disk)?;
    Patch::keep(folder, "random", extents, |extent| {
        Ok((read(&disk, extent)?, noise(extent.0, extent.1 as usize)))
    })
}

/// Bytes of blocks and of granules that are not zero, and where the blocks are.
fn used(disk: &Path) -> Result<(u64, u64, Vec<u64>)> {
    let (mut blocks, mut granules) = (Vec::new(), 0);
    let mut last = None;
    patch::each_piece(&File::open(disk)?, |offset, bytes| {
        for (index, block) in bytes.chunks(BLOCK_BYTES).enumerate() {
            if !afterimage::chunk::is_zero(block) {
                let at = offset + (index * BLOCK_BYTES) as u64;
                blocks.push(at);
                let granule = at / GRANULE_BYTES as u64;
                granules += u64::from(last != Some(granule));
                last = Some(granule);
            }
        }
        Ok(())
    })?;
    Ok(((blocks.len() * BLOCK_BYTES) as u64, granules * GRANULE_BYTES as u64, blocks))
}
