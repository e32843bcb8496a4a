//! What can happen to a machine.

use proptest::prelude::*;

pub const DISKS: [&str; 3] = ["root", "data", "swap"];
pub const REPLICAS: [&str; 2] = ["a", "b"];
const KIB: u64 = 1024;
/// Above this, and above 16 MiB, trees have two levels of nodes.
const SIZE_MAX: u64 = 21 * 1024 * KIB;

/// Where something happens, as a part of the disk's size in 2^16ths, and how far it reaches.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    pub at: u16,
    pub len: u64,
}

#[derive(Debug, Clone)]
pub enum Step {
    Noise {
        disk: usize,
        place: Place,
        seed: u64,
    },
    Zeros {
        disk: usize,
        place: Place,
    },
    /// Content of one disk again, elsewhere.
    Repeat {
        from: usize,
        to: usize,
        place: Place,
        at: u16,
    },
    /// The place becomes a hole of the file, or data of zeros around one byte.
    Punch {
        disk: usize,
        place: Place,
        back: bool,
    },
    Resize {
        disk: usize,
        size: u64,
    },
    Appear {
        disk: usize,
    },
    Disappear {
        disk: usize,
    },
    Backup,
    Replicate {
        replica: usize,
    },
    DeletePoint {
        which: u16,
    },
    ForeignWrite {
        replica: usize,
        disk: usize,
        at: u16,
    },
    DeleteCatalog,
    KeepCatalog,
    OldCatalog,
    RebuildCatalog,
}

fn place() -> impl Strategy<Value = Place> {
    let len = prop_oneof![1_u64..100, 500_u64..9000, Just(4096), 60_000_u64..200_000];
    (any::<u16>(), len).prop_map(|(at, len)| Place { at, len })
}

pub fn size() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0_u64),
        2 => Just(1),
        2 => 2_u64..5000,
        4 => 64 * KIB - 1..64 * KIB + 2,
        8 => 100_000_u64..700_000,
        3 => 16 * 1024 * KIB - 2..16 * 1024 * KIB + 3,
        3 => 16 * 1024 * KIB..SIZE_MAX,
    ]
}

pub fn step() -> impl Strategy<Value = Step> {
    let disk = 0..DISKS.len();
    let replica = 0..REPLICAS.len();
    prop_oneof![
        6 => (disk.clone(), place(), any::<u64>())
            .prop_map(|(disk, place, seed)| Step::Noise { disk, place, seed }),
        3 => (disk.clone(), place()).prop_map(|(disk, place)| Step::Zeros { disk, place }),
        3 => (disk.clone(), disk.clone(), place(), any::<u16>())
            .prop_map(|(from, to, place, at)| Step::Repeat { from, to, place, at }),
        3 => (disk.clone(), place(), any::<bool>())
            .prop_map(|(disk, place, back)| Step::Punch { disk, place, back }),
        4 => (disk.clone(), size()).prop_map(|(disk, size)| Step::Resize { disk, size }),
        1 => disk.clone().prop_map(|disk| Step::Appear { disk }),
        1 => disk.clone().prop_map(|disk| Step::Disappear { disk }),
        8 => Just(Step::Backup),
        8 => replica.clone().prop_map(|replica| Step::Replicate { replica }),
        2 => any::<u16>().prop_map(|which| Step::DeletePoint { which }),
        2 => (replica, disk, any::<u16>())
            .prop_map(|(replica, disk, at)| Step::ForeignWrite { replica, disk, at }),
        1 => Just(Step::DeleteCatalog),
        1 => Just(Step::KeepCatalog),
        1 => Just(Step::OldCatalog),
        1 => Just(Step::RebuildCatalog),
    ]
}

/// The bytes of `content` that a place means.
pub fn range(content: &[u8], place: Place) -> std::ops::Range<usize> {
    let start = ((content.len() as u64 * u64::from(place.at)) >> 16) as usize;
    let end = content.len().min(start + place.len as usize);
    start..end
}
