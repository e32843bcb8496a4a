//! The command line as it is typed.

use super::daemon_args::{DaemonCommand, PauseArgs, PausedArgs, RunCommand, RunsArgs};
use super::key_args::KeyCommand;
use super::token_args::{AuditArgs, NotifyCommand, TokenCommand};
use crate::units::Name;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Exit codes: 0 done or nothing to do; 1 failed; 2 usage or settings; 3 incomplete; \
10 no repository; 11 busy; 12 wrong or missing key; 130 interrupted.";

/// Keeps warm, bootable standby copies of virtual machines' disks, fed from deduplicated backups,
/// and brings any older point back.
#[derive(Debug, Parser)]
#[command(name = "afterimage", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub(super) struct GlobalArgs {
    /// The settings file.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "AFTERIMAGE_CONFIG",
        default_value = "/etc/afterimage/afterimage.toml"
    )]
    pub config: PathBuf,
    /// Print JSON lines, the last one a summary; errors are JSON on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only results and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Do the work in this process, also when a daemon runs.
    #[arg(long, global = true)]
    pub no_daemon: bool,
    /// Print more.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create repositories, and keys for them where the key file does not exist.
    Init {
        /// Repositories of the settings; all that do not exist yet, if none is named.
        #[arg(value_name = "REPOSITORY")]
        repositories: Vec<String>,
        /// Make no recovery key for encrypted repositories.
        #[arg(long)]
        no_recovery_key: bool,
    },
    /// List, add, remove and exchange the keys of a repository.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Work with the settings file.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Back machines up.
    Backup {
        #[command(subcommand)]
        command: BackupCommand,
    },
    /// List recovery points, or pin them so that they are not removed.
    #[command(args_conflicts_with_subcommands = true)]
    Points {
        #[command(subcommand)]
        command: Option<PointsCommand>,
        /// Only those of this machine.
        machine: Option<String>,
    },
    /// Bring replicas to the newest points of their machines.
    Replicate {
        #[command(subcommand)]
        command: ReplicateCommand,
    },
    /// Show the state of repositories, machines and replicas, and of the daemon where one runs.
    Status,
    /// Print metrics for Prometheus, as the daemon tells them.
    Metrics {
        /// Write them to this file instead, in place of the one that is there: for the textfile
        /// collector of the node exporter, whose names end with `.prom`.
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// List runs, the newest first.
    Runs(RunsArgs),
    /// Show a run, or stop it.
    Run {
        #[command(subcommand)]
        command: RunCommand,
    },
    /// Show what the daemon runs next by itself.
    Schedule,
    /// Keep the daemon from beginning runs by itself. What is under way goes on.
    Pause(PauseArgs),
    /// Let the daemon begin runs by itself again.
    Resume(PausedArgs),
    /// Run the daemon, in the foreground: it runs what is due and what it is asked for. Or tell
    /// the one that runs something.
    Daemon {
        #[command(subcommand)]
        command: Option<DaemonCommand>,
    },
    /// Write the disks of a recovery point to files or a device.
    Restore(RestoreArgs),
    /// Make, list and revoke tokens of the API.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
    /// Show what was asked of the daemon, by whom, and what was refused; or check that log.
    Audit(AuditArgs),
    /// Work with notifications.
    Notify {
        #[command(subcommand)]
        command: NotifyCommand,
    },
    /// Compare what is kept with what it must be: repositories, single points, or replicas with
    /// the points that they are at.
    Verify(VerifyArgs),
    /// Bring back what is damaged in repositories from wherever the same content still is, and
    /// set the rest apart.
    Repair(RepairArgs),
    /// Give back the space that no point needs.
    Gc {
        /// Repositories of the settings; all, if none is named.
        #[arg(value_name = "REPOSITORY")]
        repositories: Vec<String>,
    },
    /// Remove points that `keep` in the settings does not keep, and tell why the others stay.
    Prune(PruneArgs),
    /// Show what repositories, machines and points cost, and what removing them would free.
    Stats(StatsArgs),
    /// Copy recovery points to another repository, only what is missing there.
    Copy(CopyArgs),
    /// Show the whole story on disks that are made for it: needs e2fsprogs, no root, one minute.
    Demo {
        /// Leave the disks, the repository and the settings there, to look at.
        #[arg(long)]
        keep: bool,
    },
    /// Work with the local catalog.
    Catalog {
        #[command(subcommand)]
        command: CatalogCommand,
    },
    /// Print a script that completes commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one for each command to a folder.
    Man {
        /// The folder.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Check the settings file and report everything that is wrong in it.
    Check,
}

#[derive(Debug, Subcommand)]
pub(super) enum BackupCommand {
    /// Back machines up now.
    Now {
        /// Machines of the settings; all, if none is named.
        #[arg(value_name = "MACHINE")]
        machines: Vec<String>,
        /// Read everything, whatever is known of what changed.
        #[arg(long)]
        full_read: bool,
        /// Believe again what is told of changes, though it was found to be too little.
        #[arg(long)]
        trust_changes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum PointsCommand {
    /// Keep a point whatever `keep` says, until it is unpinned.
    Pin {
        /// The machine; it need not be in the settings any more.
        machine: String,
        /// The point, as in `restore --point`: `#12`, the first digits of its id, a time, `latest`.
        point: String,
        /// Why it is kept, in one line.
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Take all pins of a point away.
    Unpin {
        /// The machine; it need not be in the settings any more.
        machine: String,
        /// The point, as in `restore --point`: `#12`, the first digits of its id, a time, `latest`.
        point: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct PruneArgs {
    /// Machines of the settings; all, if none is named.
    #[arg(value_name = "MACHINE")]
    pub machines: Vec<String>,
    /// Tell what would become of each point, and remove nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask before more of a machine's points go than `prune_max_percent`.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ReplicateCommand {
    /// Bring replicas to the newest points now.
    Now {
        /// Replicas of the settings; all, if none is named.
        #[arg(value_name = "REPLICA")]
        replicas: Vec<String>,
        /// Back their machines up before, each once.
        #[arg(long)]
        backup_first: bool,
        /// Compare and overwrite targets that hold something which afterimage did not put there.
        #[arg(long)]
        adopt: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The machine; it need not be in the settings any more.
    pub machine: String,
    /// Only this disk.
    #[arg(long, value_name = "NAME")]
    pub disk: Option<Name>,
    /// `latest`, the first digits of a point's id, its number as `#12`, or the newest point at or
    /// before a time such as `2026-11-22 09:30`.
    #[arg(long, value_name = "POINT", default_value = "latest")]
    pub point: String,
    /// The repository that the point is in, if not the machine's own: one that it was copied to.
    #[arg(long, value_name = "REPOSITORY")]
    pub repository: Option<String>,
    /// A folder, in which each disk becomes NAME.raw; or, with one disk, a file or device.
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
    /// Replace existing files, overwrite a device.
    #[arg(long)]
    pub force: bool,
    /// Restore everything that can be read. What cannot be reads as zeros, and is listed in
    /// NAME.raw.missing.json beside each disk that lacks something.
    #[arg(long)]
    pub skip_damaged: bool,
    /// Do not ask before something is overwritten.
    #[arg(long)]
    pub yes: bool,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatsArgs {
    /// Only this machine, with its points; it need not be in the settings.
    pub machine: Option<Name>,
    /// Only this repository.
    #[arg(long, value_name = "REPOSITORY")]
    pub repository: Option<String>,
    /// Each point, too.
    #[arg(long)]
    pub points: bool,
}

#[derive(Debug, Args)]
pub(super) struct CopyArgs {
    /// The repository that has the points.
    #[arg(value_name = "FROM")]
    pub from: String,
    /// The repository that gets them; `afterimage init` creates it.
    #[arg(value_name = "TO")]
    pub to: String,
    /// Only the points of this machine, which need not be in the settings; may be repeated.
    #[arg(long = "machine", value_name = "MACHINE")]
    pub machines: Vec<Name>,
    /// Only one point of each machine: `latest`, the first digits of its id, its number as `#12`,
    /// or the newest one at or before a time.
    #[arg(long, value_name = "POINT")]
    pub point: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum CatalogCommand {
    /// Compare the catalog with one that is built from the repository alone.
    Check {
        /// Repositories of the settings; all, if none is named.
        #[arg(value_name = "REPOSITORY")]
        repositories: Vec<String>,
    },
    /// Build the catalog anew from the repository alone, in place of the one that is there.
    Rebuild {
        /// Repositories of the settings; all, if none is named.
        #[arg(value_name = "REPOSITORY")]
        repositories: Vec<String>,
    },
}

#[derive(Debug, Args)]
#[command(group(
    clap::ArgGroup::new("what").required(true).args(["machine", "all", "sample", "replicas"])
))]
pub(super) struct VerifyArgs {
    /// Read every byte that one point of this machine needs.
    pub machine: Option<String>,
    /// Which point of the machine: as for a restore.
    #[arg(long, value_name = "POINT", default_value = "latest", requires = "machine")]
    pub point: String,
    /// Read every byte of repositories.
    #[arg(long)]
    pub all: bool,
    /// Read a share of the packs of repositories, in percent, those first that were not read for
    /// the longest time: once a day, one percent reads everything in a hundred days.
    #[arg(
        long,
        value_name = "PERCENT",
        num_args = 0..=1,
        default_missing_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=100)
    )]
    pub sample: Option<u32>,
    /// Only compare files with their names: needs no key, and cannot tell which points are
    /// harmed.
    #[arg(long, conflicts_with_all = ["machine", "sample", "replicas"])]
    pub no_key: bool,
    /// Replicas of the settings: every byte is compared with the points that they are at.
    #[arg(long = "replica", value_name = "REPLICA", num_args = 1..)]
    pub replicas: Vec<String>,
    /// Repositories of the settings; all, if none is named.
    #[arg(long = "repository", value_name = "REPOSITORY", num_args = 1..,
        conflicts_with_all = ["machine", "replicas"])]
    pub repositories: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    /// Repositories of the settings; all, if none is named.
    #[arg(value_name = "REPOSITORY")]
    pub repositories: Vec<String>,
    /// A folder with a copy of the repository's files, or another repository of the settings,
    /// which is looked into first. Replicas, sources and other repositories of the settings are
    /// looked into in any case.
    #[arg(long, value_name = "PATH|REPOSITORY")]
    pub from: Vec<String>,
    /// Show what is damaged, and change nothing.
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Do not ask before damaged files are set apart.
    #[arg(long)]
    pub yes: bool,
}
