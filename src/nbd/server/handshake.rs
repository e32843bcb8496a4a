//! The handshake: which export a client wants, and what of the protocol it knows.

use super::export::Export;
use super::{Exports, Limits};
use crate::nbd::bytes::{self, Fields, put_string};
use crate::nbd::numbers as n;
use crate::nbd::stream::Stream;
use crate::nbd::tls::TlsAcceptor;
use std::io;
use std::sync::Arc;
use std::time::Instant;

/// Longest data of an option, in bytes: two strings and a list of queries.
const OPTION_BYTES_MAX: u32 = 64 << 10;
/// The most options of one client.
const OPTIONS_MAX: usize = 256;
/// The most queries for contexts in one option.
const QUERIES_MAX: u32 = 64;

/// What a client chose.
pub(super) struct Session {
    pub(super) stream: Box<dyn Stream>,
    pub(super) export: Arc<dyn Export>,
    pub(super) is_structured: bool,
    /// Names of the contexts; their numbers are their places.
    pub(super) contexts: Vec<String>,
}

/// What comes of an option.
enum Step {
    /// The next option.
    Next,
    /// The transmission of this export.
    Go(Arc<dyn Export>),
    /// TLS, and then the next option.
    Tls,
    /// The end.
    End,
}

/// What is known of the client so far.
pub(super) struct Handshake<'a> {
    pub(super) exports: &'a Exports,
    pub(super) tls: Option<&'a TlsAcceptor>,
    pub(super) limits: &'a Limits,
    is_tls_on: bool,
    wants_zeroes: bool,
    is_structured: bool,
    /// The export that the contexts were chosen for, and their names.
    chosen: Option<(String, Vec<String>)>,
}

impl<'a> Handshake<'a> {
    pub(super) fn new(
        exports: &'a Exports,
        tls: Option<&'a TlsAcceptor>,
        limits: &'a Limits,
    ) -> Self {
        let (is_tls_on, wants_zeroes, is_structured) = (false, true, false);
        Self { exports, tls, limits, is_tls_on, wants_zeroes, is_structured, chosen: None }
    }

    /// Talks with a client until it has chosen an export; `None`: it said goodbye, or something
    /// that ends the conversation.
    pub(super) fn run(mut self, mut stream: Box<dyn Stream>) -> io::Result<Option<Session>> {
        stream.set_deadline(Some(Instant::now() + self.limits.handshake_time_max));
        if !self.greet(&mut stream)? {
            return Ok(None);
        }
        for _ in 0..OPTIONS_MAX {
            let Some((option, data)) = read_option(&mut stream)? else { return Ok(None) };
            match self.answer(&mut stream, option, &data)? {
                Step::Next => {}
                Step::End => return Ok(None),
                Step::Tls => {
                    let Some(tls) = self.tls else { return Ok(None) };
                    stream = tls.begin(stream)?;
                    self.is_tls_on = true;
                    // Nothing counts that was said before, by whomever.
                    (self.is_structured, self.chosen) = (false, None);
                }
                Step::Go(export) => {
                    let contexts = self.chosen.take().map_or_else(Vec::new, |(_, names)| names);
                    let is_structured = self.is_structured;
                    return Ok(Some(Session { stream, export, is_structured, contexts }));
                }
            }
        }
        Ok(None)
    }

    fn greet(&mut self, stream: &mut Box<dyn Stream>) -> io::Result<bool> {
        let known = n::FIXED_NEWSTYLE | n::NO_ZEROES;
        let mut message = Vec::new();
        message.extend(n::INIT_MAGIC.to_be_bytes());
        message.extend(n::OPTION_MAGIC.to_be_bytes());
        message.extend(known.to_be_bytes());
        send(stream, &message)?;
        let flags = bytes::u32_from(stream)?;
        self.wants_zeroes = flags & u32::from(n::NO_ZEROES) == 0;
        Ok(flags & !u32::from(known) == 0 && flags & u32::from(n::FIXED_NEWSTYLE) != 0)
    }

