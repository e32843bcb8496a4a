//! Which checkpoint tells what changed, and which does not.
//!
//! Invariant: doubt means that none does, and then everything is read.

use super::domain::{Domain, DomainDisk};
use super::names::checkpoint_prefix;
use super::virsh::{Virsh, VirshError};
use crate::capture::{Bases, QemuMark};
use crate::source::DiskBase;
use roxmltree::Document;
use std::collections::BTreeSet;

/// A checkpoint, and the target of a disk that it covers.
pub(super) type Covered = BTreeSet<(String, String)>;

/// Names of the checkpoints that are noted.
pub(super) fn noted_names(noted: &Bases) -> BTreeSet<String> {
    let name = |base: &DiskBase| match base {
        DiskBase::Checkpoint { name, .. } => Some(name.clone()),
        _ => None,
    };
    noted.values().filter_map(name).collect()
}

/// Which disks the noted checkpoints cover, of those that exist.
pub(super) fn covered(
    virsh: &Virsh,
    names: &BTreeSet<String>,
    existing: &[String],
) -> Result<Covered, VirshError> {
    let mut covered = Covered::new();
    for name in existing.iter().filter(|name| names.contains(*name)) {
        let words = ["--no-domain", "--checkpointname", name.as_str()];
        let xml = virsh.run("checkpoint-dumpxml", &words)?;
        covered.extend(targets(&xml).into_iter().map(|target| (name.clone(), target)));
    }
    Ok(covered)
}

/// The targets of the disks that a checkpoint covers; none when it cannot be read.
fn targets(xml: &str) -> Vec<String> {
    let Ok(document) = Document::parse(xml) else { return Vec::new() };
    let disks = document.descendants().filter(|it| it.has_tag_name("disk"));
    let disks = disks.filter(|disk| disk.attribute("checkpoint") == Some("bitmap"));
    disks.filter_map(|disk| disk.attribute("name")).map(str::to_owned).collect()
}

/// The checkpoint that was noted with the point before, if it recorded all that was written to the
/// disk since.
///
/// # Errors
/// Why it does not count, in words.
pub(super) fn usable<'a>(
    noted: &'a DiskBase,
    (domain, disk): (&Domain, &DomainDisk),
    mark: &QemuMark,
    covered: &Covered,
) -> Result<&'a str, String> {
    if !disk.keeps_checkpoints() {
        let format = &disk.format;
        return Err(format!("its image is {format}, and libvirt keeps checkpoints only in qcow2"));
    }
    let DiskBase::Checkpoint { name, domain: noted_domain, target, .. } = noted else {
        return Err("it was not captured from a running domain before".to_owned());
    };
    if !name.starts_with(&checkpoint_prefix(mark)) {
        return Err(format!("the checkpoint {name} was not made for this machine"));
    }
    if *noted_domain != domain.uuid {
        return Err("it is a disk of another domain than before".to_owned());
    }
    if target != disk.name.as_str() {
        return Err(format!("it was {target} before"));
    }
    if !covered.contains(&(name.clone(), target.clone())) {
        return Err(format!("its checkpoint {name} is gone"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::libvirt::names::tests::mark;

    #[test]
    fn the_disks_of_a_checkpoint_are_read() {
        let xml = "<domaincheckpoint><name>a</name><disks><disk name='vda' checkpoint='bitmap' \
            bitmap='a'/><disk name='vdb' checkpoint='no'/></disks></domaincheckpoint>";
        assert_eq!(targets(xml), ["vda"]);
        assert!(targets("<disk").is_empty());
    }

    #[test]
    fn every_doubt_is_told() {
        let xml = "<domain><uuid>1a</uuid><devices><disk><driver type='qcow2'/>\
            <source file='/a'/><target dev='vda'/></disk><disk><source file='/b'/>\
            <target dev='vdb'/></disk></devices></domain>";
        let domain = Domain::parse(xml).unwrap();
        let (vda, vdb) = (&domain.disks[0], &domain.disks[1]);
        let name = format!("{}x", checkpoint_prefix(&mark(1)));
        let noted = |domain: &str, target: &str| DiskBase::Checkpoint {
            name: name.clone(),
            domain: domain.to_owned(),
            target: target.to_owned(),
            size_bytes: 512,
        };
        let covered = Covered::from([(name.clone(), "vda".to_owned())]);
        let good = noted("1a", "vda");
        assert_eq!(usable(&good, (&domain, vda), &mark(1), &covered), Ok(name.as_str()));
        for (noted, disk, owner, covered, expected) in [
            (good.clone(), vdb, 1, &covered, "only in qcow2"),
            (
                DiskBase::Files { files: Vec::new() },
                vda,
                1,
                &covered,
                "not captured from a running",
            ),
            (good.clone(), vda, 2, &covered, "not made for this machine"),
            (noted("2b", "vda"), vda, 1, &covered, "another domain"),
            (noted("1a", "vdc"), vda, 1, &covered, "was vdc before"),
            (good.clone(), vda, 1, &Covered::new(), "is gone"),
        ] {
            let reason = usable(&noted, (&domain, disk), &mark(owner), covered).unwrap_err();
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
    }
}
