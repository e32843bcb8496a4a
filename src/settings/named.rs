//! The parts of the file: those that have names, such as `[machine.NAME]`, and those that have none,
//! such as `[daemon]`.

use std::path::Path;

use super::findings::{Findings, ticked};
use super::reader::{Field, Located, TableReader};
use super::timing::{MissedPolicy, RetrySettings};
use super::types::{PlaceKind, Schedule};
use super::values;
use crate::units::Name;

/// What every part of the file is read against.
#[derive(Debug)]
pub(super) struct Context<'c> {
    /// Folder that relative paths start from; absolute.
    pub(super) folder: &'c Path,
    /// Zone of machines and replicas that name none.
    pub(super) timezone: String,
    /// What becomes of times that passed, where a part does not say.
    pub(super) missed: MissedPolicy,
    /// What follows when a run fails, where a part does not say.
    pub(super) retry: RetrySettings,
}

impl Context<'_> {
    /// The zone of a part of the file: its own if it names one.
    pub(super) fn zone(&self, reader: &mut TableReader<'_>, findings: &mut Findings<'_>) -> String {
        let own = reader.field("timezone").and_then(|field| values::timezone(&field, findings));
        own.unwrap_or_else(|| self.timezone.clone())
    }

    /// The schedule that `key` gives, in `zone`, and where it stands.
    pub(super) fn schedule(
        &self,
        reader: &mut TableReader<'_>,
        key: &'static str,
        zone: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Located<Schedule>> {
        let field = reader.field(key)?;
        let value = values::schedule(&field, zone, findings)?;
        Some(Located { value, at: field.key_at })
    }
}

/// A reader of the table `[KEY]`, when it is there.
pub(super) fn section<'a>(
    root: &mut TableReader<'a>,
    key: &'static str,
    findings: &mut Findings<'_>,
) -> Option<TableReader<'a>> {
    let field = root.field(key)?;
    let header = format!("[{key}]");
    let mut reader = field.table(header.clone(), &header, findings)?;
    // What is missing is missing below the header.
    reader.at = field.key_at;
    Some(reader)
}

/// Readers of the tables `[GROUP.NAME]`, with their names.
pub(super) fn tables<'a>(
    root: &mut TableReader<'a>,
    group: &'static str,
    findings: &mut Findings<'_>,
) -> Vec<(Located<Name>, TableReader<'a>)> {
    let Some(field) = root.field(group) else { return Vec::new() };
    let header = header(group);
    let example = format!("[{header}.{}]", example_name(group));
    let Some(names) = field.table(String::new(), &example, findings) else {
        // What the group would have held is not missing, it is unread.
        findings.set_incomplete();
        return Vec::new();
    };
    let entries = names.entries();
    // Without a name, the keys of one part look like parts: one message is enough.
    if let Some((key, _)) = entries.iter().find(|(_, value)| value.get_ref().as_table().is_none()) {
        let message = format!("{} stands in [{header}] without a name", ticked(key.get_ref()));
        findings.wrong_hint(
            &key.span(),
            message,
            format!("give each {group} a name of its own: {example}"),
        );
        findings.set_incomplete();
        return Vec::new();
    }

    let mut found = Vec::new();
    for (key, value) in entries {
        let at = key.span();
        match (key.get_ref().parse::<Name>(), value.get_ref().as_table()) {
            (Ok(name), Some(table)) => {
                let reader = TableReader::new(format!("{group} `{name}`"), at.clone(), table);
                found.push((Located { value: name, at }, reader));
            }
            (Err(error), _) => findings.wrong(&at, error.to_string()),
            // Only tables are left.
            (Ok(_), None) => {}
        }
    }
    found
}

/// What stands before the name in the header of a group.
fn header(group: &'static str) -> &'static str {
    match group {
        "webhook" => "notify.webhook",
        "mail" => "notify.mail",
        _ => group,
    }
}

fn example_name(group: &str) -> &'static str {
    match group {
        "repository" => "main",
        "machine" => "web01",
        "webhook" | "mail" => "ops",
        _ => "web01-standby",
    }
}

/// A disk of a machine or replica, as far as it could be read.
#[derive(Debug)]
pub(super) struct DiskDraft<T> {
    pub(super) name: Option<Located<Name>>,
    pub(super) place: Option<Located<T>>,
}

/// The disks of a machine or replica.
#[derive(Debug)]
pub(super) struct DisksDraft<T> {
    pub(super) disks: Vec<DiskDraft<T>>,
    /// Whether the name of every disk is known.
    pub(super) complete: bool,
}