    fn answer(
        &mut self,
        stream: &mut Box<dyn Stream>,
        option: u32,
        data: &[u8],
    ) -> io::Result<Step> {
        let needs_tls = self.tls.is_some() && !self.is_tls_on;
        let mut reply = |kind, payload: &[u8]| send_reply(stream, option, kind, payload);
        match option {
            n::OPT_ABORT => {
                // It may be gone already.
                let _ = reply(n::REP_ACK, &[]);
                return Ok(Step::End);
            }
            n::OPT_EXPORT_NAME if needs_tls => return Ok(Step::End),
            n::OPT_EXPORT_NAME => return self.export_name(stream, data),
            n::OPT_STARTTLS if !data.is_empty() => reply(n::REP_ERR_INVALID, &[])?,
            n::OPT_STARTTLS if needs_tls => {
                reply(n::REP_ACK, &[])?;
                return Ok(Step::Tls);
            }
            n::OPT_STARTTLS if self.is_tls_on => reply(n::REP_ERR_INVALID, &[])?,
            n::OPT_STARTTLS => reply(n::REP_ERR_POLICY, b"this server has no certificate")?,
            _ if needs_tls => reply(n::REP_ERR_TLS_REQD, b"begin TLS first")?,
            n::OPT_STRUCTURED_REPLY if data.is_empty() => {
                self.is_structured = true;
                reply(n::REP_ACK, &[])?;
            }
            n::OPT_STRUCTURED_REPLY => reply(n::REP_ERR_INVALID, &[])?,
            n::OPT_LIST if data.is_empty() => self.list(stream)?,
            n::OPT_LIST => reply(n::REP_ERR_INVALID, &[])?,
            n::OPT_INFO | n::OPT_GO => return self.info(stream, option, data),
            n::OPT_LIST_META_CONTEXT | n::OPT_SET_META_CONTEXT => {
                self.contexts(stream, option, data)?;
            }
            _ => reply(n::REP_ERR_UNSUP, &[])?,
        }
        Ok(Step::Next)
    }

    fn find(&self, name: &str) -> Option<&Arc<dyn Export>> {
        self.exports.get(name)
    }

    /// The old way into an export, which cannot say no.
    fn export_name(&mut self, stream: &mut Box<dyn Stream>, data: &[u8]) -> io::Result<Step> {
        let export = std::str::from_utf8(data).ok().and_then(|name| self.find(name));
        let Some(export) = export.cloned() else { return Ok(Step::End) };
        let mut message = Vec::new();
        message.extend(export.size_bytes().to_be_bytes());
        message.extend(flags_of(export.as_ref()).to_be_bytes());
        if self.wants_zeroes {
            message.extend([0; 124]);
        }
        send(stream, &message)?;
        Ok(self.go(export, std::str::from_utf8(data).unwrap_or_default()))
    }

    // Contexts that were chosen for another export do not count.
    fn go(&mut self, export: Arc<dyn Export>, name: &str) -> Step {
        if self.chosen.as_ref().is_some_and(|(of, _)| of != name) {
            self.chosen = None;
        }
        Step::Go(export)
    }

    fn list(&self, stream: &mut Box<dyn Stream>) -> io::Result<()> {
        for name in self.exports.names() {
            let mut payload = Vec::new();
            put_string(&mut payload, name);
            send_reply(stream, n::OPT_LIST, n::REP_SERVER, &payload)?;
        }
        send_reply(stream, n::OPT_LIST, n::REP_ACK, &[])
    }

    fn info(&mut self, stream: &mut Box<dyn Stream>, option: u32, data: &[u8]) -> io::Result<Step> {
        let Some(name) = name_and_wishes(data) else {
            send_reply(stream, option, n::REP_ERR_INVALID, &[])?;
            return Ok(Step::Next);
        };
        let Some(export) = self.find(name).cloned() else {
            send_reply(stream, option, n::REP_ERR_UNKNOWN, b"no export has this name")?;
            return Ok(Step::Next);
        };
        let mut payload = Vec::new();
        payload.extend(n::INFO_EXPORT.to_be_bytes());
        payload.extend(export.size_bytes().to_be_bytes());
        payload.extend(flags_of(export.as_ref()).to_be_bytes());
        send_reply(stream, option, n::REP_INFO, &payload)?;
        payload.clear();
        payload.extend(n::INFO_BLOCK_SIZE.to_be_bytes());
        for bytes in [1, 64 << 10, n::REQUEST_BYTES_MAX] {
            payload.extend(u32::to_be_bytes(bytes));
        }
        send_reply(stream, option, n::REP_INFO, &payload)?;
        send_reply(stream, option, n::REP_ACK, &[])?;
        Ok(if option == n::OPT_GO { self.go(export, name) } else { Step::Next })
    }

