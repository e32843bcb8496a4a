//! The numbers that decide where a disk is cut. They stand in a repository's header and never
//! change in it.

use crate::units::{KIB, MIB, RegionIndex};
use fastcdc::v2020::{AVERAGE_MAX, AVERAGE_MIN, MAXIMUM_MAX, MINIMUM_MIN};

/// How disks are divided into regions, granules and chunks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutParameters {
    /// Size of a region, the unit of a tree's leaf. A power of two.
    pub region_bytes: u32,
    /// Size of a granule, the unit of holes. A power of two.
    pub granule_bytes: u32,
    /// Smallest chunk, except at the end of a run of data. Even.
    pub chunk_bytes_min: u32,
    /// Average that FastCDC aims at. A power of two.
    pub chunk_bytes_average: u32,
    /// Largest chunk. Even.
    pub chunk_bytes_max: u32,
    /// Size of the blocks of the disk, at whose ends chunks end too where a block ends with zeros,
    /// as the last one of a file does. A power of two; `None` where only content decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_bytes: Option<u32>,
}

/// Parameters that cannot work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("cut parameters are out of range: {reason}")]
pub struct InvalidParameters {
    reason: &'static str,
}

/// The block of nearly all file systems, in bytes.
const BLOCK_BYTES: u32 = 4 * KIB as u32;

/// Regions are held in memory whole, one for each worker.
const REGION_BYTES_MAX: u32 = 64 * MIB as u32;

impl CutParameters {
    /// Chunks of `average` bytes in regions of 16 MiB.
    ///
    /// # Errors
    /// When `average` is not a power of two between 4 KiB and 1 MiB.
    pub fn with_average(average: u32) -> Result<Self, InvalidParameters> {
        if !(4 * KIB as u32..=MIB as u32).contains(&average) {
            return Err(InvalidParameters { reason: "the average is not from 4 KiB to 1 MiB" });
        }
        let parameters = Self {
            region_bytes: 16 * MIB as u32,
            granule_bytes: 32 * KIB as u32,
            chunk_bytes_min: average / 4,
            chunk_bytes_average: average,
            chunk_bytes_max: average * 4,
            block_bytes: Some(BLOCK_BYTES),
        };
        parameters.check()?;
        Ok(parameters)
    }

    /// Checks parameters that were read from a header. The library that cuts checks only some of
    /// them, and only in debug builds.
    ///
    /// # Errors
    /// Names the first rule that is broken.
    pub fn check(&self) -> Result<(), InvalidParameters> {
        let rules = [
            (self.region_bytes.is_power_of_two(), "the region is not a power of two"),
            (self.region_bytes <= REGION_BYTES_MAX, "the region is larger than 64 MiB"),
            (self.granule_bytes.is_power_of_two(), "the granule is not a power of two"),
            (self.granule_bytes >= 512, "the granule is smaller than 512 bytes"),
            (self.granule_bytes <= self.region_bytes, "the granule is larger than the region"),
            (self.chunk_bytes_average.is_power_of_two(), "the average is not a power of two"),
            (self.chunk_bytes_min.is_multiple_of(2), "the smallest chunk is odd"),
            (self.chunk_bytes_max.is_multiple_of(2), "the largest chunk is odd"),
            (self.chunk_bytes_min as usize >= MINIMUM_MIN, "the smallest chunk is too small"),
            (self.chunk_bytes_min < self.chunk_bytes_average, "the smallest chunk is not small"),
            (self.chunk_bytes_average < self.chunk_bytes_max, "the largest chunk is not large"),
            (self.chunk_bytes_average as usize >= AVERAGE_MIN, "the average is too small"),
            (self.chunk_bytes_average as usize <= AVERAGE_MAX, "the average is too large"),
            (self.chunk_bytes_max as usize <= MAXIMUM_MAX, "the largest chunk is too large"),
            (self.chunk_bytes_max <= self.region_bytes, "the largest chunk exceeds the region"),
            (self.block_bytes.is_none_or(u32::is_power_of_two), "the block is not a power of two"),
            (self.block_bytes.is_none_or(|it| it >= 512), "the block is smaller than 512 bytes"),
            (
                self.block_bytes.is_none_or(|it| it <= self.granule_bytes),
                "the block is larger than the granule",
            ),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            None => Ok(()),
            Some((_, reason)) => Err(InvalidParameters { reason }),
        }
    }

    /// Number of regions of a disk of `disk_bytes`.
    pub fn region_count(&self, disk_bytes: u64) -> u64 {
        disk_bytes.div_ceil(u64::from(self.region_bytes))
    }

    /// First byte of a region in its disk.
    pub fn region_start(&self, region: RegionIndex) -> u64 {
        region.0.saturating_mul(u64::from(self.region_bytes))
    }

    /// Length of a region of a disk of `disk_bytes`: the last one may be shorter, and one past
    /// the end has none.
    pub fn region_len(&self, region: RegionIndex, disk_bytes: u64) -> u32 {
        let rest = disk_bytes.saturating_sub(self.region_start(region));
        rest.min(u64::from(self.region_bytes)) as u32
    }
}
