//! The status of blocks: what is zero, what is dirty.

use super::connection::Request;
use super::{Client, Fault};
use crate::extent::{Extent, push_joined};
use crate::nbd::error::NbdError;
use crate::nbd::numbers as n;
use std::time::Instant;

/// The most pieces that [`Client::block_status`] gives: 96 MiB of them.
const PIECES_MAX: usize = 4 << 20;
/// How many changed extents are kept apart; more are joined over small gaps.
const CHANGED_MAX: usize = 1 << 20;
/// The most that is asked about at once. A power of two, and so whole blocks.
const ASKED_BYTES_MAX: u64 = 1 << 31;

impl Client {
    /// The status of all blocks of `range` in a context: in order, without gaps, neighbours
    /// of the same status joined.
    ///
    /// # Errors
    /// When the server does not have the context, the range is not within the export, or the
    /// server fails, breaks the protocol, or takes longer than
    /// [`Options::flush_time_max`](super::Options::flush_time_max) for all of it.
    pub fn block_status(
        &self,
        context: &str,
        range: Extent,
    ) -> Result<Vec<(Extent, u32)>, NbdError> {
        let mut list: Vec<(Extent, u32)> = Vec::new();
        let all = self.each_status(context, range, &mut |piece, flags| {
            let is_full = list.len() == PIECES_MAX;
            match list.last_mut() {
                Some((last, same)) if *same == flags && last.end() == piece.start() => {
                    *last = Extent::between(last.start(), piece.end());
                }
                _ if is_full => return Err(Fault::Fragmented(PIECES_MAX)),
                _ => list.push((piece, flags)),
            }
            Ok(Flow::Continue)
        });
        self.told(all)?;
        Ok(list)
    }

    /// Where `range` may hold something else than zeros: sorted, disjoint, never touching. All of
    /// it where the server does not tell.
    ///
    /// # Errors
    /// As [`Client::block_status`], but for the context.
    pub fn data_extents(&self, range: Extent) -> Result<Vec<Extent>, NbdError> {
        if !self.has_context(n::BASE_ALLOCATION) {
            self.told(self.within(range.start(), range.len()))?;
            return Ok(if range.is_empty() { Vec::new() } else { vec![range] });
        }
        self.extents_where(n::BASE_ALLOCATION, range, |flags| flags & n::STATE_ZERO == 0)
    }

    /// First byte at or after `offset` that may not be zero; `None`: only zeros until the end.
    ///
    /// # Errors
    /// As [`Client::data_extents`].
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, NbdError> {
        if offset >= self.size_bytes() {
            return Ok(None);
        }
        if !self.has_context(n::BASE_ALLOCATION) {
            return Ok(Some(offset));
        }
        let mut found = None;
        let range = Extent::between(offset, self.size_bytes());
        let all = self.each_status(n::BASE_ALLOCATION, range, &mut |piece, flags| {
            if found.is_none() && flags & n::STATE_ZERO == 0 {
                found = Some(piece.start());
            }
            Ok(if found.is_some() { Flow::Stop } else { Flow::Continue })
        });
        self.told(all)?;
        Ok(found)
    }

    /// Where a dirty bitmap of QEMU says that the disk was written to: sorted, disjoint, never
    /// touching. Very many extents are joined over small gaps. `bitmap` is its name; its context,
    /// `qemu:dirty-bitmap:NAME`, must be among [`Options::contexts`](super::Options::contexts).
    ///
    /// # Errors
    /// As [`Client::block_status`].
    pub fn changed_extents(&self, bitmap: &str) -> Result<Vec<Extent>, NbdError> {
        let context = format!("{}{bitmap}", n::DIRTY_BITMAP_PREFIX);
        let range = Extent::between(0, self.size_bytes());
        // Any flag that is not known counts as a change too.
        self.extents_where(&context, range, |flags| flags != 0)
    }

    fn extents_where(
        &self,
        context: &str,
        range: Extent,
        counts: impl Fn(u32) -> bool,
    ) -> Result<Vec<Extent>, NbdError> {
        let mut list = Vec::new();
        let mut gap_bytes = 0;
        let all = self.each_status(context, range, &mut |piece, flags| {
            if counts(flags) {
                push_near(&mut list, piece, gap_bytes);
                while list.len() > CHANGED_MAX {
                    gap_bytes = (gap_bytes * 2).max(64 << 10);
                    list = joined_over(&list, gap_bytes);
                }
            }
            Ok(Flow::Continue)
        });
        self.told(all)?;
        Ok(list)
    }

    /// Gives the statuses of all blocks of `range`, in order, to `each`, until it stops.
    fn each_status(
        &self,
        context: &str,
        range: Extent,
        each: &mut dyn FnMut(Extent, u32) -> Result<Flow, Fault>,
    ) -> Result<(), Fault> {
        self.within(range.start(), range.len())?;
        let known = self.terms.contexts.iter().find(|(_, name)| name == context);
        let id = known.ok_or_else(|| Fault::NoContext(context.to_owned()))?.0;
        let deadline = Instant::now() + self.options.flush_time_max;
        let mut flow = Ok(Flow::Continue);
        let mut at = range.start();
        // The first answer may be all that is needed.
        let mut step_bytes: u64 = 64 << 20;
        while at < range.end() && matches!(flow, Ok(Flow::Continue)) {
            let start = at - at % u64::from(self.block_bytes());
            let end = self.rounded_up(range.end()).min(start + step_bytes);
            let mut request = self.request(n::CMD_BLOCK_STATUS, "tell the status of", start, 0);
            request.len = (end - start) as u32;
            request.limit = self.time_for(&request, deadline)?;
            let reached = self.pool.with(|connection| {
                connection.block_status(&request, id, &mut |piece, flags| {
                    let part = piece.intersection(Extent::between(at, range.end()));
                    // The reply is read to its end, whatever becomes of it.
                    if matches!(flow, Ok(Flow::Continue)) && !part.is_empty() {
                        flow = each(part, flags);
                    }
                })
            })?;
            if reached <= at {
                // Less than one block, in which `at` lies.
                return Err(Fault::protocol(format!("block status that ends at {reached}")));
            }
            at = reached;
            step_bytes = (step_bytes * 2).min(ASKED_BYTES_MAX);
        }
        flow.map(|_| ())
    }

    fn time_for(&self, request: &Request, deadline: Instant) -> Result<std::time::Duration, Fault> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let (action, limit) = (request.action, self.options.flush_time_max);
            return Err(Fault::Stalled { action, limit });
        }
        Ok(request.limit.min(left))
    }
}

/// Whether the next status is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

/// As [`push_joined`], also over a gap of up to `gap_bytes`.
fn push_near(list: &mut Vec<Extent>, extent: Extent, gap_bytes: u64) {
    match list.last_mut() {
        Some(last) if extent.start() - last.end() <= gap_bytes => {
            *last = Extent::between(last.start(), extent.end());
        }
        _ => push_joined(list, extent),
    }
}

fn joined_over(list: &[Extent], gap_bytes: u64) -> Vec<Extent> {
    let mut joined = Vec::new();
    list.iter().for_each(|extent| push_near(&mut joined, *extent, gap_bytes));
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn very_many_extents_are_joined_over_small_gaps() {
        let list: Vec<Extent> =
            [(0, 10), (20, 30), (50, 60)].map(|(start, end)| Extent::between(start, end)).into();
        let first = [Extent::between(0, 30), Extent::between(50, 60)];
        assert_eq!(joined_over(&list, 10), first);
        assert_eq!(joined_over(&list, 9), list);
        assert_eq!(joined_over(&list, 20), [Extent::between(0, 60)]);
    }
}
