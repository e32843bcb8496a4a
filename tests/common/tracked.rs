//! A machine whose changes are tracked: what a hypervisor with snapshots and bitmaps does, in
//! memory, and strict about the order of steps.

use afterimage::capture::{CapturedDisk, DiskCapturer, Disks};
use afterimage::extent::{Extent, push_joined};
use afterimage::fsio::FileStat;
use afterimage::point::Consistency;
use afterimage::source::{Changed, ChangedExtents, DiskBase, Evidence, Source, SourceError};
use afterimage::units::Name;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const BLOCK_BYTES: usize = 4096;

/// A running machine's disk: it can be written to at any time, and captured.
#[derive(Debug, Clone, Default)]
pub struct Tracked {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    content: Vec<u8>,
    /// Contents since which the changes are known, by their tokens.
    kept: BTreeMap<String, Vec<u8>>,
    captures: u64,
    /// Changes that reach into this are not told.
    untold: Option<Extent>,
    /// The process is killed: what is dropped tidies up nothing.
    killed: bool,
    bytes_read: u64,
}

impl Tracked {
    pub fn new(content: &[u8]) -> Self {
        let tracked = Self::default();
        tracked.set(content);
        tracked
    }

    pub fn capturer(&self, disk: &str) -> Disks {
        Disks::new(vec![(super::name(disk), Box::new(self.clone()))])
    }

    pub fn set(&self, content: &[u8]) {
        self.state.lock().unwrap().content = content.to_vec();
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        self.state.lock().unwrap().content[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn content(&self) -> Vec<u8> {
        self.state.lock().unwrap().content.clone()
    }

    /// From now on nothing is told of changes in this range.
    pub fn lie_about(&self, untold: Option<Extent>) {
        self.state.lock().unwrap().untold = untold;
    }

    /// Loses all that is kept, as a machine that is started anew.
    pub fn restart(&self) {
        self.state.lock().unwrap().kept.clear();
    }

    pub fn set_killed(&self, killed: bool) {
        self.state.lock().unwrap().killed = killed;
    }

    /// Tokens of what is kept.
    pub fn kept(&self) -> Vec<String> {
        self.state.lock().unwrap().kept.keys().cloned().collect()
    }

    /// Bytes that were read since this was asked before.
    pub fn bytes_read(&self) -> u64 {
        std::mem::take(&mut self.state.lock().unwrap().bytes_read)
    }
}

impl DiskCapturer for Tracked {
    fn capture(
        &self,
        _: &Name,
        noted: Option<&DiskBase>,
    ) -> Result<Box<dyn CapturedDisk>, SourceError> {
        let mut state = self.state.lock().unwrap();
        let noted = noted.and_then(token);
        // What a run that was cut off left.
        state.kept.retain(|kept, _| Some(kept) == noted.as_ref());
        state.captures += 1;
        let own = format!("capture-{}", state.captures);
        let content = state.content.clone();
        state.kept.insert(own.clone(), content.clone());
        let source = Memory { content, machine: self.clone() };
        Ok(Box::new(TrackedDisk { source, machine: self.clone(), own, is_durable: false }))
    }
}

fn token(base: &DiskBase) -> Option<String> {
    match base {
        DiskBase::Snapshot { token } => Some(token.clone()),
        _ => None,
    }
}

#[derive(Debug)]
struct TrackedDisk {
    source: Memory,
    machine: Tracked,
    own: String,
    is_durable: bool,
}

impl CapturedDisk for TrackedDisk {
    fn source(&self) -> &dyn Source {
        &self.source
    }

    fn consistency(&self) -> Consistency {
        Consistency::CrashConsistent
    }

    fn changed_since(&self, base: &DiskBase) -> Result<Changed, SourceError> {
        let state = self.machine.state.lock().unwrap();
        let Some(old) = token(base).and_then(|token| state.kept.get(&token)) else {
            return Ok(Changed::Unknown(Some("the machine was started anew".to_owned())));
        };
        if old.len() != self.source.content.len() {
            return Ok(Changed::Unknown(Some("its size changed".to_owned())));
        }
        let mut extents = Vec::new();
        for (number, block) in self.source.content.chunks(BLOCK_BYTES).enumerate() {
            let start = number * BLOCK_BYTES;
            let extent = Extent::between(start as u64, (start + block.len()) as u64);
            let is_told = state.untold.is_none_or(|untold| untold.intersection(extent).is_empty());
            if is_told && old[start..start + block.len()] != *block {
                push_joined(&mut extents, extent);
            }
        }
        Ok(Changed::Known(ChangedExtents { extents, evidence: Evidence::Snapshot }))
    }

    fn base(&self, _: jiff::Timestamp) -> Option<DiskBase> {
        Some(DiskBase::Snapshot { token: self.own.clone() })
    }

    fn notes(&self) -> Vec<String> {
        vec!["a note of the capture".to_owned()]
    }

    fn point_is_durable(&mut self) -> Vec<String> {
        let mut state = self.machine.state.lock().unwrap();
        state.kept.retain(|kept, _| *kept == self.own);
        self.is_durable = true;
        Vec::new()
    }
}

impl Drop for TrackedDisk {
    fn drop(&mut self) {
        let mut state = self.machine.state.lock().unwrap();
        if !self.is_durable && !state.killed {
            state.kept.remove(&self.own);
        }
    }
}

/// A disk in memory, thin in blocks of zeros.
#[derive(Debug)]
struct Memory {
    content: Vec<u8>,
    machine: Tracked,
}

impl Memory {
    fn is_data(&self, number: usize) -> bool {
        let block = self.content.chunks(BLOCK_BYTES).nth(number);
        block.is_some_and(|block| !afterimage::chunk::is_zero(block))
    }
}

impl Source for Memory {
    fn size_bytes(&self) -> u64 {
        self.content.len() as u64
    }

    fn next_data(&self, offset: u64) -> Result<Option<u64>, SourceError> {
        let blocks = self.content.len().div_ceil(BLOCK_BYTES);
        let first = offset as usize / BLOCK_BYTES;
        let found = (first..blocks).find(|number| self.is_data(*number));
        Ok(found.map(|number| offset.max((number * BLOCK_BYTES) as u64)))
    }

    fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, SourceError> {
        let mut list = Vec::new();
        let first = range.start() as usize / BLOCK_BYTES;
        for number in first..(range.end() as usize).div_ceil(BLOCK_BYTES) {
            let start = (number * BLOCK_BYTES) as u64;
            let block = Extent::between(start, start + BLOCK_BYTES as u64);
            if self.is_data(number) {
                push_joined(&mut list, block.intersection(range));
            }
        }
        Ok(list)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), SourceError> {
        let start = offset as usize;
        buffer.copy_from_slice(&self.content[start..start + buffer.len()]);
        self.machine.state.lock().unwrap().bytes_read += buffer.len() as u64;
        Ok(())
    }

    fn check_unchanged(&self) -> Result<(), SourceError> {
        Ok(())
    }

    fn description(&self) -> &'static str {
        "disk in memory"
    }

    fn files(&self) -> Vec<FileStat> {
        Vec::new()
    }
}
