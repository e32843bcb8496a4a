//! What was measured: a table that is printed, and a file for the plots.

use crate::Options;
use crate::measure::Cost;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Columns that say which case a row is about.
const KEYS: usize = 2;

/// Rows of numbers with the same columns, the first two of which say what the row is about.
pub struct Table {
    name: &'static str,
    rows: Vec<Vec<(String, f64)>>,
}

/// One row under construction.
#[derive(Default)]
pub struct Row {
    columns: Vec<(String, f64)>,
}

impl Row {
    /// A row about a case.
    pub fn about(first: (&str, f64), second: (&str, f64)) -> Self {
        let mut row = Self::default();
        row.number(first.0, first.1);
        row.number(second.0, second.1);
        row
    }

    pub fn number(&mut self, name: &str, value: f64) {
        println!("  {name:<24} {}", plain(value));
        self.columns.push((name.to_owned(), value));
    }

    /// Seconds and MiB of a step; without a cost, it was not taken.
    pub fn cost(&mut self, name: &str, cost: Option<Cost>) {
        self.number(&format!("{name}_s"), cost.map_or(f64::NAN, |cost| cost.seconds()));
        self.number(&format!("{name}_mib"), cost.map_or(f64::NAN, |cost| cost.peak_mib()));
    }
}

impl Table {
    pub fn new(name: &'static str) -> Self {
        println!("\n== {name}");
        Self { name, rows: Vec::new() }
    }

    pub fn add(&mut self, row: Row) {
        println!();
        self.rows.push(row.columns);
    }

    /// Prints all rows, each column in a line of its own, and writes them where that was asked.
    pub fn finish(self, options: &Options) {
        let Some(first) = self.rows.first() else { return };
        println!("== {}", self.name);
        for (index, (column, _)) in first.iter().enumerate() {
            let values = self.rows.iter().map(|row| format!("{:>12}", plain(row[index].1)));
            println!("{column:<26}{}", values.collect::<String>());
        }
        if let Some(folder) = &options.data {
            self.write(folder);
        }
    }

    /// Rows of cases that are not in this table stay in the file.
    fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("the folder for data");
        let path = folder.join(format!("scale-{}.dat", self.name));
        let head: Vec<&str> = self.rows[0].iter().map(|(column, _)| column.as_str()).collect();
        let head = format!("# {}", head.join(" "));
        let old = fs::read_to_string(&path).unwrap_or_default();
        let mut lines = BTreeMap::new();
        if old.lines().next() == Some(head.as_str()) {
            for line in old.lines().skip(1) {
                lines.insert(key(line), line.to_owned());
            }
        }
        for row in &self.rows {
            let line: Vec<String> = row.iter().map(|(_, value)| plain(*value)).collect();
            let line = line.join(" ");
            lines.insert(key(&line), line);
        }
        let body: Vec<String> = lines.into_values().collect();
        fs::write(&path, format!("{head}\n{}\n", body.join("\n"))).expect("the data is written");
        println!("written to {}", path.display());
    }
}

/// What a row is about, in thousandths, so that it can be ordered.
fn key(line: &str) -> Vec<u64> {
    let number = |text: &str| (text.parse::<f64>().unwrap_or(0.0) * 1000.0) as u64;
    line.split(' ').take(KEYS).map(number).collect()
}

/// Four digits that count, as gnuplot reads them too.
fn plain(value: f64) -> String {
    match value {
        value if value.is_nan() => "nan".to_owned(),
        value if value.fract() == 0.0 || value >= 1000.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    }
}
