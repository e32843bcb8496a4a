//! The handshake: TLS, structured replies, contexts of block status, and the export itself.

use crate::nbd::bytes::{self, Fields, put_string};
use crate::nbd::error::{Fault, Said};
use crate::nbd::numbers as n;
use crate::nbd::stream::Stream;
use crate::nbd::tls::ClientTls;
use std::time::{Duration, Instant};

/// Longest reply to an option, in bytes: two strings and some numbers.
const REPLY_BYTES_MAX: u32 = 64 << 10;
/// The most replies to one option.
const REPLIES_MAX: usize = 1000;
/// Largest of the smallest blocks, by the protocol.
const SMALLEST_BLOCK_BYTES_MAX: u32 = 64 << 10;

/// What a client wants of a server.
pub(super) struct Wanted<'a> {
    pub(super) export: &'a str,
    pub(super) contexts: &'a [String],
    pub(super) tls: Option<&'a ClientTls>,
    pub(super) limit: Duration,
}

/// What an export is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ExportInfo {
    pub(super) size_bytes: u64,
    pub(super) flags: u16,
    /// Every request begins and ends on a multiple of it.
    pub(super) block_bytes: u32,
    /// The most that is read or written at once.
    pub(super) request_bytes_max: u32,
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) info: ExportInfo,
    pub(super) is_structured: bool,
    /// Contexts of block status, by the numbers that the server gave them.
    pub(super) contexts: Vec<(u32, String)>,
}

/// Agrees with a server on one export.
pub(super) fn negotiate(
    mut stream: Box<dyn Stream>,
    wanted: &Wanted<'_>,
) -> Result<(Box<dyn Stream>, Terms), Fault> {
    stream.set_deadline(Some(Instant::now() + wanted.limit));
    greet(&mut stream).map_err(|e| e.told("begin", wanted.limit))?;
    if let Some(tls) = wanted.tls {
        stream = start_tls(stream, tls, wanted.limit)?;
    }
    let mut talk = Talk { stream, limit: wanted.limit };
    let is_structured = talk.structured_replies()?;
    let contexts = if is_structured { talk.contexts(wanted)? } else { Vec::new() };
    let info = talk.go(wanted.export)?;
    Ok((talk.stream, Terms { info, is_structured, contexts }))
}

/// An error of the stream, or a breach of the protocol.
enum Broken {
    Stream(std::io::Error),
    Protocol(String),
}

impl From<std::io::Error> for Broken {
    fn from(error: std::io::Error) -> Self {
        Self::Stream(error)
    }
}

impl Broken {
    fn told(self, action: &'static str, limit: Duration) -> Fault {
        match self {
            Self::Stream(error) => Fault::of_stream(error, action, limit),
            Self::Protocol(what) => Fault::Protocol(what),
        }
    }
}

fn greet(stream: &mut Box<dyn Stream>) -> Result<(), Broken> {
    let (magic, style) = (bytes::u64_from(stream)?, bytes::u64_from(stream)?);
    if magic != n::INIT_MAGIC {
        return Err(Broken::Protocol("it does not begin as an NBD server does".into()));
    }
    if style != n::OPTION_MAGIC {
        return Err(Broken::Protocol("it speaks only the old style of the protocol".into()));
    }
    let flags = bytes::u16_from(stream)?;
    if flags & n::FIXED_NEWSTYLE == 0 {
        return Err(Broken::Protocol("it does not know the fixed new style".into()));
    }
    let known = u32::from(flags & (n::FIXED_NEWSTYLE | n::NO_ZEROES));
    stream.write_all(&known.to_be_bytes())?;
    Ok(stream.flush()?)
}

fn start_tls(
    stream: Box<dyn Stream>,
    tls: &ClientTls,
    limit: Duration,
) -> Result<Box<dyn Stream>, Fault> {
    let mut talk = Talk { stream, limit };
    match talk.ask(n::OPT_STARTTLS, &[], "begin TLS", |_, _| Err(unexpected("STARTTLS")))? {
        Answer::Yes => {}
        Answer::No(_, said) => return Err(Fault::TlsMissing(said)),
    }
    tls.begin(talk.stream).map_err(|e| Fault::of_stream(e, "begin TLS", limit))
}

