//! The connections that there are. When there are too many, the oldest that does nothing makes
//! room: whoever opens many and sends nothing closes their own.

use super::peer::AddressKey;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// All connections of one listener.
#[derive(Debug)]
pub(super) struct Connections {
    all_max: usize,
    per_address_max: usize,
    table: Mutex<Table>,
    /// Told when one ends.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By age.
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    address: AddressKey,
    line: Arc<Line>,
}

/// What a connection and the table share.
#[derive(Debug, Default)]
pub(super) struct Line {
    is_busy: AtomicBool,
    cut: Notify,
}

/// The place of a connection, for as long as it lasts.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    pub line: Arc<Line>,
    connections: Arc<Connections>,
}

/// A request is under way, for as long as this lasts.
#[derive(Debug)]
pub(super) struct Busy(Arc<Line>);

impl Line {
    /// Returns when the connection has to end.
    pub async fn cut(&self) {
        self.cut.notified().await;
    }

    /// A request begins.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.is_busy.store(true, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Relaxed);
    }
}

impl Connections {
    pub fn new(all_max: usize, per_address_max: usize) -> Arc<Self> {
        let (table, ended) = (Mutex::default(), Notify::new());
        Arc::new(Self { all_max, per_address_max, table, ended })
    }

    /// A place for one more from `address`; `None` when all others are at work.
    pub fn admit(self: &Arc<Self>, address: AddressKey) -> Option<Place> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let own = table.open.values().filter(|open| open.address == address).count();
        if own >= self.per_address_max {
            table.make_room(Some(address))?;
        } else if table.open.len() >= self.all_max {
            table.make_room(None)?;
        }
        let id = table.next;
        table.next = id.wrapping_add(1);
        let line = Arc::new(Line::default());
        table.open.insert(id, Open { address, line: Arc::clone(&line) });
        Some(Place { id, line, connections: Arc::clone(self) })
    }

    /// Ends all.
    pub fn cut_all(&self) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.open.values().for_each(|open| open.line.cut.notify_one());
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.table.lock().unwrap_or_else(PoisonError::into_inner).open.len()
    }

    /// Returns when there are none any more.
    pub async fn all_ended(&self) {
        loop {
            let ended = self.ended.notified();
            if self.count() == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Table {
    /// Ends the oldest that does nothing, of one address or of the one that has most.
    fn make_room(&mut self, address: Option<AddressKey>) -> Option<()> {
        let address = match address {
            Some(address) => address,
            None => self.busiest_address()?,
        };
        let is_idle =
            |open: &Open| open.address == address && !open.line.is_busy.load(Ordering::Relaxed);
        let id = self.open.iter().find(|(_, open)| is_idle(open)).map(|(id, _)| *id)?;
        self.open.remove(&id)?.line.cut.notify_one();
        Some(())
    }

    /// The address that has most connections that do nothing.
    fn busiest_address(&self) -> Option<AddressKey> {
        let mut counts: BTreeMap<AddressKey, usize> = BTreeMap::new();
        for open in self.open.values() {
            if !open.line.is_busy.load(Ordering::Relaxed) {
                *counts.entry(open.address).or_default() += 1;
            }
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let table = &self.connections.table;
        table.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.id);
        self.connections.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_idle_connection_makes_room_and_busy_ones_never_do() {
        let connections = Connections::new(4, 2);
        let (one, two) = (AddressKey::Uid(1), AddressKey::Uid(2));
        let first = connections.admit(one).unwrap();
        let second = connections.admit(one).unwrap();
        let busy = first.line.begin();
        let third = connections.admit(one).unwrap();
        assert_eq!(connections.count(), 2, "the second made room");
        let still = third.line.begin();
        assert!(connections.admit(one).is_none(), "both are at work");
        let others = [connections.admit(two).unwrap(), connections.admit(two).unwrap()];
        let other = connections.admit(AddressKey::Uid(3)).unwrap();
        assert_eq!(connections.count(), 4, "the one that has most that do nothing gave one");
        drop((busy, still));
        drop((first, second, third, others, other));
        assert_eq!(connections.count(), 0);
    }
}