/// How the disks of a machine or replica are written.
#[derive(Debug)]
pub(super) struct DiskWords {
    /// The key that says where a disk is.
    pub(super) place_key: &'static str,
    /// How to write a place.
    pub(super) place_hint: &'static str,
    /// How to write a disk.
    pub(super) disk_hint: &'static str,
}

/// Reads the list of disks; `place` reads where each one is.
pub(super) fn disks<'a, T>(
    reader: &mut TableReader<'a>,
    words: &DiskWords,
    findings: &mut Findings<'_>,
    place: impl Fn(&Field<'a>, &mut Findings<'_>) -> Option<Located<T>>,
) -> DisksDraft<T> {
    let unread = DisksDraft { disks: Vec::new(), complete: false };
    let Some(field) = reader.required("disk", words.disk_hint) else { return unread };
    let what = format!("a disk of {}", reader.what);
    let Some(tables) = field.tables(&what, words.disk_hint, findings) else { return unread };
    if tables.is_empty() {
        findings.wrong_hint(&field.at, format!("{} has no disks", reader.what), words.disk_hint);
    }

    let mut disks = Vec::new();
    for mut table in tables {
        let name = table
            .required("name", "give it a name, such as name = \"root\"")
            .and_then(|field| values::name(&field, "root", findings));
        let place = table
            .required(words.place_key, words.place_hint)
            .and_then(|field| place(&field, findings));
        table.finish(findings);
        disks.push(DiskDraft { name, place });
    }
    let complete = !disks.is_empty() && disks.iter().all(|disk| disk.name.is_some());
    DisksDraft { disks, complete }
}

/// An image or device, and the table that names it.
pub(super) struct Place<'a> {
    pub(super) path: Located<std::path::PathBuf>,
    pub(super) kind: PlaceKind,
    pub(super) reader: TableReader<'a>,
}

/// Reads `{ image = "…" }` or `{ device = "…" }`. `later` are kinds that the design has and this
/// version has not. The reader that is returned still has to be finished.
pub(super) fn place<'a>(
    field: &Field<'a>,
    later: &[&str],
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<Place<'a>> {
    let key = field.key;
    let example = place_example(key);
    let mut reader = place_table(field, findings)?;
    if let Some((kind, at)) = later.iter().find_map(|kind| Some((kind, reader.has(kind)?))) {
        let message = values::unsupported(&format!("the {key} `{kind}`"));
        findings.wrong_hint(&at, message, format!("a {key} can be `image` or `device`"));
        return None;
    }
    let (field, kind) = match (reader.field("image"), reader.field("device")) {
        (Some(image), None) => (image, PlaceKind::Image),
        (None, Some(device)) => (device, PlaceKind::Device),
        (Some(_), Some(device)) => {
            let message = format!("this `{key}` is both an image and a device");
            findings.wrong_hint(&device.key_at, message, "leave out one of the two");
            return None;
        }
        (None, None) => {
            let unknown = reader.entries();
            let at = unknown.first().map_or(reader.at.clone(), |(key, _)| key.span());
            let message = format!("this `{key}` names neither an image nor a device");
            findings.wrong_hint(&at, message, format!("for example: {example}"));
            return None;
        }
    };
    let path = values::path(&field, context.folder, findings);
    match path {
        Some(path) => Some(Place { path, kind, reader }),
        None => {
            known_elsewhere(&mut reader);
            reader.finish(findings);
            None
        }
    }
}

fn place_example(key: &str) -> String {
    format!("{key} = {{ image = \"/srv/vm/web01.raw\" }} or {{ device = \"/dev/vg0/web01\" }}")
}

/// The table that says where a disk is.
pub(super) fn place_table<'a>(
    field: &Field<'a>,
    findings: &mut Findings<'_>,
) -> Option<TableReader<'a>> {
    let key = field.key;
    field.table(format!("this `{key}`"), &place_example(key), findings)
}

/// Marks the keys that go with a path, when the path itself is wrong: they are not unknown.
fn known_elsewhere(reader: &mut TableReader<'_>) {
    for key in ["format", "quiesced", "changed", "snapshot"] {
        reader.field(key);
    }
}

/// The name that a part of the file gives for another part of it.
pub(super) fn reference(
    reader: &mut TableReader<'_>,
    key: &'static str,
    hint: &'static str,
    findings: &mut Findings<'_>,
) -> Option<Located<Name>> {
    let field = reader.required(key, hint)?;
    values::name(&field, example_name(key), findings)
}