enum Answer {
    Yes,
    No(u32, Said),
}

fn unexpected(option: &str) -> Fault {
    Fault::protocol(format!("it answers {option} with what does not belong there"))
}

/// Options, and what is said to them.
struct Talk {
    stream: Box<dyn Stream>,
    limit: Duration,
}

impl Talk {
    /// Sends an option, and gives every reply before the last to `each`.
    fn ask(
        &mut self,
        option: u32,
        data: &[u8],
        action: &'static str,
        mut each: impl FnMut(u32, &[u8]) -> Result<(), Fault>,
    ) -> Result<Answer, Fault> {
        let limit = self.limit;
        self.send(option, data).map_err(|e| e.told(action, limit))?;
        for _ in 0..REPLIES_MAX {
            let (kind, payload) = self.reply(option).map_err(|e| e.told(action, limit))?;
            match kind {
                n::REP_ACK if payload.is_empty() => return Ok(Answer::Yes),
                n::REP_ACK => return Err(Fault::protocol("it agrees with more than that")),
                n::REP_ERR_TLS_REQD => return Err(Fault::TlsNeeded),
                n::REP_ERR_SHUTDOWN => return Err(Fault::ShuttingDown),
                _ if kind & n::REP_ERROR != 0 => {
                    return Ok(Answer::No(kind, Said::new(&payload)));
                }
                _ => each(kind, &payload)?,
            }
        }
        Err(Fault::protocol(format!("it gives more than {REPLIES_MAX} replies to one option")))
    }

    fn send(&mut self, option: u32, data: &[u8]) -> Result<(), Broken> {
        let mut message = Vec::with_capacity(16 + data.len());
        message.extend(n::OPTION_MAGIC.to_be_bytes());
        message.extend(option.to_be_bytes());
        message.extend((data.len() as u32).to_be_bytes());
        message.extend(data);
        self.stream.write_all(&message)?;
        Ok(self.stream.flush()?)
    }

    fn reply(&mut self, option: u32) -> Result<(u32, Vec<u8>), Broken> {
        let header = bytes::vector(&mut self.stream, 20)?;
        let mut fields = Fields(&header);
        let (Some(magic), Some(to), Some(kind), Some(len)) =
            (fields.u64(), fields.u32(), fields.u32(), fields.u32())
        else {
            return Err(Broken::Protocol("a reply is too short".into()));
        };
        if magic != n::OPTION_REPLY_MAGIC {
            return Err(Broken::Protocol("what should be a reply to an option is none".into()));
        }
        if to != option {
            let what = format!("it replies to option {to}, option {option} was sent");
            return Err(Broken::Protocol(what));
        }
        if len > REPLY_BYTES_MAX {
            let what = format!("its reply has {len} bytes, the most is {REPLY_BYTES_MAX}");
            return Err(Broken::Protocol(what));
        }
        Ok((kind, bytes::vector(&mut self.stream, len as usize)?))
    }

    fn structured_replies(&mut self) -> Result<bool, Fault> {
        let action = "give structured replies";
        let none = |_, _: &[u8]| Err(unexpected("STRUCTURED_REPLY"));
        match self.ask(n::OPT_STRUCTURED_REPLY, &[], action, none)? {
            Answer::Yes => Ok(true),
            Answer::No(..) => Ok(false),
        }
    }

    /// Those of the wanted contexts that the server has.
    fn contexts(&mut self, wanted: &Wanted<'_>) -> Result<Vec<(u32, String)>, Fault> {
        let mut data = Vec::new();
        put_string(&mut data, wanted.export);
        data.extend((wanted.contexts.len() as u32).to_be_bytes());
        wanted.contexts.iter().for_each(|name| put_string(&mut data, name));
        let mut found: Vec<(u32, String)> = Vec::new();
        let action = "give block status";
        let answer = self.ask(n::OPT_SET_META_CONTEXT, &data, action, |kind, payload| {
            let mut fields = Fields(payload);
            let (n::REP_META_CONTEXT, Some(id)) = (kind, fields.u32()) else {
                return Err(unexpected("SET_META_CONTEXT"));
            };
            let name = String::from_utf8_lossy(fields.0).into_owned();
            if !wanted.contexts.contains(&name) {
                let name = Said::new(name.as_bytes());
                return Err(Fault::protocol(format!("it offers a context nobody asked for{name}")));
            }
            if found.iter().any(|(other, known)| *other == id || *known == name) {
                return Err(Fault::protocol("it offers a context, or its number, twice"));
            }
            found.push((id, name));
            Ok(())
        })?;
        match answer {
            Answer::Yes => Ok(found),
            // What the export is, and whether there is one, the next option tells.
            Answer::No(..) => Ok(Vec::new()),
        }
    }

