//! Repositories that earlier versions wrote are read by this one, and cut and named alike.
//!
//! `fixtures/format-N/` holds three small repositories each, each with two points of one machine, and
//! the hashes of their disks. `fixtures/README.md` says how to write a new set.

use afterimage::backup::{BackupRequest, ChangeHints, backup};
use afterimage::capture::Disks;
use afterimage::catalog::Catalog;
use afterimage::chunk::CutParameters;
use afterimage::fsio::{FileSystem, RealFileSystem};
use afterimage::point::Point;
use afterimage::progress::Progress;
use afterimage::recover::{RestoreOptions, plan_restore, restore};
use afterimage::source::{ImageFormat, SourceSpec};
use afterimage::store::{InitOptions, Repository, Secret};
use afterimage::testing::noise;
use afterimage::units::{Name, RunId};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Set it to write the fixtures of the current format; existing ones are never replaced.
const WRITE: &str = "AFTERIMAGE_WRITE_FIXTURES";
const KINDS: [&str; 3] = ["plain", "key-file", "passphrase"];
const DISKS: [&str; 2] = ["root", "data"];
const DEFINITION: &str = "web01.xml";
const EXPECTED: &str = "SHA256SUMS";

/// Formats of which there are fixtures; the last one is the current one.
const FORMATS: [u64; 2] = [1, 2];

fn fixtures(format: u64) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/format-{format}"))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// One fixture in a folder that may be written to.
struct Fixture {
    fs: Arc<dyn FileSystem>,
    folder: PathBuf,
    repository: Repository,
    catalog: Catalog,
}

fn secret(kind: &str, folder: &Path) -> Option<Secret> {
    match kind {
        "key-file" => {
            Some(Secret::from_key_file(&RealFileSystem, &folder.join("test.key")).unwrap())
        }
        "passphrase" => {
            let path = folder.join("test.passphrase");
            Some(Secret::from_passphrase_file(&RealFileSystem, &path).unwrap())
        }
        _ => None,
    }
}

impl Fixture {
    fn open(kind: &str, folder: &Path, state_dir: &Path) -> Self {
        let fs = RealFileSystem::shared();
        let secret = secret(kind, folder);
        let root = folder.join("repository");
        let repository = Repository::open(&fs, &root, secret.as_ref(), 1).unwrap();
        let catalog = Catalog::open(state_dir, repository.header().id).unwrap();
        Self { fs, folder: folder.to_owned(), repository, catalog }
    }

    fn points(&self) -> Vec<Point> {
        let report = self.catalog.sync(&self.repository).unwrap();
        assert!(report.damages.is_empty(), "{:?}", report.damages);
        self.catalog.points(None).unwrap()
    }

    /// Restores all of a point to a new folder.
    fn restore(&self, point: &Point, to: &Path) {
        std::fs::create_dir(to).unwrap();
        let options = RestoreOptions {
            disk: None,
            to: to.to_owned(),
            force: false,
            protected: Vec::new(),
            workers: 2,
            damaged: afterimage::destination::Damaged::Fail,
        };
        let (fs, repository, catalog) = (&self.fs, &self.repository, &self.catalog);
        let plan = plan_restore(fs.as_ref(), repository, catalog, point, &options).unwrap();
        restore(fs, repository, catalog, &plan, &options, &Progress::default()).unwrap();
    }

    /// Backs up the disks `NAME.raw` and the definition that lie in `from`, and returns the
    /// point and how many bytes were never stored before.
    fn back_up(&self, from: &Path, now: jiff::Timestamp) -> (Point, u64) {
        let disk = |disk: &str| {
            let path = from.join(format!("{disk}.raw"));
            let format = Some(ImageFormat::Raw);
            (name(disk), SourceSpec { path, format, must_be_device: false, quiesced: false })
        };
        let machine = name("web01");
        let request = BackupRequest {
            machine: &machine,
            capturer: &Disks::of_files(DISKS.into_iter().map(disk)),
            hints: ChangeHints::default(),
            definition: vec![(name(DEFINITION), from.join("definition").join(DEFINITION))],
            lock_until: None,
            now,
            run: RunId::random().unwrap(),
            workers: 2,
            history: None,
        };
        let progress = Progress::default();
        let result = backup(&self.repository, &self.catalog, &request, &progress).unwrap();
        (result.point, progress.counts().new)
    }
}

