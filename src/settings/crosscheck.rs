//! Checks that the parts of the file fit together. All comparisons of paths are lexical: they
//! see through `.` and `..`, not through symbolic links.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::api::ApiDraft;
use super::daemon::DaemonDraft;
use super::findings::{Findings, quoted};
use super::limits::LimitSettings;
use super::machine::MachineDraft;
use super::named::DiskDraft;
use super::notify::NotifyDraft;
use super::page::{NOWHERE, Span};
use super::reader::{Located, nearest};
use super::replica::ReplicaDraft;
use super::repository::RepositoryDraft;
use super::slots;
use super::values::normalised;
use crate::units::Name;

/// All parts of the file, in its order.
#[derive(Debug)]
pub(super) struct Drafts {
    pub(super) state_dir: Option<Located<PathBuf>>,
    pub(super) daemon: DaemonDraft,
    pub(super) limits: LimitSettings,
    pub(super) api: Option<ApiDraft>,
    pub(super) notify: NotifyDraft,
    pub(super) repositories: Vec<RepositoryDraft>,
    pub(super) machines: Vec<MachineDraft>,
    pub(super) replicas: Vec<ReplicaDraft>,
}

/// Something that claims a path.
struct Claim {
    /// What it is, for messages: "disk `root` of machine `web01`".
    what: String,
    at: Span,
}

/// Claims by normalised path.
type Claims = BTreeMap<PathBuf, Claim>;

/// Reports everything that does not fit together.
pub(super) fn check(drafts: &Drafts, findings: &mut Findings<'_>) {
    check_references(drafts, findings);
    for machine in &drafts.machines {
        let owner = format!("machine `{}`", machine.name.value);
        check_disk_names(&owner, &machine.disks.disks, findings);
    }
    let machines: BTreeMap<&Name, &MachineDraft> =
        drafts.machines.iter().map(|machine| (&machine.name.value, machine)).collect();
    for replica in &drafts.replicas {
        let owner = format!("replica `{}`", replica.name.value);
        check_disk_names(&owner, &replica.disks.disks, findings);
        check_coverage(replica, &machines, findings);
    }
    let repositories = claim_repositories(&drafts.repositories, findings);
    check_beside_repositories(drafts, &repositories, findings);
    let sources = claim_sources(&drafts.machines, findings);
    let targets = claim_targets(&drafts.replicas, &sources, &repositories, findings);
    check_written_files(&drafts.daemon, &repositories, [&sources, &targets], findings);
    slots::check(drafts, findings);
}

fn check_references(drafts: &Drafts, findings: &mut Findings<'_>) {
    let references = drafts.machines.iter().filter_map(|machine| machine.repository.as_ref());
    let repositories = drafts.repositories.iter().map(|repository| &repository.name.value);
    check_named("repository", references, repositories.collect(), findings);
    let references = drafts.replicas.iter().filter_map(|replica| replica.machine.as_ref());
    let machines = drafts.machines.iter().map(|machine| &machine.name.value);
    check_named("machine", references, machines.collect(), findings);
}

fn check_named<'d>(
    group: &str,
    references: impl Iterator<Item = &'d Located<Name>>,
    names: BTreeSet<&Name>,
    findings: &mut Findings<'_>,
) {
    let texts: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
    for reference in references.filter(|reference| !names.contains(&reference.value)) {
        let name = &reference.value;
        let hint = match nearest(name.as_str(), &texts) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("begin one with [{group}.{name}], or name one that is there"),
        };
        findings.absent(&reference.at, format!("there is no {group} `{name}` in this file"), hint);
    }
}

fn check_disk_names<T>(owner: &str, disks: &[DiskDraft<T>], findings: &mut Findings<'_>) {
    let mut seen: BTreeMap<&Name, &Span> = BTreeMap::new();
    for name in disks.iter().filter_map(|disk| disk.name.as_ref()) {
        if let Some(first) = seen.get(&name.value) {
            let line = findings.line(first);
            let message = format!(
                "{owner} has two disks named `{}`; the first is on line {line}",
                name.value
            );
            findings.wrong(&name.at, message);
        } else {
            seen.insert(&name.value, &name.at);
        }
    }
}

