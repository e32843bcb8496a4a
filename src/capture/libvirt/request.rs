//! What libvirt is asked for: a backup that is read over a socket, and a checkpoint. The formats are
//! those of its pages `formatbackup` and `formatcheckpoint`.

use super::domain::Domain;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What the bitmap of changes is called in an export.
pub(super) const CHANGES: &str = "changes";

/// A disk that takes part.
#[derive(Debug)]
pub(super) struct DiskRequest {
    pub target: String,
    pub scratch: PathBuf,
    /// The checkpoint since which changes are told.
    pub since: Option<String>,
    /// Whether the new checkpoint covers it.
    pub in_checkpoint: bool,
}

/// The backup. Every disk of the domain is named: what is not would be copied too.
pub(super) fn backup(domain: &Domain, disks: &[DiskRequest], socket: &Path) -> Option<String> {
    let socket = escaped(socket.to_str()?);
    let mut xml =
        format!("<domainbackup mode='pull'><server transport='unix' socket='{socket}'/><disks>");
    for disk in disks {
        let (target, scratch) = (escaped(&disk.target), escaped(disk.scratch.to_str()?));
        let mode = match &disk.since {
            Some(checkpoint) => format!(
                "backupmode='incremental' incremental='{}' exportbitmap='{CHANGES}'",
                escaped(checkpoint)
            ),
            None => "backupmode='full'".to_owned(),
        };
        // Writing to a text does not fail.
        let _ = write!(
            xml,
            "<disk name='{target}' backup='yes' type='file' exportname='{target}' {mode}>\
            <driver type='qcow2'/><scratch file='{scratch}'/></disk>"
        );
    }
    for (target, _) in &domain.others {
        let _ = write!(xml, "<disk name='{}' backup='no'/>", escaped(target));
    }
    xml.push_str("</disks></domainbackup>");
    Some(xml)
}

/// The checkpoint; `None` when no disk can have one.
pub(super) fn checkpoint(domain: &Domain, disks: &[DiskRequest], name: &str) -> Option<String> {
    if !disks.iter().any(|disk| disk.in_checkpoint) {
        return None;
    }
    let mut xml = format!("<domaincheckpoint><name>{}</name><disks>", escaped(name));
    let own = disks.iter().map(|disk| (&disk.target, disk.in_checkpoint));
    let others = domain.others.iter().map(|(target, _)| (target, false));
    for (target, is_in) in own.chain(others) {
        let kind = if is_in { "bitmap" } else { "no" };
        let _ = write!(xml, "<disk name='{}' checkpoint='{kind}'/>", escaped(target));
    }
    xml.push_str("</disks></domaincheckpoint>");
    Some(xml)
}

/// Text within a value or an element. A new line would otherwise become a blank.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '<' | '>' | '\'' | '"' | '\n' | '\r' | '\t' => {
                let _ = write!(out, "&#{};", u32::from(c));
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use roxmltree::Document;

    fn disk(target: &str, since: Option<&str>) -> DiskRequest {
        DiskRequest {
            target: target.to_owned(),
            scratch: PathBuf::from("/a'b\n<c>&"),
            since: since.map(str::to_owned),
            in_checkpoint: target == "vda",
        }
    }

    #[test]
    fn every_disk_is_named_and_every_path_survives() {
        let xml = "<domain><uuid>1</uuid><devices><disk device='cdrom'><target dev='sda'/></disk>\
            </devices></domain>";
        let domain = Domain::parse(xml).unwrap();
        let disks = [disk("vda", Some("before")), disk("vdb", None)];
        let asked = backup(&domain, &disks, Path::new("/s'\"")).unwrap();
        let read = Document::parse(&asked).unwrap();
        let disk = |target: &str| {
            let mut all = read.descendants();
            all.find(|it| it.attribute("name") == Some(target) && it.has_tag_name("disk")).unwrap()
        };
        assert_eq!(disk("vda").attribute("incremental"), Some("before"));
        assert_eq!(disk("vdb").attribute("backupmode"), Some("full"));
        assert_eq!(disk("sda").attribute("backup"), Some("no"));
        let scratch = disk("vda").last_element_child().unwrap();
        assert_eq!(scratch.attribute("file"), Some("/a'b\n<c>&"));
        let asked = checkpoint(&domain, &disks, "new").unwrap();
        assert!(asked.contains("'vda' checkpoint='bitmap'"), "{asked}");
        assert!(asked.contains("'vdb' checkpoint='no'"), "{asked}");
        assert!(asked.contains("'sda' checkpoint='no'"), "{asked}");
        assert_eq!(checkpoint(&domain, &disks[1..], "new"), None);
    }
}
