//! Parts in memory, for tests of one module.

use crate::point::{Consistency, DiskEntry, Manifest, Point, Provenance};
use crate::store::{Location, ObjectIndex, PackRecord, PackSink, StoreError};
use crate::units::{
    DiskId, MachineId, Name, ObjectName, PointId, RepositoryId, RunId, Sequence, TreeName,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Knows where objects lie, as a catalog does.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    places: Mutex<BTreeMap<ObjectName, Location>>,
}

impl MemoryIndex {
    /// Says something else of an object from now on.
    pub fn set(&self, name: ObjectName, place: Location) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(name, place);
    }
}

impl ObjectIndex for MemoryIndex {
    fn locate(&self, names: &[ObjectName]) -> Result<Vec<Option<Location>>, StoreError> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(names.iter().map(|name| places.get(name).copied()).collect())
    }
}

impl PackSink for MemoryIndex {
    fn pack_written(&self, record: &PackRecord) -> Result<(), StoreError> {
        record.locations().for_each(|place| self.set(place.entry.name, place));
        Ok(())
    }
}

/// A point of the machine `web01` in the repository of all zeros. Its name begins with `id`.
pub fn point(id: u8, sequence: u64, seconds: i64, disks: &[Name]) -> Point {
    let disk = |name: &Name| DiskEntry {
        name: name.clone(),
        id: DiskId([1; 16]),
        size_bytes: 4096,
        root: Some(TreeName([id; 32])),
        provenance: Provenance::FullRead,
    };
    let manifest = Manifest {
        repository: RepositoryId([0; 16]),
        machine: machine(),
        machine_id: MachineId([0; 16]),
        sequence: Sequence(sequence),
        parent: None,
        time: jiff::Timestamp::from_second(seconds).unwrap_or_default(),
        consistency: Consistency::Offline,
        disks: disks.iter().map(disk).collect(),
        definition: Vec::new(),
        run: RunId([0; 16]),
        host: "host".to_owned(),
        version: "0".to_owned(),
    };
    Point { id: PointId([id; 32]), manifest }
}

/// The machine of [`point`].
pub fn machine() -> Name {
    "web01".parse().unwrap()
}
