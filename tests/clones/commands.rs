//! Snapshots that commands make: the commands of these tests copy files in a folder.

use crate::image::mark;
use afterimage::capture::CommandError;
use afterimage::capture::snapshot::{Snapshot, SnapshotCommands, SnapshotError, SnapshotRequest};
use afterimage::extent::Extent;
use afterimage::source::Source;
use afterimage::testing::noise;
use afterimage::units::RunId;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

const DISK_BYTES: usize = 1 << 20;

/// A disk, its snapshots and the commands for them.
struct Stand {
    folder: tempfile::TempDir,
    commands: SnapshotCommands,
}

impl Stand {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        std::fs::create_dir(folder.path().join("snapshots")).unwrap();
        std::fs::write(folder.path().join("disk.img"), noise(1, DISK_BYTES)).unwrap();
        let changed = format!(
            "cd {place}/snapshots && cmp -l $AFTERIMAGE_BASE.img $AFTERIMAGE_SNAPSHOT.img | awk '\
             BEGIN {{ printf \"{{\\\"format\\\":1,\\\"extents\\\":[\" }}\n\
             {{ b = int(($1 - 1) / 4096); if (!(b in seen)) {{ seen[b] = 1; \
             printf \"%s[%d,4096]\", comma, b * 4096; comma = \",\" }} }}\n\
             END {{ print \"]}}\" }}'"
        );
        let commands = SnapshotCommands {
            create: format!("cp {place}/disk.img {place}/snapshots/$AFTERIMAGE_SNAPSHOT.img"),
            path: format!("{place}/snapshots/${{AFTERIMAGE_SNAPSHOT}}.img"),
            remove: format!("rm -f {place}/snapshots/$AFTERIMAGE_SNAPSHOT.img"),
            changed: Some(changed),
            time_limit: Duration::from_secs(60),
        };
        Self { folder, commands }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn take(&self, kept: Option<&str>) -> Result<Snapshot, SnapshotError> {
        let (machine, disk) = (&"web01".parse().unwrap(), &"root".parse().unwrap());
        let (run, records) = (RunId::random().unwrap(), &self.path("records"));
        let commands = &self.commands;
        let (format, mark) = (None, mark());
        Snapshot::take(&SnapshotRequest {
            commands,
            format,
            machine,
            disk,
            mark,
            run,
            records,
            kept,
        })
    }

    /// Takes a snapshot that is kept, and gives back its name.
    fn keep_one(&self, kept: Option<&str>) -> String {
        let mut snapshot = self.take(kept).unwrap();
        assert_eq!(snapshot.keep(), [""; 0]);
        snapshot.as_base().unwrap().to_owned()
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.path(folder)) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name != "lock").collect();
        names.sort();
        names
    }

    fn snapshots(&self) -> Vec<String> {
        self.names("snapshots").iter().map(|name| name.replace(".img", "")).collect()
    }

    fn records(&self) -> Vec<String> {
        self.names(&format!("records/{}", mark()))
    }

    /// Nothing is there, and nothing is remembered, but this.
    #[track_caller]
    fn holds(&self, names: &[&str]) {
        assert_eq!(self.snapshots(), names);
        assert_eq!(self.records(), names);
    }

    fn write(&self, offset: u64, len: usize) {
        let file = std::fs::File::options().write(true).open(self.path("disk.img")).unwrap();
        file.write_all_at(&vec![7; len], offset).unwrap();
    }
}

fn content(source: &dyn Source) -> Vec<u8> {
    let mut content = vec![0; source.size_bytes() as usize];
    source.read_exact_at(&mut content, 0).unwrap();
    content
}

