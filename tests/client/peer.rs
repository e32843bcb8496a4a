//! A peer that says what a test wants it to say.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What a peer was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `GET /v1/status`.
    pub line: String,
    /// The last event that the other side saw.
    pub after: Option<String>,
    pub body: String,
}

/// A peer at a socket in a folder of its own.
pub struct Peer {
    pub folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Peer {
    /// Nobody listens yet.
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), asked: Arc::default() }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("afterimage.sock")
    }

    /// All that was asked for, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    /// Answers each connection with `answer`, until the process ends or the socket is replaced.
    pub fn serve(&self, answer: impl Fn(&Asked, UnixStream) + Send + Sync + 'static) {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (answer, all) = (Arc::new(answer), Arc::clone(&self.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                let (answer, all) = (Arc::clone(&answer), Arc::clone(&all));
                std::thread::spawn(move || {
                    let Some(asked) = read_request(&stream) else { return };
                    all.lock().unwrap().push(asked.clone());
                    answer(&asked, stream);
                });
            }
        });
    }

    /// Answers each connection with these bytes.
    pub fn says(self, answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        self.serve(move |_, mut stream| {
            let _ = stream.write_all(&answer);
        });
        self
    }
}

fn read_request(stream: &UnixStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let field = |name: &str| {
        let found = lines.iter().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        found.map(str::to_owned)
    };
    let length = field("content-length").map_or(0, |text| text.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = lines.first()?.strip_suffix(" HTTP/1.1")?.to_owned();
    let body = String::from_utf8(body).unwrap();
    Some(Asked { line, after: field("last-event-id"), body })
}

/// A whole answer with JSON.
pub fn json(status: u16, body: &serde_json::Value) -> String {
    let body = body.to_string();
    format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The head of a stream of events, which lasts as long as the connection.
pub const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
