//! The commands that the samples of `config/` have for telling what changed, run for real as far as
//! that goes without a pool or a cluster.

use afterimage::capture::snapshot::parse_changed;
use afterimage::extent::Extent;
use afterimage::settings::{Settings, SnapshotSettings, SourceSettings};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn commands_of(sample: &str) -> SnapshotSettings {
    let settings = Settings::load(Path::new(sample)).unwrap();
    let machine = settings.machines.values().next().unwrap();
    match &machine.disks[0].source {
        SourceSettings::Snapshot(commands) => commands.clone(),
        other => panic!("{other:?}"),
    }
}

/// A folder of programs that stand in for others.
struct Programs(tempfile::TempDir);

impl Programs {
    fn new(programs: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, script) in programs {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(folder)
    }

    fn run(&self, line: &str) -> Output {
        let path = format!("{}:{}", self.0.path().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).env("PATH", path).env("STAND", self.0.path());
        command
            .env("AFTERIMAGE_BASE", "afterimage-old")
            .env("AFTERIMAGE_SNAPSHOT", "afterimage-new");
        command.output().unwrap()
    }

    fn called(&self) -> String {
        std::fs::read_to_string(self.0.path().join("called")).unwrap_or_default()
    }
}

const METADATA: &str = r#"
<superblock uuid="" time="2" transaction="3" data_block_size="128" nr_data_blocks="1024">
  <device dev_id="1" mapped_blocks="20" transaction="0" creation_time="0" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="10" time="0"/>
    <range_mapping origin_begin="14" data_begin="14" length="10" time="0"/>
  </device>
  <device dev_id="2" mapped_blocks="20" transaction="0" creation_time="1" snap_time="1">
    <range_mapping origin_begin="0" data_begin="0" length="5" time="0"/>
    <single_mapping origin_block="5" data_block="100" time="1"/>
    <range_mapping origin_begin="6" data_begin="6" length="4" time="0"/>
    <range_mapping origin_begin="12" data_begin="200" length="2" time="1"/>
    <range_mapping origin_begin="14" data_begin="14" length="8" time="0"/>
  </device>
</superblock>
"#;

/// Blocks of 64 KiB.
fn blocks(start: u64, end: u64) -> Extent {
    Extent::between(start << 16, end << 16)
}

const LVS: &str = "case \"$*\" in *old) echo '  1' ;; *new) echo '  2' ;; *) exit 5 ;; esac";

#[test]
fn what_thin_delta_prints_about_a_pool_is_told() {
    let real =
        "exec env PATH=\"${PATH#*:}\" thin_delta --snap1 \"$3\" --snap2 \"$5\" \"$STAND/pool\"";
    let programs = Programs::new(&[
        ("lvs", LVS),
        ("dmsetup", "echo \"$4\" >> \"$STAND/called\""),
        // The last block reaches past the end of the volume.
        ("blockdev", "echo $(((24 << 16) - 4096))"),
        ("thin_delta", real),
    ]);
    let place = |name: &str| programs.0.path().join(name);
    std::fs::write(place("pool.xml"), METADATA).unwrap();
    std::fs::File::create(place("pool")).unwrap().set_len(4 << 20).unwrap();
    let mut restore = Command::new("thin_restore");
    restore.arg("-i").arg(place("pool.xml")).arg("-o").arg(place("pool"));
    crate::volume::succeed(&mut restore);
    let changed = commands_of("config/lvm-thin.toml").changed.unwrap();
    let output = programs.run(&changed);
    assert!(output.status.success(), "{output:?}");
    let found = parse_changed(&output.stdout, (24 << 16) - 4096).unwrap();
    let last = Extent::between(22 << 16, (24 << 16) - 4096);
    assert_eq!(found, [blocks(5, 6), blocks(12, 14), last]);
    assert_eq!(programs.called(), "reserve_metadata_snap\nrelease_metadata_snap\n");
}

/// Half a list would hide changes.
#[test]
fn a_thin_delta_that_fails_half_way_makes_the_command_fail() {
    let half = "echo '<superblock uuid=\"\" data_block_size=\"128\">'; echo '<diff left=\"1\" \
                right=\"2\">'; echo '<different begin=\"5\" length=\"1\"/>'";
    let changed = commands_of("config/lvm-thin.toml").changed.unwrap();
    for (thin_delta, lvs, dmsetup) in [
        (format!("{half}; exit 1"), LVS, "true"),
        (half.to_owned(), LVS, "true"),
        (format!("{half}; echo '</diff>'"), "true", "true"),
        (format!("{half}; echo '</diff>'"), LVS, "false"),
    ] {
        let programs = Programs::new(&[
            ("lvs", lvs),
            ("dmsetup", dmsetup),
            ("blockdev", "echo 1000000"),
            ("thin_delta", &thin_delta),
        ]);
        let output = programs.run(&changed);
        assert!(!output.status.success() && output.stdout.is_empty(), "{thin_delta}: {output:?}");
    }
}

#[test]
fn what_rbd_diff_prints_is_told_and_its_failure_too() {
    let changed = commands_of("config/ceph-rbd.toml").changed.unwrap();
    let list = r#"[{"offset":0,"length":4194304,"exists":"true"},{"offset":8388608,"length":512,"exists":"false"}]"#;
    let wanted =
        "[ \"$*\" = 'diff --from-snap afterimage-old --format json vms/web01@afterimage-new' ]";
    let run = |script: String| Programs::new(&[("rbd", &script)]).run(&changed);
    let output = run(format!("{wanted} && echo '{list}'"));
    let found = parse_changed(&output.stdout, 16 << 20).unwrap();
    let second = Extent::between(8 << 20, (8 << 20) + 512);
    assert_eq!(found, [Extent::between(0, 4 << 20), second]);
    let output = run(format!("{wanted} && echo '[]'"));
    assert_eq!(parse_changed(&output.stdout, 16 << 20).unwrap(), []);
    for broken in ["exit 2", "echo '[{\"offset\":0'", "true", "echo '[]'; exit 1", "echo '[{}]'"] {
        let output = run(broken.to_owned());
        let is_list = parse_changed(&output.stdout, 16 << 20).is_ok();
        assert!(!output.status.success() || !is_list, "{broken}: {output:?}");
    }
}

/// A remove that cannot tell must not be taken for one that found nothing.
#[test]
fn the_removes_succeed_where_nothing_is_and_fail_where_that_is_unknown() {
    for (sample, lists, removes) in [
        ("config/lvm-thin.toml", "lvs", "lvremove"),
        ("config/zfs-volume.toml", "zfs", "zfs"),
        ("config/ceph-rbd.toml", "rbd", "rbd"),
    ] {
        let remove = commands_of(sample).remove;
        let run = |listed: &str| {
            let note = "echo \"$*\" >> \"$STAND/called\"";
            let script = format!("case \"$1\" in list|snap|--noheadings) {listed} ;; esac; {note}");
            let mut programs = vec![(lists, script.as_str())];
            if removes != lists {
                programs.push((removes, note));
            }
            let programs = Programs::new(&programs);
            let output = programs.run(&remove);
            (output.status.success(), programs.called())
        };
        let (done, called) = run("echo vms/web01@afterimage-new");
        assert!(done && called.contains("afterimage-new"), "{sample}: {called}");
        let (done, called) = run("echo vms/web01@afterimage-other");
        assert!(done && !called.contains("afterimage-new"), "{sample}: {called}");
        let (done, called) = run("exit 5");
        assert!(!done && !called.contains("afterimage-new"), "{sample}: {called}");
    }
}