    /// Leaves the handshake for the export.
    fn go(&mut self, export: &str) -> Result<ExportInfo, Fault> {
        let mut data = Vec::new();
        put_string(&mut data, export);
        data.extend(1_u16.to_be_bytes());
        data.extend(n::INFO_BLOCK_SIZE.to_be_bytes());
        let mut told = Told::default();
        let action = "export it";
        let answer = self.ask(n::OPT_GO, &data, action, |kind, payload| match kind {
            n::REP_INFO => told.hear(payload),
            _ => Err(unexpected("GO")),
        })?;
        match answer {
            Answer::Yes => told.checked(),
            Answer::No(n::REP_ERR_UNKNOWN, said) => Err(Fault::UnknownExport(said)),
            Answer::No(_, said) => Err(Fault::Refused { action, said }),
        }
    }
}

/// What a server tells of an export, as it comes.
#[derive(Default)]
struct Told {
    export: Option<(u64, u16)>,
    blocks: Option<(u32, u32, u32)>,
}

impl Told {
    fn hear(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let mut fields = Fields(payload);
        let bad = || Fault::protocol("what it tells of the export has the wrong length");
        let is_repeated = match fields.u16().ok_or_else(bad)? {
            n::INFO_EXPORT => {
                let (size, flags) = fields.u64().zip(fields.u16()).ok_or_else(bad)?;
                self.export.replace((size, flags)).is_some()
            }
            n::INFO_BLOCK_SIZE => {
                let (least, best) = fields.u32().zip(fields.u32()).ok_or_else(bad)?;
                self.blocks.replace((least, best, fields.u32().ok_or_else(bad)?)).is_some()
            }
            // Other information, such as a description, is for people.
            _ => return Ok(()),
        };
        if !fields.0.is_empty() {
            return Err(bad());
        }
        if is_repeated { Err(Fault::protocol("it tells the same twice")) } else { Ok(()) }
    }

    fn checked(self) -> Result<ExportInfo, Fault> {
        let (size_bytes, flags) =
            self.export.ok_or_else(|| Fault::protocol("it does not tell the size"))?;
        if flags & n::HAS_FLAGS == 0 {
            return Err(Fault::protocol("the flags of the export say that they are none"));
        }
        if i64::try_from(size_bytes).is_err() {
            return Err(Fault::protocol(format!("an export of {size_bytes} bytes cannot be")));
        }
        let (block_bytes, most) = match self.blocks {
            None => (1, n::REQUEST_BYTES_MAX),
            Some((least, best, most)) => {
                check_blocks(least, best, most)?;
                (least, most)
            }
        };
        if !size_bytes.is_multiple_of(u64::from(block_bytes)) {
            let what = format!("{size_bytes} bytes are no whole blocks of {block_bytes}");
            return Err(Fault::Protocol(what));
        }
        let request_bytes_max = most.min(n::REQUEST_BYTES_MAX) / block_bytes * block_bytes;
        Ok(ExportInfo { size_bytes, flags, block_bytes, request_bytes_max })
    }
}

fn check_blocks(least: u32, best: u32, most: u32) -> Result<(), Fault> {
    let is_good = least.is_power_of_two()
        && least <= SMALLEST_BLOCK_BYTES_MAX
        && best.is_power_of_two()
        && best >= least
        && most >= best
        && (most == u32::MAX || most.is_multiple_of(least));
    if is_good {
        Ok(())
    } else {
        let what = format!("blocks of {least} bytes at least, {best} at best, {most} at most");
        Err(Fault::Protocol(format!("{what} contradict each other")))
    }
}
