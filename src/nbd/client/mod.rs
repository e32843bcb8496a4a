//! Exports of other programs and hosts, read and written.

mod connection;
mod handshake;
mod pool;
mod reply;
mod status;
mod write;

pub use write::Zeroing;

use super::address::{Address, Transport};
use super::error::{Fault, NbdError};
use super::numbers as n;
use super::stream::{Socket, Stream};
use super::tls::{ClientTls, TlsOptions};
use crate::extent::Extent;
use connection::{Connection, Request};
use handshake::{ExportInfo, Terms, Wanted, negotiate};
use pool::Pool;
use std::time::Duration;

/// The most that is read or written by one request, in bytes, whatever the server allows: so the
/// time limit of a request holds on slow lines too.
const PIECE_BYTES_MAX: u32 = 4 << 20;
/// How long a further connection may take: what does not come quickly is done without.
const FURTHER_CONNECTION_MAX: Duration = Duration::from_secs(5);

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whose certificates count; needed where the address says TLS.
    pub tls: Option<TlsOptions>,
    /// Contexts of block status to ask for, besides `base:allocation`.
    pub contexts: Vec<String>,
    /// Whether each read has to be answered with content in one piece, where the server can: it
    /// then reads, instead of looking first what it could leave out.
    pub undivided_reads: bool,
    /// The most connections, where the server allows several.
    pub connections: usize,
    /// How long connecting may take, and then how long the handshake may.
    pub connect_time_max: Duration,
    /// How long the server may take for one read, write or question.
    pub request_time_max: Duration,
    /// How long the server may take to flush, or to zero or trim a gibibyte; and how long all the
    /// questions of one [`Client::block_status`] may take.
    pub flush_time_max: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            contexts: Vec::new(),
            undivided_reads: false,
            connections: 4,
            connect_time_max: Duration::from_secs(15),
            request_time_max: Duration::from_secs(60),
            flush_time_max: Duration::from_secs(600),
        }
    }
}

/// An export, over one connection or several. All methods may be called from several threads at
/// once.
///
/// Invariant: after a failure of any connection nothing is asked any more. It never connects anew,
/// because behind the same address there may be another state of the disk by then.
pub struct Client {
    address: Address,
    options: Options,
    terms: Terms,
    pool: Pool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({}, {:?})", self.address, self.terms)
    }
}

impl Client {
    /// Connects to an export.
    ///
    /// # Errors
    /// When nobody answers in time, TLS fails, or the server does not have it or breaks the
    /// protocol.
    pub fn connect(address: &Address, options: &Options) -> Result<Self, NbdError> {
        Self::connect_to(address, options)
            .map_err(|fault| NbdError { address: address.to_string(), fault })
    }

    /// Talks to the export of `address` over a stream that is connected already: one connection,
    /// without TLS of its own.
    ///
    /// # Errors
    /// When the server does not have it or breaks the protocol.
    pub fn over(
        stream: Box<dyn Stream>,
        address: &Address,
        options: &Options,
    ) -> Result<Self, NbdError> {
        let contexts = wanted_contexts(options);
        let (export, limit) = (address.export(), options.connect_time_max);
        let wanted = Wanted { export, contexts: &contexts, tls: None, limit };
        let made = negotiate(stream, &wanted).map(|(stream, terms)| {
            Self::of(address, options, vec![Connection::new(stream, terms.clone())], terms)
        });
        made.map_err(|fault| NbdError { address: address.to_string(), fault })
    }

    fn of(
        address: &Address,
        options: &Options,
        connections: Vec<Connection>,
        terms: Terms,
    ) -> Self {
        let pool = Pool::new(connections);
        Self { address: address.clone(), options: options.clone(), terms, pool }
    }

    fn connect_to(address: &Address, options: &Options) -> Result<Self, Fault> {
        let tls = match (address.is_tls(), &options.tls) {
            (false, _) => None,
            (true, None) => return Err(Fault::NoAuthority),
            (true, Some(tls)) => Some(ClientTls::new(tls, host_of(address))?),
        };
        let contexts = wanted_contexts(options);
        let open = |limit: Duration| {
            let socket =
                Socket::connect(address.transport(), limit).map_err(|e| match e.kind() {
                    std::io::ErrorKind::TimedOut => Fault::of_stream(e, "connect", limit),
                    _ => Fault::Connect(e),
                })?;
            let wanted =
                Wanted { export: address.export(), contexts: &contexts, tls: tls.as_ref(), limit };
            let (stream, terms) = negotiate(Box::new(socket), &wanted)?;
            Ok::<_, Fault>(Connection::new(stream, terms))
        };
        let first = open(options.connect_time_max)?;
        let terms = first.terms.clone();
        let mut connections = vec![first];
        if terms.info.flags & n::CAN_MULTI_CONN != 0 {
            let limit = options.connect_time_max.min(FURTHER_CONNECTION_MAX);
            while connections.len() < options.connections {
                // A server may allow fewer than we would like. One that answers otherwise than
                // before is another one: then the first alone is used.
                match open(limit) {
                    Ok(next) if next.terms == terms => connections.push(next),
                    _ => break,
                }
            }
        }
        Ok(Self::of(address, options, connections, terms))
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.info().size_bytes
    }

