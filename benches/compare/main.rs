//! afterimage beside other programs that do the same, and beside what this machine can do at
//! most, on disks made from its own files. `docs/performance.md` tells how to run and read it.

mod bounds;
mod corpus;
mod patch;
mod results;
mod run;
mod standby;
mod tools;
mod works;

use anyhow::{Context, Result, bail, ensure};
use bounds::Bounds;
use corpus::{Corpus, Plan};
use results::{Results, WORKS};
use std::path::{Path, PathBuf};
use tools::Tool;
use works::{Bench, first_line};

const USAGE: &str = "cargo bench --bench compare -- [--smoke] [--rounds N] [--only WORK,…] [--with TOOL,…] \
                     [--folder DIR] [--program FILE] [--json FILE] [--add] [--keep]";
const FOLDER: &str = "/var/tmp/afterimage-compare";
const FULL: Plan =
    Plan { disk_bytes: 8 << 30, fill_bytes: 6_200_000_000, trees: &["/usr", "/opt", "/var"] };
/// So little that it runs with the tests: that everything works is seen, nothing is measured.
const SMOKE: Plan = Plan {
    disk_bytes: 384 << 20,
    fill_bytes: 160_000_000,
    trees: &["/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share"],
};

struct Options {
    smoke: bool,
    rounds: Option<usize>,
    only: Vec<String>,
    /// The other programs that keep repositories; all that are installed, where this is empty.
    with: Vec<String>,
    folder: PathBuf,
    program: PathBuf,
    json: Option<PathBuf>,
    /// What an earlier run measured of other works stays in the JSON document.
    add: bool,
    /// The repositories stay for the next run.
    keep: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            smoke: false,
            rounds: None,
            only: Vec::new(),
            with: Vec::new(),
            folder: FOLDER.into(),
            program: env!("CARGO_BIN_EXE_afterimage").into(),
            json: None,
            add: false,
            keep: false,
        };
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().context(USAGE);
            match argument.as_str() {
                // What cargo gives to every benchmark.
                "--bench" => {}
                "--smoke" => options.smoke = true,
                "--add" => options.add = true,
                "--keep" => options.keep = true,
                "--rounds" => options.rounds = Some(value()?.parse()?),
                "--only" => options.only = value()?.split(',').map(str::to_owned).collect(),
                "--with" => options.with = value()?.split(',').map(str::to_owned).collect(),
                "--folder" => options.folder = value()?.into(),
                "--program" => options.program = std::path::absolute(value()?)?,
                "--json" => options.json = Some(value()?.into()),
                _ => bail!("{argument} is no option\nusage: {USAGE}"),
            }
        }
        for work in &options.only {
            ensure!(WORKS.iter().any(|(name, _)| name == work), "{work} is no work");
        }
        Ok(options)
    }

    fn asks_for(&self, tool: &str) -> bool {
        self.with.is_empty() || self.with.iter().any(|name| name == tool)
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.smoke { 1 } else { 3 }).max(1)
    }
}

fn main() -> Result<()> {
    let options = Options::parse(std::env::args().skip(1))?;
    if let Some(missing) = missing() {
        println!("SKIPPED: nothing was compared: {missing}");
        return Ok(());
    }
    let folder = if options.smoke { options.folder.join("smoke") } else { options.folder.clone() };
    std::fs::create_dir_all(&folder)?;
    let mut tools = Tool::present();
    tools.retain(|tool| *tool == Tool::Afterimage || options.asks_for(tool.name()));
    let corpus = Corpus::open(&folder, if options.smoke { &SMOKE } else { &FULL })?;
    let mut results = earlier(&options)?;
    results.head = head(&tools, &corpus, &options.program);
    for (what, value) in &results.head {
        println!("{what}: {value}");
    }
    let bounds = Bounds::read(&corpus.disk)?;
    let (program, rounds) = (options.program.clone(), options.rounds());
    let mut bench = Bench { corpus, tools, program, folder, rounds, results, bounds };
    let done = measure(&mut bench, &options.only);
    if !options.keep {
        bench.clear();
    }
    done?;
    println!("\n{}", bench.results.table());
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&bench.results)?)?;
    }
    if options.smoke && !options.keep {
        std::fs::remove_dir_all(&bench.folder)?;
    }
    Ok(())
}

/// Why nothing can be done here.
fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("disks are filled through loop mounts, which needs root");
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there are no loop devices");
    }
    if run::succeed(std::process::Command::new("losetup").arg("-f")).is_err() {
        return Some("no loop device is free");
    }
    (!run::is_installed("mke2fs")).then_some("mke2fs is not installed")
}

fn measure(bench: &mut Bench, only: &[String]) -> Result<()> {
    for (work, title) in WORKS {
        if !only.is_empty() && !only.iter().any(|name| name == work) {
            continue;
        }
        println!("\n{title}");
        bench.results.forget(work);
        match work {
            "first" => bench.first(),
            "restore" => bench.restore(),
            "unchanged" => bench.unchanged(),
            "incremental" => bench.incremental(),
            "replicate" => bench.replicate(),
            _ => bench.store(),
        }
        .with_context(|| title)?;
    }
    Ok(())
}

/// With `--add`, what stands in the JSON document already.
fn earlier(options: &Options) -> Result<Results> {
    let text = options.json.as_ref().filter(|_| options.add).map(std::fs::read);
    match text {
        Some(Ok(text)) => Ok(serde_json::from_slice(&text)?),
        _ => Ok(Results::default()),
    }
}

/// What was compared, where and when.
fn head(
    tools: &[Tool],
    corpus: &Corpus,
    program: &Path,
) -> std::collections::BTreeMap<String, String> {
    let facts = &corpus.facts;
    let size = |bytes: u64| match bytes as f64 / f64::from(1 << 20) {
        mib if mib < 1024.0 => format!("{mib:.1} MiB"),
        mib => format!("{:.2} GiB", mib / 1024.0),
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut head = std::collections::BTreeMap::from([
        ("date".to_owned(), jiff::Zoned::now().strftime("%Y-%m-%d").to_string()),
        ("machine".to_owned(), format!("{cores} cores, Linux {}", first_line("uname", "-r"))),
        (
            "disk".to_owned(),
            format!(
                "{}, of which {} in use ({} in granules), {} files",
                size(facts.disk_bytes),
                size(facts.used_bytes),
                size(facts.data_bytes),
                facts.files
            ),
        ),
        (
            "changes".to_owned(),
            format!(
                "edits {}; at random {} in {} ranges",
                size(facts.later_bytes),
                size(facts.random_bytes),
                facts.random_extents
            ),
        ),
        ("encryption".to_owned(), "restic and rustic always encrypt; the others do not".to_owned()),
        ("rsync".to_owned(), first_line("rsync", "--version")),
        ("qemu-img".to_owned(), first_line("qemu-img", "--version")),
    ]);
    for tool in tools {
        head.insert(tool.name().to_owned(), tool.version(program));
    }
    head
}