fn sha256(path: &Path) -> String {
    let digest = Sha256::digest(std::fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines as `sha256sum` writes them: the files of each point, by its number.
fn sums(sequence: u64, folder: &Path) -> String {
    let disks = DISKS.map(|disk| format!("{disk}.raw"));
    let files = disks.into_iter().chain([format!("definition/{DEFINITION}")]);
    files.map(|file| format!("{}  {sequence}/{file}\n", sha256(&folder.join(&file)))).collect()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Checks the fixture of one kind, in a copy: opening one writes lock files.
fn check(format: u64, kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("fixture");
    copy_folder(&fixtures(format).join(kind), &own);
    let expected = std::fs::read_to_string(own.join(EXPECTED)).unwrap();
    let fixture = Fixture::open(kind, &own, &folder.path().join("state"));
    assert_eq!(fixture.repository.header().format, format);
    let points = fixture.points();
    assert_eq!(points.len(), 2);
    assert_eq!(points[1].manifest.parent, Some(points[0].id));
    let mut found = String::new();
    for point in &points {
        let sequence = point.manifest.sequence.0;
        let to = folder.path().join(format!("point-{sequence}"));
        fixture.restore(point, &to);
        found += &sums(sequence, &to);
    }
    assert_eq!(found, expected);

    // Backing the same content up again stores nothing: it is cut, named and looked up alike.
    let from = folder.path().join("point-2");
    let (third, new_bytes) = fixture.back_up(&from, jiff::Timestamp::now());
    assert_eq!(new_bytes, 0, "chunks are cut or named otherwise than when this was written");
    let trees = |point: &Point| point.manifest.trees().collect::<Vec<_>>();
    assert_eq!(trees(&third), trees(&points[1]), "trees are built otherwise");
}

#[test]
fn plain_repositories_of_every_format_are_read_and_cut_alike() {
    FORMATS.into_iter().for_each(|format| check(format, "plain"));
}

#[test]
fn repositories_of_every_format_with_a_key_file_are_read_and_cut_alike() {
    FORMATS.into_iter().for_each(|format| check(format, "key-file"));
}

#[test]
fn repositories_of_every_format_with_a_pass_phrase_are_read_and_cut_alike() {
    FORMATS.into_iter().for_each(|format| check(format, "passphrase"));
}

#[test]
fn fixtures_stay_small() {
    let mut bytes = 0;
    let mut folders: Vec<PathBuf> = FORMATS.map(fixtures).into();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => bytes += entry.metadata().unwrap().len(),
            }
        }
    }
    assert!(bytes < 600 * 1024, "{bytes} bytes");
}

/// Not a test of anything unless the variable is set.
#[test]
fn fixtures_are_written_on_request() {
    if std::env::var_os(WRITE).is_some() {
        KINDS.into_iter().for_each(write);
    }
}

fn write(kind: &str) {
    let folder = fixtures(FORMATS[FORMATS.len() - 1]).join(kind);
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    std::fs::create_dir(&folder).expect("a fixture that exists is never replaced");
    match kind {
        "key-file" => std::fs::write(folder.join("test.key"), noise(99, 32)).unwrap(),
        "passphrase" => {
            std::fs::write(folder.join("test.passphrase"), "not a secret, only a test\n").unwrap();
        }
        _ => {}
    }
    let secret = secret(kind, &folder);
    let options = InitOptions {
        cut: CutParameters::with_average(4 * 1024).unwrap(),
        secret: secret.as_ref(),
        recovery_key: None,
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
    };
    let fs = RealFileSystem::shared();
    Repository::init(&fs, &folder.join("repository"), &options).unwrap();
    let work = tempfile::tempdir().unwrap();
    let fixture = Fixture::open(kind, &folder, &work.path().join("state"));
    let mut expected = String::new();
    for sequence in 1..=2 {
        let from = work.path().join(sequence.to_string());
        write_machine(&from, sequence);
        let now = format!("2026-01-0{}T00:00:00Z", sequence + 1);
        let (point, _) = fixture.back_up(&from, now.parse().unwrap());
        assert_eq!(point.manifest.sequence.0, sequence);
        expected += &sums(sequence, &from);
    }
    std::fs::write(folder.join(EXPECTED), expected).unwrap();
    // What is only used while the repository is open.
    for left in ["tmp", "locks"] {
        std::fs::remove_dir_all(fixture.folder.join("repository").join(left)).unwrap();
    }
}

/// The machine as it is at its first and second point: a disk of three regions with holes, text
/// and noise, a small one of an odd length, and a definition.
fn write_machine(folder: &Path, sequence: u64) {
    std::fs::create_dir_all(folder.join("definition")).unwrap();
    let mut root = vec![0; (33 << 20) + 4096];
    root[..20_000].copy_from_slice(&noise(1, 20_000));
    let text: String =
        (0..3000).map(|line| format!("line {line} of what a disk holds\n")).collect();
    root[5 << 20..(5 << 20) + text.len()].copy_from_slice(text.as_bytes());
    root[32 << 20..(32 << 20) + 20_000].copy_from_slice(&noise(1, 20_000));
    let mut data = noise(2, 12_345);
    if sequence == 2 {
        root[10_000..10_100].copy_from_slice(&noise(3, 100));
        root[5 << 20..(5 << 20) + 40_000].fill(0);
        root[17 << 20..(17 << 20) + 9000].copy_from_slice(&noise(4, 9000));
        data.extend(noise(5, 1000));
    }
    std::fs::write(folder.join("root.raw"), root).unwrap();
    std::fs::write(folder.join("data.raw"), data).unwrap();
    let xml = format!("<domain><name>web01</name><memory>{}</memory></domain>\n", sequence * 512);
    std::fs::write(folder.join("definition").join(DEFINITION), xml).unwrap();
}
