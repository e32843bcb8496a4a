//! What the package is made of, without making it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const UNIT: &str = "packaging/afterimage.service";
/// The most that `systemd-analyze security` may call exposed, in tenths.
const EXPOSURE_MAX: u32 = 50;

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn afterimage() -> Command {
    Command::new(env!("CARGO_BIN_EXE_afterimage"))
}

/// The unit as it is, but with this build of the binary, in a folder of its own.
fn unit(folder: &Path, change: impl FnOnce(String) -> String) -> PathBuf {
    let path = folder.join("afterimage.service");
    let text = read(UNIT).replace("/usr/bin/afterimage", env!("CARGO_BIN_EXE_afterimage"));
    std::fs::write(&path, change(text)).unwrap();
    path
}

fn analyze(arguments: &[&str], unit: &Path) -> Output {
    Command::new("systemd-analyze").args(arguments).arg(unit).output().unwrap()
}

#[test]
fn systemd_understands_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let good = unit(folder.path(), |text| text);
    let output = analyze(&["verify", "--man=no"], &good);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    // It is not silent about everything.
    let bad = unit(folder.path(), |text| text.replace("KillMode=", "KillMod="));
    let output = analyze(&["verify", "--man=no"], &bad);
    assert!(String::from_utf8_lossy(&output.stderr).contains("KillMod"));
}

#[test]
fn the_unit_is_not_exposed_more_than_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let arguments = ["security", "--offline=yes", "--no-pager", &threshold];
    let output = analyze(&arguments, &unit(folder.path(), |text| text));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let open = |text: String| text.replace("CapabilityBoundingSet=", "#").replace("Protect", "#");
    let output = analyze(&arguments, &unit(folder.path(), open));
    assert!(!output.status.success());
}

#[test]
fn the_unit_tells_of_readiness_and_spares_the_helper_that_thaws() {
    let unit = read(UNIT);
    for line in [
        "Type=notify",
        "NotifyAccess=main",
        "ExecStart=/usr/bin/afterimage daemon",
        "KillMode=control-group",
        "Restart=on-failure",
        "ConditionPathExists=/etc/afterimage/afterimage.toml",
    ] {
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
    assert!(unit.lines().any(|it| it.starts_with("WatchdogSec=")));
}

fn package() -> toml::Table {
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    manifest["package"]["metadata"]["deb"].as_table().unwrap().clone()
}

/// Files that a pattern names: at most its last part has a `*`.
fn matches(pattern: &str) -> Vec<PathBuf> {
    let path = Path::new(pattern);
    let name = path.file_name().unwrap().to_str().unwrap();
    let Some((before, after)) = name.split_once('*') else {
        return path.exists().then(|| path.to_owned()).into_iter().collect();
    };
    let entries = std::fs::read_dir(path.parent().unwrap()).into_iter().flatten();
    let files = entries.map(|entry| entry.unwrap().path());
    let fits = |file: &PathBuf| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(before) && name.ends_with(after)
    };
    files.filter(fits).collect()
}

#[test]
fn everything_that_is_packed_is_there_or_is_made() {
    let script = read("packaging/deb");
    let package = package();
    let assets = package["assets"].as_array().unwrap();
    assert!(assets.len() >= 8);
    for asset in assets {
        let source = asset[0].as_str().unwrap();
        match source.strip_prefix("target/deb/") {
            None if source == "target/release/afterimage" => {}
            None => assert!(!matches(source).is_empty(), "{source} is not there"),
            Some(made) => {
                let made = format!("\"$generated/{}\"", made.trim_end_matches("/*.1"));
                assert!(script.contains(&made), "{made} is not made by packaging/deb");
            }
        }
    }
    let holds = |target: &str, source: &str| {
        let is = |asset: &&toml::Value| {
            asset[1].as_str() == Some(target) && asset[0].as_str() == Some(source)
        };
        assets.iter().any(|asset| is(&asset))
    };
    assert!(holds("usr/bin/", "target/release/afterimage"));
    // Every sample, also a later one.
    assert!(holds("usr/share/doc/afterimage/examples/", "config/*.toml"));
    assert!(matches("config/*.toml").contains(&PathBuf::from("config/afterimage.toml")));
    assert!(Path::new(package["license-file"][0].as_str().unwrap()).exists());
}

#[test]
fn installing_the_package_starts_nothing() {
    let package = package();
    let unit = package["systemd-units"].as_table().unwrap();
    let folder = unit["unit-scripts"].as_str().unwrap();
    let path = format!("{folder}/{}.service", unit["unit-name"].as_str().unwrap());
    assert_eq!(path, UNIT);
    assert_eq!((unit["enable"].as_bool(), unit["start"].as_bool()), (Some(false), Some(false)));
    let scripts = Path::new(package["maintainer-scripts"].as_str().unwrap());
    for name in ["postinst", "prerm", "postrm"] {
        let script = scripts.join(name);
        assert!(read(&script).contains("\n#DEBHELPER#\n"), "{name}");
        let output = Command::new("sh").arg("-n").arg(&script).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        // A line that tells how to start it is no start.
        let read = read(&script);
        let starts = read.lines().filter(|line| line.contains("systemctl"));
        assert!(starts.into_iter().all(|line| line.trim().starts_with("echo ")), "{name}");
    }
    let output = Command::new("bash").args(["-n", "packaging/deb"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_binary_makes_its_pages_and_completions() {
    let folder = tempfile::tempdir().unwrap();
    let made = afterimage().args(["--quiet", "man", "--dir"]).arg(folder.path()).output().unwrap();
    assert!(made.status.success() && made.stdout.is_empty(), "{made:?}");
    for page in ["afterimage.1", "afterimage-backup.1", "afterimage-restore.1"] {
        assert!(read(folder.path().join(page)).contains(".TH"), "{page}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = afterimage().args(["completions", shell]).output().unwrap();
        assert!(script.status.success(), "{shell}");
        assert!(String::from_utf8_lossy(&script.stdout).contains("replicate"), "{shell}");
    }
}
