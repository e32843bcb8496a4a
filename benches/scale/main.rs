//! What happens at scale: how time and memory grow with the size of a disk, the number of points
//! and the number of chunks. `docs/performance/scale.md` shows the results.
//!
//! ```text
//! cargo bench --bench scale                         measures for about an hour, with 25 GB of room
//! cargo bench --bench scale -- --smoke              the same, small: it still runs
//! cargo bench --bench scale -- --only disk,points   parts of it: disk, points, chunks
//!     --cases 0,2       only these cases of each part, counted from 0
//!     --folder DIR      works in a new folder in DIR; by default in that for temporary files
//!     --data DIR        writes the tables to DIR as well, in place of rows of the same cases
//! ```

mod chunks;
mod disk;
mod generated;
mod measure;
mod points;
mod table;
mod world;

use std::path::PathBuf;

/// What was asked for.
pub struct Options {
    pub smoke: bool,
    pub folder: PathBuf,
    pub data: Option<PathBuf>,
    only: Vec<String>,
    cases: Option<Vec<usize>>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Self {
        let (smoke, data, only, cases) = (false, None, Vec::new(), None);
        let mut options = Self { smoke, folder: std::env::temp_dir(), data, only, cases };
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| panic!("{arg} needs a value"));
            match arg.as_str() {
                // What cargo says of its own accord.
                "--bench" => {}
                "--smoke" => options.smoke = true,
                "--folder" => options.folder = value().into(),
                "--data" => options.data = Some(value().into()),
                "--only" => options.only = value().split(',').map(str::to_owned).collect(),
                "--cases" => {
                    let number = |text: &str| text.parse().expect("the number of a case");
                    options.cases = Some(value().split(',').map(number).collect());
                }
                _ => panic!("{arg} is not known; see the top of benches/scale/main.rs"),
            }
        }
        options
    }

    fn has(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == part)
    }

    /// Those of `all` that were asked for.
    pub fn cases<T: Copy>(&self, all: &[T]) -> Vec<T> {
        let is_asked = |index: &usize| self.cases.as_ref().is_none_or(|it| it.contains(index));
        (0..all.len()).filter(is_asked).map(|index| all[index]).collect()
    }

    /// A folder of its own for one case, which goes with it.
    pub fn case_folder(&self) -> tempfile::TempDir {
        std::fs::create_dir_all(&self.folder).expect("the folder to work in");
        tempfile::tempdir_in(&self.folder).expect("a folder")
    }
}

fn main() {
    let options = Options::parse(std::env::args().skip(1));
    if options.has("disk") {
        disk::run(&options);
    }
    if options.has("points") {
        points::run(&options);
    }
    if options.has("chunks") {
        chunks::run(&options);
    }
}
