//! Talking to libvirt by its command `virsh`: each call ends within a time, and its output is bounded.

use crate::capture::command::{CommandError, UserCommand};
use crate::units::readable;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

/// Longest wait for an answer that needs no work.
const ANSWER_LIMIT: Duration = Duration::from_secs(40);
/// No description of a domain is this long.
const OUTPUT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What the shell says of a command that it does not find.
const NOT_FOUND: i32 = 127;
/// The line that ends a document; no line of XML is like it.
const DOCUMENT_END: &str = "AFTERIMAGE-END-OF-DOCUMENT";

/// Why libvirt did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum VirshError {
    /// Its client is not installed.
    #[error(
        "the command `virsh` is not there; install it (Debian: libvirt-clients), then run this \
        again"
    )]
    Missing,
    /// There is no such domain.
    #[error("libvirt at {uri} has no domain {domain:?}; see `virsh --connect {uri} list --all`")]
    NoDomain {
        /// How libvirt is reached.
        uri: String,
        /// The domain, as the settings call it.
        domain: String,
    },
    /// libvirt cannot be reached.
    #[error(
        "libvirt at {uri} cannot be reached: {reason}; see whether it runs (`systemctl status \
        libvirtd virtqemud`) and whether `uri` is right"
    )]
    NotReached {
        /// How it should be reached.
        uri: String,
        /// Its client's words.
        reason: String,
    },
    /// libvirt does not let this user in.
    #[error(
        "libvirt at {uri} refuses this user: {reason}; run afterimage as root or as a member of \
        the group libvirt"
    )]
    Denied {
        /// How libvirt is reached.
        uri: String,
        /// Its client's words.
        reason: String,
    },
    /// Anything else.
    #[error("{0}")]
    Command(#[from] CommandError),
}

impl VirshError {
    /// Whether trying the same again can not help.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Missing | Self::NoDomain { .. } | Self::Denied { .. })
    }

    /// What libvirt said, when it answered and refused.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            Self::Command(CommandError::Failed { complaint, .. }) => Some(complaint),
            _ => None,
        }
    }
}

/// libvirt, as `virsh` reaches it, and one domain.
#[derive(Debug, Clone)]
pub(super) struct Virsh {
    pub uri: String,
    /// Its name or UUID.
    pub domain: String,
}

impl Virsh {
    /// Runs a command on the domain, with further words.
    pub fn run(&self, name: &'static str, words: &[&str]) -> Result<String, VirshError> {
        self.run_for(name, words, &[], ANSWER_LIMIT)
    }

    /// The same with documents, which the words name by `/dev/fd/3` and so on, and its own limit.
    pub fn run_for(
        &self,
        name: &'static str,
        words: &[&str],
        documents: &[&str],
        time_limit: Duration,
    ) -> Result<String, VirshError> {
        let mut line = self.line(name, words);
        for number in 0..documents.len() {
            line.push_str(&format!(" {}<<'{DOCUMENT_END}{number}'", number + 3));
        }
        for (number, document) in documents.iter().enumerate() {
            line.push_str(&format!("\n{document}\n{DOCUMENT_END}{number}"));
        }
        line.push('\n');
        let command = UserCommand {
            name,
            line: &line,
            // Its answers are told apart by their words.
            variables: &[("LC_ALL", "C".to_owned())],
            time_limit,
            output_bytes_max: OUTPUT_BYTES_MAX,
        };
        let printed = command.run().map_err(|error| self.told(error))?;
        Ok(String::from_utf8_lossy(&printed).into_owned())
    }

    /// The line for the shell.
    pub fn line(&self, name: &str, words: &[&str]) -> String {
        let (uri, domain) = (quoted(&self.uri), quoted(&self.domain));
        let mut line = format!("exec virsh --connect {uri} {name} --domain {domain}");
        for word in words {
            line.push(' ');
            line.push_str(&quoted(word));
        }
        line
    }

    /// Why a command failed that was run in another way.
    pub fn failed(&self, name: &'static str, code: i32, complaint: &str) -> VirshError {
        let lines = complaint.lines().map(str::trim).filter(|line| !line.is_empty());
        let complaint = readable(lines.collect::<Vec<_>>().join("; "));
        // As the system has it: the lower eight bits say which signal ended it.
        let status = ExitStatus::from_raw(code << 8);
        self.told(CommandError::Failed { name, status, complaint })
    }

    fn told(&self, error: CommandError) -> VirshError {
        let CommandError::Failed { status, complaint, .. } = &error else { return error.into() };
        let (uri, reason) = (self.uri.clone(), complaint.clone());
        let says = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
        if status.code() == Some(NOT_FOUND) {
            VirshError::Missing
        } else if says(&["ermission denied", "authentication", "access denied"])
            && says(&["failed to connect", "polkit", "access denied"])
        {
            VirshError::Denied { uri, reason }
        } else if says(&["failed to connect to the hypervisor"]) {
            VirshError::NotReached { uri, reason }
        } else if says(&["failed to get domain"]) {
            VirshError::NoDomain { uri, domain: self.domain.clone() }
        } else {
            error.into()
        }
    }
}

/// A word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_command_as_they_are() {
        let virsh = Virsh { uri: "test:///x'; id".to_owned(), domain: "--a b$(id)".to_owned() };
        let line = virsh.line("dumpxml", &["--inactive", "`id`"]);
        let line = line.replacen("exec virsh", "printf '%s\\n'", 1);
        let command = UserCommand {
            name: "words",
            line: &line,
            variables: &[],
            time_limit: Duration::from_secs(10),
            output_bytes_max: 1000,
        };
        let printed = String::from_utf8(command.run().unwrap()).unwrap();
        let expected =
            "--connect\ntest:///x'; id\ndumpxml\n--domain\n--a b$(id)\n--inactive\n`id`\n";
        assert_eq!(printed, expected);
    }

    #[test]
    fn a_failure_is_told_by_what_helps() {
        let virsh = Virsh { uri: "qemu:///system".to_owned(), domain: "web01".to_owned() };
        let failed =
            |code: i32, complaint: &str| virsh.failed("dumpxml", code, complaint).to_string();
        for (code, complaint, expected) in [
            (127, "/bin/sh: 1: exec: virsh: not found", "install it"),
            (1, "error: failed to get domain 'web01'", "has no domain \"web01\""),
            (
                1,
                "error: failed to connect to the hypervisor; error: Failed to connect socket to \
                    '/run/x': No such file or directory",
                "see whether it runs",
            ),
            (
                1,
                "error: failed to connect to the hypervisor; error: Failed to connect socket to \
                    '/run/x': Permission denied",
                "refuses this user",
            ),
            (1, "error: moon", "`dumpxml` failed (exit status: 1): error: moon"),
        ] {
            let text = failed(code, complaint);
            assert!(text.contains(expected), "{complaint}: {text}");
        }
    }
}