/// Whether a replica has exactly the disks of its machine.
fn check_coverage(
    replica: &ReplicaDraft,
    machines: &BTreeMap<&Name, &MachineDraft>,
    findings: &mut Findings<'_>,
) {
    let followed = replica.machine.as_ref().and_then(|name| machines.get(&name.value));
    let Some(machine) = followed else { return };
    // Of a list that could not be read, nothing can be said to be missing or too much.
    if !machine.disks.complete || !replica.disks.complete {
        return;
    }
    let names: Vec<&str> = names_of(&machine.disks.disks).map(|name| name.value.as_str()).collect();
    for name in names_of(&replica.disks.disks) {
        if !names.contains(&name.value.as_str()) {
            let message = format!("machine `{}` has no disk `{}`", machine.name.value, name.value);
            let hint = match nearest(name.value.as_str(), &names) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("its disks are: {}", names.join(", ")),
            };
            findings.absent(&name.at, message, hint);
        }
    }
    for missing in names_of(&machine.disks.disks) {
        if !names_of(&replica.disks.disks).any(|name| name.value == missing.value) {
            let replica_name = &replica.name.value;
            let message = format!(
                "replica `{replica_name}` leaves out disk `{}` of machine `{}`",
                missing.value, machine.name.value
            );
            let hint = format!(
                "add [[replica.{replica_name}.disk]] with name = \"{}\" and a target; a standby \
                 without one of its disks would not start",
                missing.value
            );
            findings.absent(&replica.name.at, message, hint);
        }
    }
}

fn names_of<T>(disks: &[DiskDraft<T>]) -> impl Iterator<Item = &Located<Name>> {
    disks.iter().filter_map(|disk| disk.name.as_ref())
}

fn disk_label<T>(disk: &DiskDraft<T>, owner: &str) -> String {
    match &disk.name {
        Some(name) => format!("disk `{}` of {owner}", name.value),
        None => format!("a disk of {owner}"),
    }
}

/// Reports that `path`, which `what` claims, belongs to `other` already.
fn conflict(what: &str, path: &Path, at: &Span, other: &Claim, findings: &mut Findings<'_>) {
    let line = findings.line(&other.at);
    let shown = quoted(&path.to_string_lossy());
    let message = format!("{what} and {} are both at {shown}", other.what);
    findings.wrong_hint(at, message, format!("the other one is on line {line}"));
}

/// The nearest claim on `path` or on a folder above it.
fn holder<'c>(claims: &'c Claims, path: &Path) -> Option<&'c Claim> {
    path.ancestors().find_map(|folder| claims.get(folder))
}

fn claim_repositories(repositories: &[RepositoryDraft], findings: &mut Findings<'_>) -> Claims {
    let mut claims = Claims::new();
    for repository in repositories {
        let Some(path) = &repository.path else { continue };
        let what = format!("repository `{}`", repository.name.value);
        let claim = Claim { what, at: path.at.clone() };
        match claims.get(&normalised(&path.value)) {
            Some(first) => conflict(&claim.what, &path.value, &claim.at, first, findings),
            None => {
                claims.insert(normalised(&path.value), claim);
            }
        }
    }
    for (path, claim) in &claims {
        if let Some(outer) = path.parent().and_then(|folder| holder(&claims, folder)) {
            let line = findings.line(&outer.at);
            let message = format!("{} is inside {}", claim.what, outer.what);
            let hint = format!("give each a directory of its own; the outer one is on line {line}");
            findings.wrong_hint(&claim.at, message, hint);
        }
    }
    claims
}

const ONLY_OURS: &str =
    "a repository's directory holds only what afterimage puts there: choose another place";

fn check_state_dir(
    state_dir: &Located<PathBuf>,
    repositories: &Claims,
    findings: &mut Findings<'_>,
) {
    let place = normalised(&state_dir.value);
    let is_default = state_dir.at == NOWHERE;
    let what = if is_default {
        format!("the default `state_dir`, {}", place.display())
    } else {
        "`state_dir`".to_owned()
    };
    if let Some(outer) = holder(repositories, &place) {
        let at = if is_default { &outer.at } else { &state_dir.at };
        findings.wrong_hint(at, format!("{what} is inside {}", outer.what), ONLY_OURS);
        return;
    }
    for (path, claim) in repositories {
        if path.starts_with(&place) {
            let message = format!("{} is inside {what}", claim.what);
            let hint = "local state may be deleted and built anew: choose another place for one";
            findings.wrong_hint(&claim.at, message, hint);
        }
    }
}

/// Things that must not be in a repository's directory.
fn check_beside_repositories(drafts: &Drafts, repositories: &Claims, findings: &mut Findings<'_>) {
    if let Some(state_dir) = &drafts.state_dir {
        check_state_dir(state_dir, repositories, findings);
    }
    for replica in &drafts.replicas {
        let Some(dir) = &replica.journal_dir else { continue };
        if let Some(outer) = holder(repositories, &normalised(&dir.value)) {
            let name = &replica.name.value;
            let message = format!("`journal_dir` of replica `{name}` is inside {}", outer.what);
            findings.wrong_hint(&dir.at, message, ONLY_OURS);
        }
    }
    for (what, secret) in secrets(drafts) {
        if let Some(outer) = holder(repositories, &normalised(&secret.value)) {
            let message = format!("{what} is inside {}", outer.what);
            let hint =
                "whoever gets a copy of that directory could read everything: keep keys elsewhere";
            findings.wrong_hint(&secret.at, message, hint);
        }
    }
}

