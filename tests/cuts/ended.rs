//! How a process ended, and what it said.

use serde_json::Value;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A process that can do nothing any more is given so long to see it.
const PATIENCE: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_micros(500);

/// How a process ended.
#[derive(Debug)]
pub struct Ended {
    /// `None`: by a signal.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Ended {
    pub fn is_done(&self) -> bool {
        self.code == Some(0)
    }

    /// Lines of `--json`; one that was cut off is left out.
    pub fn lines(&self, kind: &str) -> Vec<Value> {
        let values = self.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        values.filter(|value| value["message_type"] == kind).collect()
    }

    /// The messages of all errors, on standard error and in summaries.
    pub fn errors(&self) -> Vec<String> {
        let values = self.err.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told = values.filter_map(|value| value["message"].as_str().map(str::to_owned));
        let summaries = self.lines("summary").into_iter();
        let reasons = summaries.filter_map(|it| it["reason"].as_str().map(str::to_owned));
        told.chain(reasons).collect()
    }

    /// The last summary.
    pub fn summary(&self) -> Value {
        self.lines("summary").pop().unwrap_or(Value::Null)
    }

    pub fn has_warnings(&self) -> bool {
        self.lines("summary").iter().any(|summary| summary["warnings"].is_array())
    }
}

pub fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

pub fn run(mut command: Command) -> Ended {
    command.stdin(Stdio::null());
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}")).into()
}

/// Waits a moment for what lost its file system, then kills it.
pub fn finish(mut child: Child) -> Ended {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(LOOK);
    }
    kill(child)
}

/// Kills it, unless it has ended.
pub fn kill(mut child: Child) -> Ended {
    child.kill().unwrap();
    child.wait_with_output().unwrap().into()
}

/// Waits for it.
pub fn wait(child: Child) -> Ended {
    child.wait_with_output().unwrap().into()
}
