//! What libvirt tells of a domain, and which of its disks can be captured.
//!
//! The format is that of libvirt's page `formatdomain`. What is not known here is passed over; a disk
//! that is passed over is told.

use crate::units::Name;
use roxmltree::{Document, Node, ParsingOptions};
use std::path::{Path, PathBuf};

/// No domain has more parts.
const NODES_MAX: u32 = 200_000;

/// A domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// By which it stays the same when it is renamed.
    pub uuid: String,
    /// Its number while it runs.
    pub id: Option<u32>,
    /// Its disks that can be captured, in their order.
    pub disks: Vec<DomainDisk>,
    /// Its other disks: by what they are known, and why they are not captured.
    pub others: Vec<(String, String)>,
    /// The file of its firmware's variables.
    pub nvram: Option<PathBuf>,
    /// What belongs to it and is not captured.
    pub notes: Vec<String>,
    /// User and group of its QEMU.
    pub owner: Option<(u32, u32)>,
}

/// A disk of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainDisk {
    /// Its target, such as `vda`: its name.
    pub name: Name,
    /// The image or device.
    pub path: PathBuf,
    /// Whether it is a device.
    pub is_device: bool,
    /// The format of its image, as libvirt calls it.
    pub format: String,
}

impl DomainDisk {
    /// Whether libvirt keeps checkpoints of it: they lie in the image.
    pub fn keeps_checkpoints(&self) -> bool {
        self.format == "qcow2"
    }
}

impl Domain {
    /// Reads the description of a domain.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(xml: &str) -> Result<Self, String> {
        // Without DTD: there are no entities that could grow.
        let options = ParsingOptions { nodes_limit: NODES_MAX, ..ParsingOptions::default() };
        let document = Document::parse_with_options(xml, options)
            .map_err(|error| crate::units::readable(error.to_string()))?;
        let root = document.root_element();
        if root.tag_name().name() != "domain" {
            return Err("it describes no domain".to_owned());
        }
        let uuid = child(root, "uuid").map_or("", text);
        let is_uuid = |c: char| c.is_ascii_hexdigit() || c == '-';
        if !uuid.starts_with(|c: char| c.is_ascii_hexdigit()) || !uuid.chars().all(is_uuid) {
            return Err("it has no UUID".to_owned());
        }
        let mut domain = Self {
            uuid: uuid.to_owned(),
            id: root.attribute("id").and_then(|id| id.parse().ok()),
            disks: Vec::new(),
            others: Vec::new(),
            nvram: None,
            notes: Vec::new(),
            owner: root.children().find_map(owner),
        };
        if let Some(nvram) = child(root, "os").and_then(|os| child(os, "nvram")) {
            domain.add_nvram(nvram);
        }
        if let Some(devices) = child(root, "devices") {
            for device in devices.children().filter(Node::is_element) {
                match device.tag_name().name() {
                    "disk" => domain.add_disk(device)?,
                    "tpm" => domain.notes.push("the state of its TPM is not captured".to_owned()),
                    _ => {}
                }
            }
        }
        Ok(domain)
    }

    fn add_nvram(&mut self, nvram: Node<'_, '_>) {
        let source = child(nvram, "source").and_then(|source| source.attribute("file"));
        let path = source.unwrap_or_else(|| text(nvram));
        if Path::new(path).is_absolute() {
            self.nvram = Some(PathBuf::from(path));
        } else {
            let note = "the variables of its firmware lie in no file, and are not captured";
            self.notes.push(note.to_owned());
        }
    }

    fn add_disk(&mut self, disk: Node<'_, '_>) -> Result<(), String> {
        let target = child(disk, "target").and_then(|target| target.attribute("dev"));
        let target = target.unwrap_or("");
        let name: Name = target
            .parse()
            .map_err(|_| format!("a disk has the target {target:?}, which is no name"))?;
        let is_known = self.disks.iter().any(|disk| disk.name == name)
            || self.others.iter().any(|(other, _)| other == target);
        if is_known {
            return Err(format!("two disks have the target {target:?}"));
        }
        match path_of(disk) {
            Ok((path, is_device)) => {
                let driver = child(disk, "driver").and_then(|driver| driver.attribute("type"));
                let format = driver.unwrap_or("raw").to_owned();
                self.disks.push(DomainDisk { name, path, is_device, format });
            }
            Err(why) => self.others.push((target.to_owned(), why)),
        }
        Ok(())
    }
}

/// Where a disk lies, and whether that is a device; or why it is not captured.
fn path_of(disk: Node<'_, '_>) -> Result<(PathBuf, bool), String> {
    let kind = disk.attribute("device").unwrap_or("disk");
    if kind != "disk" {
        return Err(format!("it is a {kind}"));
    }
    for (mark, why) in [
        ("readonly", "it is read-only"),
        ("shareable", "other domains may write to it too"),
        ("transient", "what is written to it is thrown away"),
    ] {
        if child(disk, mark).is_some() {
            return Err(why.to_owned());
        }
    }
    let place = disk.attribute("type").unwrap_or("file");
    let source = child(disk, "source");
    let attribute = match place {
        "file" => "file",
        "block" => "dev",
        _ => {
            let protocol = source.and_then(|source| source.attribute("protocol"));
            let which = protocol.map_or(place.to_owned(), |it| format!("{place}, {it}"));
            return Err(format!("it lies neither in a file nor on a device here ({which})"));
        }
    };
    let path = source.and_then(|source| source.attribute(attribute)).map(PathBuf::from);
    match path.filter(|path| path.is_absolute()) {
        Some(path) => Ok((path, place == "block")),
        None => Err("nothing is connected to it".to_owned()),
    }
}

