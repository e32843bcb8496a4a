//! Reads where a disk, or all disks of a machine, are read: `source = { … }`.

use std::time::Duration;

use super::findings::{Findings, quoted, ticked};
use super::named::{self, Context};
use super::reader::{Field, Located, TableReader};
use super::types::{
    FileSettings, LibvirtSettings, NbdSettings, PlaceKind, QemuSettings, SnapshotSettings,
    SourceSettings, TlsSettings,
};
use super::values;
use crate::nbd::Address;
use crate::source::ImageFormat;

const FREEZE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const FREEZE_TIMEOUT_MAX: Duration = Duration::from_secs(60);
const LIBVIRT_URI_DEFAULT: &str = "qemu:///system";
/// Longest command, address or name, in bytes.
const TEXT_BYTES_MAX: usize = 16 * 1024;

const COMMAND_TIMEOUT_DEFAULT: Duration = Duration::from_mins(10);
const COMMAND_TIMEOUT_MIN: Duration = Duration::from_secs(1);
const COMMAND_TIMEOUT_MAX: Duration = Duration::from_hours(24);

const IMAGE_FORMATS: [(&str, ImageFormat); 2] =
    [("raw", ImageFormat::Raw), ("qcow2", ImageFormat::Qcow2)];

const QEMU_EXAMPLE: &str = "qemu = { qmp = \"/run/web01.qmp\", device = \"drive0\" }";
const LIBVIRT_EXAMPLE: &str = "source = { libvirt = { domain = \"web01\" } }";
const SNAPSHOT_EXAMPLE: &str =
    "snapshot = { create = \"…\", path = \"/dev/vg0/web01-afterimage\", remove = \"…\" }";

