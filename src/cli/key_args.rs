//! The command line of `afterimage key`, as it is typed.

use crate::store::SlotLabel;
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// List the key slots, and what is wrong with them.
    List {
        #[command(flatten)]
        which: Which,
        /// Accept the slots that are there: write their index anew.
        #[arg(long)]
        repair: bool,
    },
    /// Add a key: a key file, a pass phrase or a new recovery key.
    Add(AddArgs),
    /// Remove a key slot, so that its key no longer opens the repository.
    Remove {
        /// The first digits of the slot's id.
        slot: String,
        #[command(flatten)]
        which: Which,
        /// Remove it even if the key of the settings then opens nothing.
        #[arg(long)]
        own_key: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Exchange the key of the settings: a key file for a new one in its place, or for the key given.
    Rotate {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        to: RotateArgs,
    },
    /// Write the header and the key slots, still sealed, to one file, to be kept elsewhere.
    Export {
        #[command(flatten)]
        which: Which,
        /// A new file.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
    },
    /// Get back in: let the key of the settings in with the recovery key, or put back what was lost.
    Recover {
        #[command(flatten)]
        which: Which,
        /// An export: put back from it the header, index and slots that are missing or damaged.
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// A file with the recovery key; `-` is standard input, or a question on the terminal, as
        /// without `--from`.
        #[arg(long, value_name = "FILE")]
        recovery_key_file: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Which {
    /// The repository; needed if the settings have several.
    pub repository: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub key: AddedKey,
    /// Write a new key to the key file first, which must not exist.
    #[arg(long, requires = "key_file")]
    pub generate: bool,
    /// What to call it.
    #[arg(long, value_name = "TEXT")]
    pub label: Option<SlotLabel>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct AddedKey {
    /// A key file.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// A file with a pass phrase.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Make a recovery key, and print it.
    #[arg(long)]
    pub recovery_key: bool,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// A key file that takes the place of the key of the settings.
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_file")]
    pub key_file: Option<PathBuf>,
    /// Write a new key to the key file first, which must not exist.
    #[arg(long, requires = "key_file")]
    pub generate: bool,
    /// A file with the pass phrase that takes the place of the key of the settings.
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}