/// Files that hold secrets, each with what it is for messages.
fn secrets(drafts: &Drafts) -> Vec<(String, &Located<PathBuf>)> {
    let keys = drafts.repositories.iter().filter_map(|repository| {
        let what = format!("the key of repository `{}`", repository.name.value);
        Some((what, repository.secret.as_ref()?))
    });
    let api = drafts
        .api
        .iter()
        .filter_map(|api| Some(("the key of the API's certificate".to_owned(), api.key.as_ref()?)));
    let webhooks = drafts.notify.webhooks.iter().filter_map(|webhook| webhook.secret.as_ref());
    let webhooks = webhooks.map(|secret| ("the secret of a webhook".to_owned(), secret));
    let mails = drafts.notify.mails.iter().filter_map(|mail| mail.secret.as_ref());
    let mails = mails.map(|secret| ("the password of a mail server".to_owned(), secret));
    keys.chain(api).chain(webhooks).chain(mails).collect()
}

/// The sources by path. The same one may serve two machines, but not one machine twice.
fn claim_sources(machines: &[MachineDraft], findings: &mut Findings<'_>) -> Claims {
    let mut all = Claims::new();
    for machine in machines {
        let owner = format!("machine `{}`", machine.name.value);
        let mut own = Claims::new();
        for disk in &machine.disks.disks {
            let Some(source) = &disk.place else { continue };
            let Some(file) = source.value.file() else { continue };
            let path = normalised(&file.path);
            let claim = || Claim { what: disk_label(disk, &owner), at: source.at.clone() };
            match own.get(&path) {
                Some(first) => {
                    conflict(&claim().what, &file.path, &source.at, first, findings);
                }
                None => {
                    own.insert(path.clone(), claim());
                }
            }
            all.entry(path).or_insert_with(claim);
        }
    }
    all
}

fn claim_targets(
    replicas: &[ReplicaDraft],
    sources: &Claims,
    repositories: &Claims,
    findings: &mut Findings<'_>,
) -> Claims {
    let mut claims = Claims::new();
    for replica in replicas {
        let owner = format!("replica `{}`", replica.name.value);
        for disk in &replica.disks.disks {
            let Some(target) = &disk.place else { continue };
            let path = normalised(&target.value.path);
            let what = disk_label(disk, &owner);
            if let Some(source) = sources.get(&path) {
                let line = findings.line(&source.at);
                let message = format!("{what} would overwrite {}", source.what);
                let hint = format!("choose another target; the source is on line {line}");
                findings.wrong_hint(&target.at, message, hint);
            } else if let Some(outer) = holder(repositories, &path) {
                let message = format!("the target of {what} is inside {}", outer.what);
                findings.wrong_hint(&target.at, message, "choose a target outside of it");
            }
            match claims.get(&path) {
                Some(first) => conflict(&what, &target.value.path, &target.at, first, findings),
                None => {
                    claims.insert(path, Claim { what, at: target.at.clone() });
                }
            }
        }
    }
    claims
}

/// What the daemon writes must be neither a disk nor in a repository.
fn check_written_files(
    daemon: &DaemonDraft,
    repositories: &Claims,
    disks: [&Claims; 2],
    findings: &mut Findings<'_>,
) {
    let socket = Some((&daemon.settings.socket, &daemon.socket_at));
    let metrics = daemon.settings.metrics_file.as_ref().zip(daemon.metrics_file_at.as_ref());
    for (key, place) in [("socket", socket), ("metrics_file", metrics)] {
        // Where the default is, `state_dir` is checked.
        let Some((path, at)) = place.filter(|(_, at)| **at != NOWHERE) else { continue };
        let normal = normalised(path);
        if let Some(disk) = disks.iter().find_map(|claims| claims.get(&normal)) {
            let line = findings.line(&disk.at);
            let message = format!("`{key}` would overwrite {}", disk.what);
            findings.wrong_hint(at, message, format!("the disk is on line {line}"));
        } else if let Some(outer) = holder(repositories, &normal) {
            let message = format!("`{key}` is inside {}", outer.what);
            findings.wrong_hint(at, message, ONLY_OURS);
        }
    }
}