/// Reads the source of one disk.
pub(super) fn of_disk(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<Located<SourceSettings>> {
    let mut reader = named::place_table(field, findings)?;
    let is_file = reader.has("image").or_else(|| reader.has("device")).is_some();
    if let Some(at) = reader.has("libvirt") {
        let message = "a libvirt domain is the source of a whole machine, not of one disk";
        let hint = format!("write {LIBVIRT_EXAMPLE} below [machine.NAME], and no disks");
        findings.wrong_hint(&at, message, hint);
        return None;
    }
    let kinds = ["nbd", "qemu", "snapshot"];
    let kind = kinds.into_iter().find(|kind| reader.has(kind).is_some()).filter(|_| !is_file);
    let Some(kind) = kind else { return file(field, context, findings) };
    let inner = reader.field(kind)?;
    let value = match kind {
        "nbd" => nbd(&inner, &mut reader, context, findings).map(SourceSettings::Nbd),
        "qemu" => qemu(&inner, context, findings).map(SourceSettings::Qemu),
        _ => snapshot(&inner, findings).map(SourceSettings::Snapshot),
    };
    reader.finish(findings);
    Some(Located { value: value?, at: inner.at })
}

/// Reads the source of a machine that finds its disks by itself.
pub(super) fn of_machine(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<LibvirtSettings> {
    let mut reader = field.table("this `source`".to_owned(), LIBVIRT_EXAMPLE, findings)?;
    let inner = reader.required("libvirt", LIBVIRT_EXAMPLE);
    let found = inner.and_then(|field| libvirt(&field, context, findings));
    reader.finish(findings);
    found
}

fn file(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<Located<SourceSettings>> {
    let mut place = named::place(field, &[], context, findings)?;
    let format_field = place.reader.field("format");
    let quiesced = place.reader.field("quiesced").map(|field| field.boolean(findings));
    let changed_field = place.reader.field("changed");
    let changed = changed_field.as_ref().map(|field| values::path(field, context.folder, findings));
    let snapshot = place.reader.field("snapshot");
    let cloned = snapshot.is_some_and(|field| clone(&field, place.kind, findings));
    if let Some(field) = changed_field.filter(|_| cloned) {
        let message = "`changed` is not for clones, of which it is known what changed";
        findings.wrong_hint(&field.key_at, message, "leave out `changed`");
    }
    let format = match (format_field, place.kind) {
        (Some(field), PlaceKind::Image) => values::choice(&field, &IMAGE_FORMATS, findings),
        (Some(field), PlaceKind::Device | PlaceKind::Export) => {
            let message = "`format` is only for images: a device is read as it is";
            findings.wrong_hint(&field.key_at, message, "leave out `format`");
            None
        }
        (None, _) => None,
    };
    place.reader.finish(findings);
    let value = SourceSettings::File(FileSettings {
        path: place.path.value,
        kind: place.kind,
        format,
        quiesced: quiesced.flatten().unwrap_or(false),
        changed: changed.flatten().map(|path| path.value),
        cloned,
    });
    Some(Located { value, at: place.path.at })
}

/// Whether the image is cloned: `snapshot = "reflink"`.
fn clone(field: &Field<'_>, kind: PlaceKind, findings: &mut Findings<'_>) -> bool {
    let is_chosen = values::choice(field, &[("reflink", ())], findings).is_some();
    if is_chosen && kind == PlaceKind::Device {
        let message = "only the file of an `image` can be cloned, not a device";
        let hint = "give commands: source = { snapshot = { create = \"…\", … } }";
        findings.wrong_hint(&field.at, message, hint);
    }
    is_chosen
}

fn nbd(
    field: &Field<'_>,
    reader: &mut TableReader<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<NbdSettings> {
    let address = nbd_address(field, findings);
    let tls_field = reader.field("tls");
    let is_tls = address.as_ref().map(Address::is_tls);
    if let (Some(field), Some(false)) = (&tls_field, is_tls) {
        let message = "`tls` is of no use: the address says that the connection has none";
        findings.wrong_hint(&field.key_at, message, "begin the address with nbds, or leave it out");
    }
    if let (None, Some(true)) = (&tls_field, is_tls) {
        let message = "TLS needs the authority that signed the server's certificate";
        let hint = "add tls = { authority = \"/etc/afterimage/nbd-ca.pem\" }";
        findings.wrong_hint(&field.at, message, hint);
        return None;
    }
    let tls = match tls_field {
        Some(field) => Some(tls(&field, context, findings)?),
        None => None,
    };
    Some(NbdSettings { address: address?, tls })
}

/// The address of an NBD export.
pub(super) fn nbd_address(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Address> {
    let example = "nbd = \"nbd+unix:///web01?socket=/run/web01.sock\"";
    match text(field, example, findings)?.parse::<Address>() {
        Ok(address) => Some(address),
        Err(error) => {
            findings.wrong_hint(&field.at, error.to_string(), format!("for example: {example}"));
            None
        }
    }
}

fn tls(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<TlsSettings> {
    let example = "tls = { authority = \"/etc/afterimage/nbd-ca.pem\" }";
    let mut reader = field.table("`tls`".to_owned(), example, findings)?;
    let path = |field: Option<Field<'_>>, findings: &mut Findings<'_>| {
        field.and_then(|field| Some(values::path(&field, context.folder, findings)?.value))
    };
    let authority = path(reader.required("authority", example), findings);
    let (certificates, key) = (reader.field("certificates"), reader.field("key"));
    if let (Some(alone), None) | (None, Some(alone)) = (&certificates, &key) {
        let message = format!("{} is of no use alone", ticked(alone.key));
        findings.wrong_hint(&alone.key_at, message, "give both `certificates` and `key`");
    }
    let identity = (path(certificates, findings), path(key, findings));
    let server_name = reader.field("server_name");
    let server_name =
        server_name.and_then(|field| text(&field, "server_name = \"host\"", findings));
    reader.finish(findings);
    let identity = match identity {
        (Some(certificates), Some(key)) => Some((certificates, key)),
        _ => None,
    };
    Some(TlsSettings { authority: authority?, identity, server_name })
}

fn qemu(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<QemuSettings> {
    let mut reader = field.table("`qemu`".to_owned(), QEMU_EXAMPLE, findings)?;
    let path = |field: Option<Field<'_>>, findings: &mut Findings<'_>| {
        field.and_then(|field| Some(values::path(&field, context.folder, findings)?.value))
    };
    let qmp = path(reader.required("qmp", QEMU_EXAMPLE), findings);
    let agent = path(reader.field("agent"), findings);
    let device = reader.required("device", QEMU_EXAMPLE);
    let device = device.and_then(|field| text(&field, QEMU_EXAMPLE, findings));
    let freeze_timeout = freeze_timeout(&mut reader, findings);
    let scratch = path(reader.field("scratch"), findings);
    let image = path(reader.field("image"), findings);
    let format = reader.field("format");
    if let (None, Some(format)) = (&image, &format) {
        let message = "`format` is that of an `image`, and none is given";
        findings.wrong_hint(&format.key_at, message, "leave out `format`");
    }
    let format = format.and_then(|field| values::choice(&field, &IMAGE_FORMATS, findings));
    reader.finish(findings);
    let (qmp, device) = (qmp?, device?);
    Some(QemuSettings { qmp, device, agent, freeze_timeout, scratch, image, format })
}

fn libvirt(
    field: &Field<'_>,
    context: &Context<'_>,
    findings: &mut Findings<'_>,
) -> Option<LibvirtSettings> {
    let mut reader = field.table("`libvirt`".to_owned(), LIBVIRT_EXAMPLE, findings)?;
    let domain = reader.required("domain", LIBVIRT_EXAMPLE);
    let domain = domain.and_then(|field| text(&field, "domain = \"web01\"", findings));
    let uri = reader.field("uri");
    let uri = uri.map(|field| uri_of_this_host(&field, findings));
    let freeze_timeout = freeze_timeout(&mut reader, findings);
    let scratch = reader.field("scratch");
    let scratch =
        scratch.and_then(|field| Some(values::path(&field, context.folder, findings)?.value));
    reader.finish(findings);
    let uri = uri.unwrap_or_else(|| Some(LIBVIRT_URI_DEFAULT.to_owned()));
    Some(LibvirtSettings { domain: domain?, uri: uri?, freeze_timeout, scratch })
}

/// An address of libvirt that names no other host: the disks are read over a socket on this one.
fn uri_of_this_host(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<String> {
    let uri = text(field, "uri = \"qemu:///system\"", findings)?;
    let host = uri.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    if host.is_none_or(str::is_empty) {
        return Some(uri);
    }
    let message = format!("a domain of another host cannot be captured: {}", quoted(&uri));
    findings.wrong_hint(&field.at, message, "run afterimage on that host");
    None
}

/// For how long at most a guest's file systems are frozen.
fn freeze_timeout(reader: &mut TableReader<'_>, findings: &mut Findings<'_>) -> Duration {
    let Some(field) = reader.field("freeze_timeout") else { return FREEZE_TIMEOUT_DEFAULT };
    match values::duration(&field, findings) {
        Some(duration) if duration > FREEZE_TIMEOUT_MAX => {
            let most = FREEZE_TIMEOUT_MAX.as_secs();
            let message = format!("a guest is frozen for {most} seconds at most");
            findings.wrong_hint(&field.at, message, "for example: freeze_timeout = \"10 s\"");
            FREEZE_TIMEOUT_DEFAULT
        }
        // Where it is wrong there are findings, and the default is never used.
        found => found.unwrap_or(FREEZE_TIMEOUT_DEFAULT),
    }
}

fn snapshot(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<SnapshotSettings> {
    let mut reader = field.table("`snapshot`".to_owned(), SNAPSHOT_EXAMPLE, findings)?;
    let command = |field: Option<Field<'_>>, findings: &mut Findings<'_>| {
        field.and_then(|field| text(&field, SNAPSHOT_EXAMPLE, findings))
    };
    let create = command(reader.required("create", SNAPSHOT_EXAMPLE), findings);
    let path = command(reader.required("path", SNAPSHOT_EXAMPLE), findings);
    let remove = command(reader.required("remove", SNAPSHOT_EXAMPLE), findings);
    let changed = command(reader.field("changed"), findings);
    let timeout = reader.field("timeout");
    let timeout =
        timeout.map_or(Some(COMMAND_TIMEOUT_DEFAULT), |field| timeout_of(&field, findings));
    let format = reader.field("format");
    let format = format.and_then(|field| values::choice(&field, &IMAGE_FORMATS, findings));
    reader.finish(findings);
    Some(SnapshotSettings {
        create: create?,
        path: path?,
        remove: remove?,
        changed,
        timeout: timeout?,
        format,
    })
}

/// How long a command may take.
fn timeout_of(field: &Field<'_>, findings: &mut Findings<'_>) -> Option<Duration> {
    let duration = values::duration(field, findings)?;
    if (COMMAND_TIMEOUT_MIN..=COMMAND_TIMEOUT_MAX).contains(&duration) {
        return Some(duration);
    }
    let message = "a command may take a second to a day";
    findings.wrong_hint(&field.at, message, "for example: timeout = \"10 min\"");
    None
}

/// A text that is not empty, and can be handed to another program.
pub(super) fn text(
    field: &Field<'_>,
    example: &str,
    findings: &mut Findings<'_>,
) -> Option<String> {
    let text = field.text(example, findings)?;
    let key = ticked(field.key);
    let wrong = if text.trim().is_empty() {
        format!("{key} is empty")
    } else if text.len() > TEXT_BYTES_MAX {
        format!("{key} is longer than {TEXT_BYTES_MAX} bytes")
    } else if text.contains('\0') {
        format!("{key} holds a zero byte: {}", quoted(text))
    } else {
        return Some(text.to_owned());
    };
    findings.wrong_hint(&field.at, wrong, format!("for example: {example}"));
    None
}

/// Reports what does not fit together within one machine: QEMU gives all disks of a machine at one
/// instant only when all are asked of one process.
pub(super) fn check_together(sources: &[&Located<SourceSettings>], findings: &mut Findings<'_>) {
    let process = |source: &SourceSettings| match source {
        SourceSettings::Qemu(qemu) => {
            Some((qemu.qmp.clone(), qemu.agent.clone(), qemu.scratch.clone()))
        }
        _ => None,
    };
    let Some((first, rest)) = sources.split_first() else { return };
    for source in rest {
        if process(&source.value) == process(&first.value) {
            continue;
        }
        let message =
            "the disks of one machine must be read from one running QEMU, or none of them";
        let hint = "give every disk the same `qmp`, `agent` and `scratch`";
        findings.wrong_hint(&source.at, message, hint);
        return;
    }
}
