//! Conversations of the NBD client with the server, as they were heard.

use super::{Seeds, seed};
use crate::targets::nbd::{exports, use_client};
use afterimage::nbd::{Limits, Stream, serve_stream};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// Writes down what it reads.
struct Recorder {
    stream: UnixStream,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Read for Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.stream.read(buffer)?;
        self.heard.lock().unwrap().extend(&buffer[..len]);
        Ok(len)
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Recorder {
    fn set_deadline(&mut self, _: Option<Instant>) {}
}

/// What the server said, and what the client said.
fn conversation() -> (Vec<u8>, Vec<u8>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let said = [Arc::default(), Arc::default()];
    let recorder = |stream, at: usize| Box::new(Recorder { stream, heard: Arc::clone(&said[at]) });
    let (client, server) = (recorder(ours, 0), recorder(theirs, 1));
    std::thread::scope(|scope| {
        scope.spawn(move || serve_stream(&exports(), &Limits::default(), server).unwrap());
        use_client(client).unwrap();
    });
    let [by_server, by_client] = said.map(|said| said.lock().unwrap().clone());
    (by_server, by_client)
}

/// What a server says.
pub fn of_servers() -> Seeds {
    vec![seed("session", &conversation().0)]
}

/// What clients say: a whole session, and a look around.
pub fn of_clients() -> Seeds {
    let mut look = b"\0\0\0\x03".to_vec();
    let mut option = |number: u8, data: &[u8]| {
        look.extend(b"IHAVEOPT\0\0\0");
        look.push(number);
        look.extend((data.len() as u32).to_be_bytes());
        look.extend(data);
    };
    option(3, b"");
    option(6, b"\0\0\0\x04disk\0\x01\0\x03");
    option(8, b"");
    option(9, b"\0\0\0\x04disk\0\0\0\x01\0\0\0\x05base:");
    option(5, b"");
    option(2, b"");
    vec![seed("session", &conversation().1), seed("look", &look)]
}