    fn contexts(
        &mut self,
        stream: &mut Box<dyn Stream>,
        option: u32,
        data: &[u8],
    ) -> io::Result<()> {
        let is_set = option == n::OPT_SET_META_CONTEXT;
        if is_set {
            self.chosen = None;
        }
        let Some((name, queries)) = queries(data).filter(|_| self.is_structured) else {
            return send_reply(stream, option, n::REP_ERR_INVALID, &[]);
        };
        let Some(export) = self.find(name) else {
            return send_reply(stream, option, n::REP_ERR_UNKNOWN, b"no export has this name");
        };
        let known = export.contexts();
        let chosen: Vec<String> = known
            .into_iter()
            .filter(|context| match is_set {
                true => queries.contains(&context.as_str()),
                false => queries.is_empty() || queries.iter().any(|query| finds(query, context)),
            })
            .collect();
        for (id, context) in chosen.iter().enumerate() {
            let mut payload = Vec::new();
            payload.extend((if is_set { id as u32 } else { 0 }).to_be_bytes());
            payload.extend(context.as_bytes());
            send_reply(stream, option, n::REP_META_CONTEXT, &payload)?;
        }
        if is_set {
            self.chosen = Some((name.to_owned(), chosen));
        }
        send_reply(stream, option, n::REP_ACK, &[])
    }
}

/// Whether a query of a list finds a context: its name, or all that begin so: `base:`.
fn finds(query: &str, context: &str) -> bool {
    query == context || (query.ends_with(':') && context.starts_with(query))
}

/// What an export can do, as flags.
pub(super) fn flags_of(export: &dyn Export) -> u16 {
    let flags = n::HAS_FLAGS | n::SEND_FLUSH | n::SEND_FUA | n::CAN_MULTI_CONN;
    match export.is_writable() {
        true => flags | n::SEND_TRIM | n::SEND_WRITE_ZEROES,
        false => flags | n::READ_ONLY,
    }
}

fn send(stream: &mut Box<dyn Stream>, message: &[u8]) -> io::Result<()> {
    stream.write_all(message)?;
    stream.flush()
}

fn send_reply(
    stream: &mut Box<dyn Stream>,
    option: u32,
    kind: u32,
    payload: &[u8],
) -> io::Result<()> {
    let mut message = Vec::with_capacity(20 + payload.len());
    message.extend(n::OPTION_REPLY_MAGIC.to_be_bytes());
    message.extend(option.to_be_bytes());
    message.extend(kind.to_be_bytes());
    message.extend((payload.len() as u32).to_be_bytes());
    message.extend(payload);
    send(stream, &message)
}

/// Reads an option; `None` where it is none, or too long to be one.
fn read_option(stream: &mut Box<dyn Stream>) -> io::Result<Option<(u32, Vec<u8>)>> {
    let magic = bytes::u64_from(stream)?;
    let (option, len) = (bytes::u32_from(stream)?, bytes::u32_from(stream)?);
    if magic != n::OPTION_MAGIC || len > OPTION_BYTES_MAX {
        return Ok(None);
    }
    Ok(Some((option, bytes::vector(stream, len as usize)?)))
}

/// The name in the data of `GO` and `INFO`, when they are whole.
fn name_and_wishes(data: &[u8]) -> Option<&str> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let wishes = fields.u16()?;
    // All that there is to tell is told, whatever is wished for.
    fields.take(usize::from(wishes) * 2)?;
    fields.0.is_empty().then_some(name)
}

/// Name and queries in the data of `SET_META_CONTEXT` and `LIST_META_CONTEXT`.
fn queries(data: &[u8]) -> Option<(&str, Vec<&str>)> {
    let mut fields = Fields(data);
    let name = fields.string()?;
    let count = fields.u32().filter(|count| *count <= QUERIES_MAX)?;
    let list: Option<Vec<&str>> = (0..count).map(|_| fields.string()).collect();
    fields.0.is_empty().then_some((name, list?))
}
