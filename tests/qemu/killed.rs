//! The program is killed, or stopped, at any moment: the guest goes on writing, and the next run
//! cleans up.

use super::lab::Lab;
use super::machine::{run, wait_for};
use super::proxy::{Fault, Proxy};
use super::running::check_frozen;
use afterimage::testing::Random;
use std::fmt::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// For how long the guest may be frozen, by the settings.
const LIMIT: Duration = Duration::from_secs(6);
/// The guest may be slow beside everything else that a machine for tests does.
const SLOW: Duration = Duration::from_secs(15);

/// Writes settings that capture the machine over `qmp`.
fn write_settings(lab: &Lab, qmp: &Path) {
    let world = &lab.world;
    let mut text = format!(
        "state_dir = {:?}\n[repository.main]\nurl = {:?}\nencryption = \"none\"\n\
         [machine.web01]\nrepository = \"main\"\n",
        world.path("cli-state"),
        world.path("cli-repository"),
    );
    for disk in super::lab::DISKS {
        let (agent, seconds) = (lab.machine.agent(), LIMIT.as_secs());
        let source = format!(
            "qmp = {qmp:?}, device = \"{disk}\", agent = {agent:?}, freeze_timeout = \"{seconds} s\""
        );
        writeln!(
            text,
            "[[machine.web01.disk]]\nname = \"{disk}\"\nsource = {{ qemu = {{ {source} }} }}"
        )
        .unwrap();
    }
    std::fs::write(world.path("afterimage.toml"), text).unwrap();
}

fn program(lab: &Lab, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_afterimage"));
    command.arg("-c").arg(lab.world.path("afterimage.toml")).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program to its end; gives back what it says.
#[track_caller]
fn expect(lab: &Lab, arguments: &[&str]) -> String {
    let output = program(lab, arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    text
}

/// Watches from outside whether the guest writes: the longest time without.
struct Pulse {
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<Duration>>,
}

impl Pulse {
    fn of(lab: &Lab) -> Self {
        let image = lab.machine.folder.join("data.raw");
        // The number stands in this block of the image from the beginning.
        let blocks = run("debugfs", &["-R", "blocks /count", image.to_str().unwrap()]);
        let block: u64 = blocks.split_whitespace().next().unwrap().parse().unwrap();
        let file = std::fs::File::open(image).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let watch = move || {
            let (mut last, mut since, mut longest) = ([0; 16], Instant::now(), Duration::ZERO);
            while !told.load(Ordering::Relaxed) {
                let mut now = [0; 16];
                file.read_exact_at(&mut now, block * 4096).unwrap();
                if now != last {
                    longest = longest.max(since.elapsed());
                    (last, since) = (now, Instant::now());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            longest.max(since.elapsed())
        };
        Self { ended, thread: Some(std::thread::spawn(watch)) }
    }

    /// The longest time for which the guest wrote nothing.
    fn longest_pause(mut self) -> Duration {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The newest point is whole, and nothing but the bitmaps is left of any run.
#[track_caller]
fn check_clean(lab: &Lab) {
    let said = expect(lab, &["backup", "now", "web01"]);
    let marked = lab.machine.marked();
    assert_eq!(marked.len(), 2, "{marked:?} after {said}");
    let to = lab.world.path("restored-by-cli");
    let _ = std::fs::remove_dir_all(&to);
    expect(lab, &["restore", "web01", "--to", to.to_str().unwrap()]);
    check_frozen(&["root", "data"].map(|disk| to.join(format!("{disk}.raw"))));
}

#[test]
fn a_program_that_is_killed_at_any_moment_leaves_the_guest_writing_and_nothing_behind() {
    let lab = Lab::with_guest();
    write_settings(&lab, &lab.machine.qmp());
    expect(&lab, &["init"]);
    let began = Instant::now();
    check_clean(&lab);
    let usual = began.elapsed();
    let pulse = Pulse::of(&lab);
    let seed = 20_261_128;
    let mut random = Random::new(seed);
    for round in 0..12 {
        let after = usual.mul_f64(random.below(1000) as f64 / 1200.0);
        let child = program(&lab, &["backup", "now", "web01"]).spawn().unwrap();
        std::thread::sleep(after);
        kill(child);
        if round % 4 == 3 {
            check_clean(&lab);
        }
    }
    let pause = pulse.longest_pause();
    assert!(pause < LIMIT + SLOW, "seed {seed}: no write for {pause:?}");
}

/// The number that the guest wrote last.
fn written(lab: &Lab) -> u64 {
    super::running::count(&lab.machine.folder.join("data.raw"))
}

/// Starts a backup that is held up while the guest is frozen, and waits until it is.
fn held_up(lab: &Lab) -> (Child, Proxy) {
    let hold = Fault::Hold("transaction");
    let proxy = Proxy::start(&lab.machine.folder, &lab.machine.qmp(), hold, true);
    write_settings(lab, &proxy.path);
    let child = program(lab, &["backup", "now", "web01"]).spawn().unwrap();
    wait_for("the transaction", || {
        proxy.seen.lock().unwrap().iter().any(|command| command == "transaction").then_some(())
    });
    let before = written(lab);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(written(lab), before, "the guest is not frozen");
    (child, proxy)
}

#[test]
fn a_guest_is_thawed_when_the_program_is_killed_while_it_is_frozen() {
    let lab = Lab::with_guest();
    write_settings(&lab, &lab.machine.qmp());
    expect(&lab, &["init"]);
    check_clean(&lab);
    let (child, _proxy) = held_up(&lab);
    kill(child);
    let first = written(&lab);
    wait_for("a write of the guest", || (written(&lab) > first).then_some(()));
    assert!(lab.machine.marked().iter().any(|name| name.ends_with("-frozen")));
    write_settings(&lab, &lab.machine.qmp());
    check_clean(&lab);
}

#[test]
fn a_guest_is_thawed_when_the_program_hangs_while_it_is_frozen() {
    let lab = Lab::with_guest();
    write_settings(&lab, &lab.machine.qmp());
    expect(&lab, &["init"]);
    check_clean(&lab);
    let (child, _proxy) = held_up(&lab);
    // Stopped, so that only the process that watches it can do anything.
    run("kill", &["-STOP", &child.id().to_string()]);
    let first = written(&lab);
    wait_for("a write of the guest", || (written(&lab) > first).then_some(()));
    kill(child);
    write_settings(&lab, &lab.machine.qmp());
    check_clean(&lab);
}
