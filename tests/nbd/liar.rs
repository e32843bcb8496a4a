//! A server that says whatever a test wants.

use afterimage::nbd::{Address, Client, NbdError, Options};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

pub const SIZE_BYTES: u64 = 1 << 20;
/// What begins a reply to an option.
pub const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
pub const ACK: u32 = 1;
pub const INFO: u32 = 3;
pub const META_CONTEXT: u32 = 4;
pub const UNSUPPORTED: u32 = (1 << 31) + 1;
pub const GO: u32 = 7;
pub const STRUCTURED_REPLY: u32 = 8;
pub const SET_META_CONTEXT: u32 = 10;

/// What a client asked for, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub cookie: u64,
}

/// What a scripted server does after its greeting.
pub type Script = Box<dyn FnOnce(UnixStream) + Send>;

/// A server that follows a script with its first client, and then hears no more.
pub struct Liar {
    pub address: Address,
    thread: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Liar {
    pub fn new(script: Script) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("liar.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            script(stream);
        });
        let address = Address::unix(Path::new(&path), "disk").unwrap();
        Self { address, thread: Some(thread), _folder: folder }
    }

    /// Connects with limits of one second.
    pub fn connect(&self) -> Result<Client, NbdError> {
        let second = Duration::from_secs(1);
        let options = Options {
            connect_time_max: second,
            request_time_max: second,
            flush_time_max: second,
            contexts: vec!["qemu:dirty-bitmap:a".into()],
            ..Options::default()
        };
        Client::connect(&self.address, &options)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        // Its client is gone, or was told enough: the script has ended or ends now.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Sends, whether somebody hears it or not.
pub fn say(stream: &mut UnixStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Waits until the client is gone, for as long as it takes.
pub fn wait_for_end(stream: &mut UnixStream) {
    let mut sink = [0; 4096];
    while stream.read(&mut sink).is_ok_and(|len| len > 0) {}
}

pub fn greet(stream: &mut UnixStream) {
    let mut greeting = b"NBDMAGICIHAVEOPT".to_vec();
    greeting.extend([0, 3]);
    say(stream, &greeting);
    let mut flags = [0; 4];
    let _ = stream.read_exact(&mut flags);
}

/// The next option; `None`: the client is gone.
pub fn option(stream: &mut UnixStream) -> Option<u32> {
    let mut head = [0; 16];
    stream.read_exact(&mut head).ok()?;
    let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    let mut data = vec![0; number(12) as usize];
    stream.read_exact(&mut data).ok()?;
    Some(number(8))
}

pub fn option_reply(option: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let mut reply = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    for number in [option, kind, payload.len() as u32] {
        reply.extend(number.to_be_bytes());
    }
    reply.extend(payload);
    reply
}

/// What tells of the export.
pub fn export_info(size_bytes: u64, flags: u16) -> Vec<u8> {
    let mut payload = vec![0, 0];
    payload.extend(size_bytes.to_be_bytes());
    payload.extend(flags.to_be_bytes());
    option_reply(GO, INFO, &payload)
}

/// Contexts 7, `base:allocation`, and 9, a dirty bitmap.
pub fn contexts() -> Vec<u8> {
    let mut replies = Vec::new();
    for (id, name) in [(7, "base:allocation"), (9, "qemu:dirty-bitmap:a")] {
        let mut payload = u32::to_be_bytes(id).to_vec();
        payload.extend(name.as_bytes());
        replies.extend(option_reply(SET_META_CONTEXT, META_CONTEXT, &payload));
    }
    replies
}

/// An honest handshake for an export of [`SIZE_BYTES`].
pub fn agree(stream: &mut UnixStream, is_structured: bool) {
    greet(stream);
    while let Some(option) = option(stream) {
        let mut reply = match option {
            SET_META_CONTEXT => contexts(),
            GO => export_info(SIZE_BYTES, 0b0110_1101),
            _ => Vec::new(),
        };
        let refuses = !is_structured && option == STRUCTURED_REPLY;
        reply.extend(option_reply(option, if refuses { UNSUPPORTED } else { ACK }, &[]));
        say(stream, &reply);
        if option == GO {
            return;
        }
    }
}

/// The next request; data of a write is taken and forgotten.
pub fn request(stream: &mut UnixStream) -> Option<Asked> {
    let mut head = [0; 28];
    stream.read_exact(&mut head).ok()?;
    let command = u16::from_be_bytes(head[6..8].try_into().unwrap());
    let cookie = u64::from_be_bytes(head[8..16].try_into().unwrap());
    let len = u32::from_be_bytes(head[24..28].try_into().unwrap());
    if command == 1 {
        stream.read_exact(&mut vec![0; len as usize]).ok()?;
    }
    Some(Asked { cookie })
}

/// A simple reply.
pub fn simple(cookie: u64, code: u32) -> Vec<u8> {
    let mut reply = 0x6744_6698_u32.to_be_bytes().to_vec();
    reply.extend(code.to_be_bytes());
    reply.extend(cookie.to_be_bytes());
    reply
}

/// A chunk with a length of its own choice.
pub fn chunk_of(cookie: u64, flags: u16, kind: u16, len: u32, payload: &[u8]) -> Vec<u8> {
    let mut reply = 0x668e_33ef_u32.to_be_bytes().to_vec();
    reply.extend(flags.to_be_bytes());
    reply.extend(kind.to_be_bytes());
    reply.extend(cookie.to_be_bytes());
    reply.extend(len.to_be_bytes());
    reply.extend(payload);
    reply
}

/// A chunk; the last when `flags` is 1.
pub fn chunk(cookie: u64, flags: u16, kind: u16, payload: &[u8]) -> Vec<u8> {
    chunk_of(cookie, flags, kind, payload.len() as u32, payload)
}

/// A chunk of data.
pub fn data(asked: &Asked, flags: u16, offset: u64, bytes: &[u8]) -> Vec<u8> {
    let mut payload = offset.to_be_bytes().to_vec();
    payload.extend(bytes);
    chunk(asked.cookie, flags, 1, &payload)
}

/// A chunk that is a hole.
pub fn hole(asked: &Asked, flags: u16, offset: u64, len: u32) -> Vec<u8> {
    let mut payload = offset.to_be_bytes().to_vec();
    payload.extend(len.to_be_bytes());
    chunk(asked.cookie, flags, 2, &payload)
}

/// A chunk of block status: pairs of length and state.
pub fn status(asked: &Asked, flags: u16, id: u32, list: &[(u32, u32)]) -> Vec<u8> {
    let mut payload = id.to_be_bytes().to_vec();
    for (len, state) in list {
        payload.extend(len.to_be_bytes());
        payload.extend(state.to_be_bytes());
    }
    chunk(asked.cookie, flags, 5, &payload)
}

/// A chunk that is an error.
pub fn error(asked: &Asked, flags: u16, code: u32, said: &[u8]) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend((said.len() as u16).to_be_bytes());
    payload.extend(said);
    chunk(asked.cookie, flags, 0x8001, &payload)
}
