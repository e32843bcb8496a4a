//! The connections of a client, each used by one thread at a time.

use super::connection::Connection;
use crate::nbd::error::Fault;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Connections that wait to be used. Invariant: none that failed is among them.
pub(super) struct Pool {
    len: usize,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    idle: Vec<Connection>,
    /// Why a connection failed; then none is used any more.
    failure: Option<String>,
}

impl Pool {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        let len = connections.len();
        let state = Mutex::new(State { idle: connections, failure: None });
        Self { len, state, changed: Condvar::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn check_alive(&self) -> Result<(), Fault> {
        self.state().failure.clone().map_or(Ok(()), |why| Err(Fault::Failed(why)))
    }

    /// Uses a connection, as soon as one is idle. Whoever has one is done in bounded time.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut loan = self.take()?;
        let Some(connection) = loan.connection.as_mut() else {
            return Err(Fault::Failed("it is gone".into()));
        };
        let result = work(connection);
        match &result {
            Err(fault) if !fault.leaves_connection_good() => loan.why = fault.to_string(),
            _ => loan.is_good = true,
        }
        result
    }

    fn take(&self) -> Result<Loan<'_>, Fault> {
        let mut state = self.state();
        loop {
            if let Some(why) = &state.failure {
                return Err(Fault::Failed(why.clone()));
            }
            if let Some(connection) = state.idle.pop() {
                let why = "its user ended early".to_owned();
                return Ok(Loan { pool: self, connection: Some(connection), is_good: false, why });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let idle = std::mem::take(&mut self.state().idle);
        idle.into_iter().for_each(Connection::disconnect);
    }
}

/// A connection in use. Unless it is found good, it is not used again, and neither are the others.
struct Loan<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    is_good: bool,
    why: String,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        if self.is_good {
            state.idle.extend(self.connection.take());
            self.pool.changed.notify_one();
        } else {
            state.failure.get_or_insert_with(|| std::mem::take(&mut self.why));
            self.pool.changed.notify_all();
        }
    }
}
