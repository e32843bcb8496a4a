//! What is typed to work with runs and the daemon.

use crate::catalog::{RunKind, RunStatus};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};

const KINDS: [&str; 8] =
    ["backup", "replicate", "restore", "verify", "prune", "gc", "repair", "copy"];
const STATUSES: [&str; 6] = ["queued", "running", "completed", "skipped", "failed", "incomplete"];

/// One of `words`, as a value of the library that has the same name in JSON.
fn word<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: serde::de::DeserializeOwned + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words)
        .try_map(|word| serde_json::from_value::<T>(serde_json::Value::String(word)))
}

#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    /// Only those of this machine; it need not be in the settings any more.
    #[arg(long, value_name = "MACHINE")]
    pub machine: Option<crate::units::Name>,
    /// Only those of this replica; it need not be in the settings any more.
    #[arg(long, value_name = "REPLICA")]
    pub replica: Option<crate::units::Name>,
    /// Only those of this kind.
    #[arg(long, value_name = "KIND", value_parser = word::<RunKind>(&KINDS))]
    pub kind: Option<RunKind>,
    /// Only those that ended so, or did not yet.
    #[arg(long, value_name = "STATUS", value_parser = word::<RunStatus>(&STATUSES))]
    pub status: Option<RunStatus>,
    /// Only those that began since: a time such as `2026-11-22 09:30`, or how long ago, as `2h`.
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// At most so many, the newest ones.
    #[arg(short = 'n', long = "limit", value_name = "COUNT", default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum RunCommand {
    /// Show a run: its steps, rates and warnings, and why it failed.
    Show {
        /// `latest`, or the first digits of the run's id.
        #[arg(value_name = "RUN")]
        run: String,
        /// Watch it until it ends, and exit with its exit code. Ctrl-C ends only the watching.
        #[arg(long)]
        follow: bool,
    },
    /// Ask a run of the daemon to stop at the next safe place.
    Cancel {
        /// `latest`, or the first digits of the run's id.
        #[arg(value_name = "RUN")]
        run: String,
    },
}

/// What can be paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Paused {
    /// Everything.
    All,
    /// A machine: its backups and what is done to its points.
    Machine,
    /// A replica.
    Replica,
    /// A repository: all that reads or changes it.
    Repository,
}

#[derive(Debug, Args)]
pub(super) struct PausedArgs {
    /// What.
    #[arg(value_enum, default_value = "all")]
    pub what: Paused,
    /// The name of the machine, the replica or the repository.
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    pub paused: PausedArgs,
    /// Why, in one line.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Until when: a time such as `2026-11-22 09:30`, or for how long, as `2h`; until it is
    /// resumed, if not given.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum DaemonCommand {
    /// Have the settings file read again. A file that is wrong changes nothing.
    Reload,
    /// Have the clock believed that was found to have jumped: what is due runs, and points are
    /// pruned again.
    TrustClock,
    /// Show the daemon, what is paused, what runs next, and how the objectives are met.
    Status,
}