#[test]
fn a_snapshot_is_kept_for_the_next_one_and_goes_only_when_that_is_kept() {
    let stand = Stand::new();
    let base = stand.keep_one(None);
    assert!(base.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-')), "{base}");
    stand.holds(&[&base]);
    stand.write(9000, 5000);
    let mut next = stand.take(Some(&base)).unwrap();
    assert!(content(next.source()) == std::fs::read(stand.path("disk.img")).unwrap());
    assert_eq!(next.changed_since(&base).unwrap(), [Extent::between(8192, 16384)]);
    let name = next.as_base().unwrap().to_owned();
    let mut both = [base.as_str(), &name];
    both.sort_unstable();
    stand.holds(&both);
    assert_eq!(next.keep(), [""; 0]);
    drop(next);
    stand.holds(&[&name]);
    // One whose point never came to be goes, and the one before stays.
    drop(stand.take(Some(&name)).unwrap());
    stand.holds(&[&name]);
    assert!(stand.take(Some(&name)).unwrap().changed_since(&base).is_err());
}

#[test]
fn a_snapshot_that_nothing_can_be_compared_with_goes_at_the_end() {
    let mut stand = Stand::new();
    let base = stand.keep_one(None);
    stand.commands.changed = None;
    let mut next = stand.take(Some(&base)).unwrap();
    assert!(next.changed_since(&base).is_err());
    assert_eq!(next.as_base(), None);
    assert_eq!(next.keep(), [""; 0]);
    assert_eq!(stand.snapshots().len(), 1);
    drop(next);
    stand.holds(&[]);
}

#[test]
fn commands_get_names_and_nothing_else() {
    let mut stand = Stand::new();
    let base = stand.keep_one(None);
    let told = stand.path("told");
    stand.commands.create += &format!("; env | grep ^AFTERIMAGE_ | sort > {}", told.display());
    let mut next = stand.take(Some(&base)).unwrap();
    next.keep();
    let name = next.as_base().unwrap();
    let expected = format!(
        "AFTERIMAGE_BASE={base}\nAFTERIMAGE_DISK=root\nAFTERIMAGE_MACHINE=web01\n\
         AFTERIMAGE_SNAPSHOT={name}\n"
    );
    assert_eq!(std::fs::read_to_string(&told).unwrap(), expected);
}

#[test]
fn a_create_that_fails_leaves_nothing() {
    let mut stand = Stand::new();
    let base = stand.keep_one(None);
    let create = stand.commands.create.clone();
    for broken in ["echo no space >&2; false", "no-such-program-at-all", "kill -9 $$"] {
        // It did it, and failed all the same.
        stand.commands.create = format!("{create}; {broken}");
        let refused = stand.take(Some(&base)).unwrap_err();
        assert!(
            matches!(refused, SnapshotError::Command(CommandError::Failed { .. })),
            "{refused}"
        );
        assert!(refused.to_string().contains("create"), "{refused}");
        stand.holds(&[&base]);
    }
}

#[test]
fn a_create_that_hangs_is_ended_and_what_it_made_removed() {
    let mut stand = Stand::new();
    stand.commands.create += "; sleep 1000";
    stand.commands.time_limit = Duration::from_millis(500);
    let refused = stand.take(None).unwrap_err();
    assert!(matches!(refused, SnapshotError::Command(CommandError::TooLong { .. })), "{refused}");
    stand.holds(&[]);
}

#[test]
fn a_snapshot_that_is_not_where_it_should_be_is_an_error_that_leaves_nothing() {
    let mut stand = Stand::new();
    stand.commands.time_limit = Duration::from_millis(500);
    let path = stand.commands.path.clone();
    stand.commands.path = stand.path("elsewhere").display().to_string();
    let refused = stand.take(None).unwrap_err();
    assert!(matches!(refused, SnapshotError::NotThere { .. }), "{refused}");
    stand.holds(&[]);
    stand.commands.path = stand.folder.path().display().to_string();
    let refused = stand.take(None).unwrap_err();
    assert!(matches!(refused, SnapshotError::Source { .. }), "{refused}");
    stand.holds(&[]);
    for wrong in ["snapshots/$AFTERIMAGE_SNAPSHOT", "/$HOME/x"] {
        stand.commands.path = wrong.to_owned();
        let refused = stand.take(None).unwrap_err();
        assert!(matches!(refused, SnapshotError::Path { .. }), "{refused}");
    }
    // One that appears a moment later is waited for.
    stand.commands.path = path;
    stand.commands.time_limit = Duration::from_secs(60);
    let create = stand.commands.create.clone();
    stand.commands.create = format!("(sleep 0.3; {create}) > /dev/null 2>&1 &");
    stand.take(None).unwrap();
    stand.holds(&[]);
}

#[test]
fn a_remove_that_fails_is_told_and_tried_again() {
    let mut stand = Stand::new();
    let base = stand.keep_one(None);
    let remove = stand.commands.remove.clone();
    stand.commands.remove = "echo busy >&2; exit 5".to_owned();
    let mut next = stand.take(Some(&base)).unwrap();
    let told = next.keep();
    assert!(told[0].contains(&base) && told[0].contains("busy"), "{told:?}");
    let newest = next.as_base().unwrap().to_owned();
    drop(next);
    assert_eq!(stand.records().len(), 2);
    let third = stand.take(Some(&newest)).unwrap();
    assert!(third.notes()[0].contains(&base), "{:?}", third.notes());
    drop(third);
    // The older one, and the third.
    assert_eq!(stand.records().len(), 3);
    stand.commands.remove = remove;
    assert_eq!(stand.take(Some(&newest)).unwrap().notes(), [""; 0]);
    stand.holds(&[&newest]);
}

#[test]
fn snapshots_that_cannot_be_removed_do_not_pile_up() {
    let mut stand = Stand::new();
    let remove = stand.commands.remove.clone();
    stand.commands.remove = "exit 5".to_owned();
    let mut taken = 0;
    let refused = loop {
        match stand.take(None) {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 100);
    };
    assert!(matches!(refused, SnapshotError::Strays { count: 9, .. }), "{refused}");
    assert_eq!((taken, stand.snapshots().len()), (9, 9));
    stand.commands.remove = remove;
    stand.take(None).unwrap();
    stand.holds(&[]);
}

#[test]
fn a_list_of_changes_that_is_not_one_tells_nothing() {
    let mut stand = Stand::new();
    let base = stand.keep_one(None);
    for (command, reason) in [
        ("echo garbage", "expected value"),
        ("true", "EOF"),
        ("echo '{\"format\":1,\"extents\":[[0,1048577]]}'", "the disk has 1048576"),
        ("echo '{\"format\":1,\"extents\":[]}'; echo no >&2; exit 1", "failed"),
        ("echo '{\"format\":1,\"extents\":[[0,4096'", "EOF"),
        ("head -c 200000000 /dev/zero", "more than"),
    ] {
        stand.commands.changed = Some(command.to_owned());
        let next = stand.take(Some(&base)).unwrap();
        let unknown = next.changed_since(&base).unwrap_err();
        assert!(unknown.contains(reason) && unknown.contains("changed"), "{command}: {unknown}");
    }
    stand.commands.changed = Some("sleep 1000".to_owned());
    let mut next = stand.take(Some(&base)).unwrap();
    stand.commands.time_limit = Duration::from_millis(500);
    drop(next);
    next = stand.take(Some(&base)).unwrap();
    assert!(next.changed_since(&base).unwrap_err().contains("killed"));
    drop(next);
    stand.holds(&[&base]);
}

/// A run that was killed leaves its record, and perhaps its snapshot.
#[test]
fn what_a_run_that_was_cut_off_left_is_removed_by_the_next() {
    let stand = Stand::new();
    let base = stand.keep_one(None);
    let records = stand.path(&format!("records/{}", mark()));
    let name = |run: char| format!("afterimage-{}-{}", mark(), run.to_string().repeat(32));
    for run in ['a', 'b'] {
        std::fs::write(records.join(name(run)), "").unwrap();
    }
    std::fs::copy(stand.path("disk.img"), stand.path(&format!("snapshots/{}.img", name('b'))))
        .unwrap();
    // Not of this disk.
    std::fs::write(records.join("afterimage-0000000000000000-1"), "").unwrap();
    stand.take(Some(&base)).unwrap();
    assert_eq!(stand.snapshots(), [base.as_str()]);
    assert_eq!(stand.records(), ["afterimage-0000000000000000-1", &base]);
}

#[test]
fn two_runs_do_not_take_snapshots_of_a_disk_at_once() {
    let stand = Stand::new();
    let held = stand.take(None).unwrap();
    let refused = stand.take(None).unwrap_err();
    assert!(matches!(refused, SnapshotError::Locked(_)), "{refused}");
    assert!(!refused.is_permanent());
    drop(held);
    stand.take(None).unwrap();
}

/// A name that was noted is handed to the shell only if it is one of this disk's.
#[test]
fn a_base_that_is_no_name_of_this_disk_is_never_used() {
    let mut stand = Stand::new();
    stand.commands.remove =
        format!("echo \"$AFTERIMAGE_SNAPSHOT\" >> {}", stand.path("removed").display());
    let mut next = stand.take(Some("; rm -rf /")).unwrap();
    assert!(next.changed_since("; rm -rf /").is_err());
    next.keep();
    assert!(!stand.path("removed").exists());
}