/// User and group of QEMU, of a running domain: `<label>+64055:+64055</label>`.
fn owner(label: Node<'_, '_>) -> Option<(u32, u32)> {
    if label.tag_name().name() != "seclabel" || label.attribute("model") != Some("dac") {
        return None;
    }
    let (user, group) = text(child(label, "label")?).split_once(':')?;
    let number = |it: &str| it.strip_prefix('+').unwrap_or(it).parse().ok();
    Some((number(user)?, number(group)?))
}

fn child<'a, 'x>(node: Node<'a, 'x>, name: &str) -> Option<Node<'a, 'x>> {
    node.children().find(|child| child.is_element() && child.tag_name().name() == name)
}

fn text<'a>(node: Node<'a, '_>) -> &'a str {
    node.text().unwrap_or("").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(inner: &str) -> String {
        format!("<domain type='kvm' id='3'><name>a</name><uuid>0a-1b</uuid>{inner}</domain>")
    }

    #[test]
    fn disks_are_found_and_the_others_told() {
        let found = Domain::parse(&domain(
            "<os><nvram template='/t'>/var/a_VARS.fd</nvram></os><devices>
            <disk type='file' device='disk'><driver type='qcow2'/><source file='/a&amp;b.qcow2'/>
                <target dev='vda'/></disk>
            <disk type='block' device='disk'><driver type='raw'/><source dev='/dev/vg/a'/>
                <target dev='vdb'/></disk>
            <disk type='file' device='cdrom'><source file='/a.iso'/><target dev='sda'/></disk>
            <disk type='file'><source file='/s'/><target dev='vdc'/><shareable/></disk>
            <disk type='network'><source protocol='rbd' name='p/i'/><target dev='vdd'/></disk>
            <disk type='block' device='lun'><source dev='/dev/sdz'/><target dev='sdb'/></disk>
            <disk type='file'><target dev='vde'/></disk>
            <tpm model='tpm-crb'/></devices>
            <seclabel type='dynamic' model='apparmor'><label>x</label></seclabel>
            <seclabel type='dynamic' model='dac'><label>+64055:+108</label></seclabel>",
        ))
        .unwrap();
        assert_eq!((found.id, found.uuid.as_str()), (Some(3), "0a-1b"));
        let disks: Vec<_> = found
            .disks
            .iter()
            .map(|it| (it.name.as_str(), it.path.to_str(), it.is_device))
            .collect();
        assert_eq!(disks, [("vda", Some("/a&b.qcow2"), false), ("vdb", Some("/dev/vg/a"), true)]);
        assert!(found.disks[0].keeps_checkpoints() && !found.disks[1].keeps_checkpoints());
        let others: Vec<_> = found.others.iter().map(|(it, why)| format!("{it} {why}")).collect();
        for (other, expected) in others.iter().zip(["sda", "vdc", "vdd", "sdb", "vde"]) {
            assert!(other.starts_with(expected), "{others:?}");
        }
        assert_eq!(others.len(), 5);
        assert!(others[2].contains("network, rbd"), "{others:?}");
        assert_eq!(found.nvram.as_deref(), Some(Path::new("/var/a_VARS.fd")));
        assert_eq!((found.owner, found.notes.len()), (Some((64055, 108)), 1));
    }

    #[test]
    fn firmware_variables_are_found_where_newer_versions_say_it() {
        let nvram = "<os><nvram type='file'><source file='/var/b.fd'/></nvram></os>";
        let found = Domain::parse(&domain(nvram)).unwrap();
        assert_eq!(found.nvram.as_deref(), Some(Path::new("/var/b.fd")));
        let nvram = "<os><nvram type='network'><source protocol='iscsi'/></nvram></os>";
        let found = Domain::parse(&domain(nvram)).unwrap();
        assert_eq!((found.nvram, found.notes.len()), (None, 1));
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        let twice = "<disk><target dev='vda'/></disk>".repeat(2);
        let nameless = domain("<devices><disk><target dev='../a'/></disk></devices>");
        for xml in [
            "",
            "<domain",
            "<pool><uuid>1</uuid></pool>",
            "<domain><name>a</name></domain>",
            "<domain><uuid>x'y</uuid></domain>",
            "<!DOCTYPE d [<!ENTITY a 'b'>]><domain><uuid>1</uuid></domain>",
            &nameless,
            &domain(&format!("<devices>{twice}</devices>")),
        ] {
            assert!(Domain::parse(xml).is_err(), "{xml}");
        }
    }
}