    /// Whether the server refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.has(n::READ_ONLY)
    }

    /// Every write begins and ends on a multiple of so many bytes.
    pub fn block_bytes(&self) -> u32 {
        self.info().block_bytes
    }

    /// Whether the server zeroes without being sent zeros.
    pub fn can_zero(&self) -> bool {
        self.has(n::SEND_WRITE_ZEROES)
    }

    /// Whether the server trims.
    pub fn can_trim(&self) -> bool {
        self.has(n::SEND_TRIM)
    }

    /// Whether the server makes written bytes durable on request. One that does not should have
    /// no cache that could be lost, but nothing proves it.
    pub fn can_flush(&self) -> bool {
        self.has(n::SEND_FLUSH)
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.pool.len()
    }

    /// Whether the server tells the status of blocks in this context.
    pub fn has_context(&self, name: &str) -> bool {
        self.terms.contexts.iter().any(|(_, known)| known == name)
    }

    /// Errors when a connection has failed.
    ///
    /// # Errors
    /// [`Fault::Failed`].
    pub fn check_alive(&self) -> Result<(), NbdError> {
        self.told(self.pool.check_alive())
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// When the range is not within the export, or the server fails. What is in `buffer` then
    /// means nothing.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), NbdError> {
        self.told(self.read(buffer, offset))
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<(), Fault> {
        let range = self.within(offset, buffer.len() as u64)?;
        let piece_bytes = self.piece_bytes(PIECE_BYTES_MAX);
        if self.is_aligned(range) {
            for (part, at) in buffer.chunks_mut(piece_bytes).zip((offset..).step_by(piece_bytes)) {
                self.read_piece(part, at)?;
            }
            return Ok(());
        }
        let mut block = Vec::new();
        let mut at = range.start();
        while at < range.end() {
            let start = at - at % u64::from(self.block_bytes());
            let end = self.rounded_up(range.end()).min(start + piece_bytes as u64);
            block.resize((end - start) as usize, 0);
            self.read_piece(&mut block, start)?;
            let part = Extent::between(at, end.min(range.end()));
            let from = (part.start() - start) as usize;
            let to = (part.start() - offset) as usize;
            let len = part.len() as usize;
            buffer[to..to + len].copy_from_slice(&block[from..from + len]);
            at = part.end();
        }
        Ok(())
    }

    fn read_piece(&self, part: &mut [u8], at: u64) -> Result<(), Fault> {
        let len = part.len() as u32;
        let is_whole = self.options.undivided_reads && self.has(n::SEND_DF);
        let flags = if is_whole { n::CMD_FLAG_DF } else { 0 };
        let request = Request { flags, ..self.request(n::CMD_READ, "read", at, len) };
        self.pool.with(|connection| connection.read(&request, part))
    }

    fn info(&self) -> &ExportInfo {
        &self.terms.info
    }

    fn has(&self, flag: u16) -> bool {
        self.info().flags & flag != 0
    }

    fn told<T>(&self, result: Result<T, Fault>) -> Result<T, NbdError> {
        result.map_err(|fault| NbdError { address: self.address.to_string(), fault })
    }

    fn request(&self, command: u16, action: &'static str, offset: u64, len: u32) -> Request {
        let limit = self.options.request_time_max;
        Request { command, flags: 0, action, offset, len, limit }
    }

    /// The longest request of at most `most` bytes, in whole blocks.
    fn piece_bytes(&self, most: u32) -> usize {
        let info = self.info();
        let most = most.min(info.request_bytes_max).max(info.block_bytes);
        (most / info.block_bytes * info.block_bytes) as usize
    }

    fn rounded_up(&self, at: u64) -> u64 {
        // The size is whole blocks, and nothing lies past it.
        at.next_multiple_of(u64::from(self.block_bytes()))
    }

    fn is_aligned(&self, range: Extent) -> bool {
        let block_bytes = u64::from(self.block_bytes());
        range.start().is_multiple_of(block_bytes) && range.len().is_multiple_of(block_bytes)
    }

    fn within(&self, offset: u64, len: u64) -> Result<Extent, Fault> {
        let size_bytes = self.size_bytes();
        match Extent::new(offset, len) {
            Some(range) if range.end() <= size_bytes => Ok(range),
            _ => Err(Fault::PastEnd { offset, end: offset.saturating_add(len), size_bytes }),
        }
    }
}

fn wanted_contexts(options: &Options) -> Vec<String> {
    let mut names = vec![n::BASE_ALLOCATION.to_owned()];
    for name in &options.contexts {
        // What no server can have is not asked for; its use says that it is missing.
        if name.len() <= n::STRING_BYTES_MAX && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

fn host_of(address: &Address) -> &str {
    match address.transport() {
        Transport::Tcp { host, .. } => host,
        Transport::Unix { .. } => "localhost",
    }
}
