//! What the current point refers to, kept up to date from point to point.
//!
//! Invariant: the count of an object is the number of times that objects in use, and roots of the
//! current point, name it; it is in use while that is not zero.

use super::objects::Objects;
use super::{Amounts, UsageError};
use crate::point::TreeVisitor;
use crate::store::StoreError;
use crate::units::{ChunkName, ObjectName, TreeName};
use std::collections::HashMap;

/// What is in use.
#[derive(Debug, Default)]
pub(super) struct Live {
    objects: Objects,
    /// Number of the current point.
    point: u32,
    /// One more than the number of the current machine.
    machine: u32,
    current: Amounts,
    seen_by_machine: Amounts,
    seen_by_anyone: Amounts,
    /// Data below each leaf and node in use.
    data_below: HashMap<usize, u64>,
    /// Data found so far: of the point, and of each leaf or node on the way down.
    data: Vec<u64>,
    missing: u64,
}

impl Live {
    pub fn new(objects: Objects) -> Self {
        Self { objects, ..Self::default() }
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// What the current point needs; without its sizes.
    pub fn current(&self) -> Amounts {
        self.current
    }

    /// What the points of the current machine need so far.
    pub fn seen_by_machine(&self) -> Amounts {
        self.seen_by_machine
    }

    /// What all points need so far.
    pub fn seen_by_anyone(&self) -> Amounts {
        self.seen_by_anyone
    }

    /// Chunks that are in no pack.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    pub fn next_machine(&mut self) {
        self.machine += 1;
        self.seen_by_machine = Amounts::default();
    }

    /// What is added from now on belongs to the next point.
    pub fn next_point(&mut self) {
        self.point += 1;
    }

    /// Data of what was added since the last time.
    pub fn take_data(&mut self) -> u64 {
        self.data.drain(..).sum()
    }

    pub fn adding(&mut self) -> Adding<'_> {
        Adding(self)
    }

    pub fn removing(&mut self) -> Removing<'_> {
        Removing(self)
    }

    fn find_tree(&self, name: TreeName) -> Result<usize, UsageError> {
        let name = ObjectName::from(name);
        Ok(self.objects.find(name).ok_or(StoreError::Unknown { name })?)
    }

    /// One reference more; whether it is the first.
    fn refer(&mut self, index: usize, is_chunk: bool) -> bool {
        let (point, machine) = (self.point, self.machine);
        let Some(object) = self.objects.get_mut(index) else { return false };
        object.count = object.count.saturating_add(1);
        if object.count > 1 {
            return false;
        }
        let (stored, plain) = (u64::from(object.stored), u64::from(object.plain));
        let last = std::mem::replace(&mut object.seen_by, machine);
        object.since = point;
        count(&mut self.current, is_chunk, stored, plain);
        if last != machine {
            count(&mut self.seen_by_machine, is_chunk, stored, plain);
        }
        if last == 0 {
            count(&mut self.seen_by_anyone, is_chunk, stored, plain);
        }
        true
    }

    /// One reference less; whether it was the last.
    fn forget(&mut self, index: usize, is_chunk: bool) -> bool {
        let (point, machine) = (self.point, self.machine.saturating_sub(1));
        let Some(object) = self.objects.get_mut(index) else { return false };
        object.count = object.count.saturating_sub(1);
        if object.count > 0 {
            return false;
        }
        object.used(point, machine);
        let (stored, plain) = (u64::from(object.stored), u64::from(object.plain));
        if is_chunk {
            self.current.chunks -= plain;
            self.current.chunks_stored -= stored;
        } else {
            self.current.trees_stored -= stored;
        }
        true
    }

    fn add_data(&mut self, bytes: u64) {
        match self.data.last_mut() {
            Some(data) => *data += bytes,
            None => self.data.push(bytes),
        }
    }
}

fn count(amounts: &mut Amounts, is_chunk: bool, stored: u64, plain: u64) {
    if is_chunk {
        amounts.chunks += plain;
        amounts.chunks_stored += stored;
    } else {
        amounts.trees_stored += stored;
    }
}

/// A point's trees come into use.
pub(super) struct Adding<'l>(&'l mut Live);

impl TreeVisitor for Adding<'_> {
    type Error = UsageError;

    fn enter(&mut self, name: TreeName) -> Result<bool, UsageError> {
        let index = self.0.find_tree(name)?;
        let is_new = self.0.refer(index, false);
        if is_new {
            self.0.data.push(0);
        } else {
            let below = self.0.data_below.get(&index).copied().unwrap_or(0);
            self.0.add_data(below);
        }
        Ok(is_new)
    }

    fn chunk(&mut self, name: ChunkName, len: u32) -> Result<(), UsageError> {
        self.0.add_data(u64::from(len));
        match self.0.objects.find(name.into()) {
            Some(index) => _ = self.0.refer(index, true),
            None => self.0.missing += 1,
        }
        Ok(())
    }

    fn leave(&mut self, name: TreeName) -> Result<(), UsageError> {
        let below = self.0.data.pop().unwrap_or(0);
        let index = self.0.find_tree(name)?;
        self.0.data_below.insert(index, below);
        self.0.add_data(below);
        Ok(())
    }
}

/// A point's trees go out of use.
pub(super) struct Removing<'l>(&'l mut Live);

impl TreeVisitor for Removing<'_> {
    type Error = UsageError;

    fn enter(&mut self, name: TreeName) -> Result<bool, UsageError> {
        let index = self.0.find_tree(name)?;
        Ok(self.0.forget(index, false))
    }

    fn chunk(&mut self, name: ChunkName, _: u32) -> Result<(), UsageError> {
        if let Some(index) = self.0.objects.find(name.into()) {
            self.0.forget(index, true);
        }
        Ok(())
    }

    fn leave(&mut self, name: TreeName) -> Result<(), UsageError> {
        let index = self.0.find_tree(name)?;
        self.0.data_below.remove(&index);
        Ok(())
    }
}
