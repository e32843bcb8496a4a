//! The command line as it is typed.

use super::key_args::KeyCommand;
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
    /// List recovery points.
    Points {
        /// Only those of this machine.
        machine: Option<String>,
    },
    /// Bring replicas to the newest points of their machines.
    Replicate {
        #[command(subcommand)]
        command: ReplicateCommand,
    },
    /// Show the state of repositories, machines and replicas.
    Status,
    /// Write the disks of a recovery point to files or a device.
    Restore(RestoreArgs),
    /// Compare replicas, every byte, with the points that they are at.
    Verify {
        /// Replicas of the settings.
        #[arg(long = "replica", value_name = "REPLICA", required = true, num_args = 1..)]
        replicas: Vec<String>,
    },
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
    },
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
    /// A folder, in which each disk becomes NAME.raw; or, with one disk, a file or device.
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
    /// Replace existing files, overwrite a device.
    #[arg(long)]
    pub force: bool,
    /// Do not ask before something is overwritten.
    #[arg(long)]
    pub yes: bool,
    /// Show what would be written, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum CatalogCommand {
    /// Throw the catalog away and build it anew from the repository.
    Rebuild {
        /// Repositories of the settings; all, if none is named.
        #[arg(value_name = "REPOSITORY")]
        repositories: Vec<String>,
    },
}
