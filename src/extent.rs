//! Byte ranges of a disk.

/// A byte range. Invariant: `start + len` fits in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    start: u64,
    len: u64,
}

impl Extent {
    /// The range of `len` bytes from `start`; `None` when its end does not fit in 64 bits.
    pub fn new(start: u64, len: u64) -> Option<Self> {
        start.checked_add(len).map(|_| Self { start, len })
    }

    /// The range from `start` up to, not including, `end`; empty when `end` is not past `start`.
    pub fn between(start: u64, end: u64) -> Self {
        Self { start, len: end.saturating_sub(start) }
    }

    /// First byte.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// First byte past the range.
    pub fn end(&self) -> u64 {
        self.start + self.len
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it has in common with `other`; empty when that is nothing.
    pub fn intersection(&self, other: Self) -> Self {
        Self::between(self.start.max(other.start), self.end().min(other.end()))
    }
}

/// Appends `extent` to a sorted list, joining it with the last one where they touch. Empty
/// extents are left out.
pub fn push_joined(list: &mut Vec<Extent>, extent: Extent) {
    if extent.is_empty() {
        return;
    }
    match list.last_mut() {
        Some(last) if last.end() == extent.start => last.len += extent.len,
        _ => list.push(extent),
    }
}

/// The same ranges in order, each as long as it can be.
pub fn joined(mut ranges: Vec<Extent>) -> Vec<Extent> {
    ranges.sort_unstable();
    let mut joined: Vec<Extent> = Vec::new();
    for range in ranges {
        // What was told twice, or beside parts of it, counts once.
        let from = joined.last().map_or(0, Extent::end).max(range.start());
        push_joined(&mut joined, Extent::between(from, range.end()));
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_join_and_intersect() {
        let mut list = Vec::new();
        for (start, end) in [(0, 10), (10, 20), (20, 20), (30, 40)] {
            push_joined(&mut list, Extent::between(start, end));
        }
        assert_eq!(list, [Extent::between(0, 20), Extent::between(30, 40)]);
        assert_eq!(list[0].intersection(Extent::between(15, 35)), Extent::between(15, 20));
        assert!(list[0].intersection(list[1]).is_empty());
        assert_eq!(Extent::new(u64::MAX, 1), None);
    }
}
