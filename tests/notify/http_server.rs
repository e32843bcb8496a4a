//! An HTTP server that answers what it is told to.

use crate::stream::Stream;
use rustls::ServerConfig;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How the server answers.
#[derive(Debug, Clone)]
pub enum Answer {
    Status(u16),
    Redirect(String),
    /// Nothing at all.
    Silence,
    /// A status, then a body without end.
    EndlessBody(u16),
    /// Headers without end.
    EndlessHeaders,
    /// A part of the status line.
    ClosesEarly,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Received {
    pub line: String,
    /// By their names in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Received {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn title(&self) -> String {
        self.json()["title"].as_str().unwrap().to_owned()
    }
}

#[derive(Default)]
struct Shared {
    connections: usize,
    received: Vec<Received>,
    next: VecDeque<Answer>,
    always: Option<Answer>,
}

/// The server. Its threads end with their connections, the last with the process.
pub struct HttpServer {
    pub port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl HttpServer {
    pub fn start(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let known = Arc::clone(&shared);
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let (tcp, tls, shared) = (tcp.unwrap(), tls.clone(), Arc::clone(&known));
                shared.lock().unwrap().connections += 1;
                // A client that leaves is no fault of the server's.
                std::thread::spawn(move || drop(serve(tcp, tls.as_ref(), &shared)));
            }
        });
        Self { port, shared }
    }

    /// How all requests are answered for which nothing else was said.
    pub fn always(&self, answer: Answer) {
        self.shared.lock().unwrap().always = Some(answer);
    }

    /// How the next requests are answered.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.lock().unwrap().next.extend(answers);
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.lock().unwrap().received.clone()
    }

    pub fn titles(&self) -> Vec<String> {
        self.received().iter().map(Received::title).collect()
    }

    pub fn connections(&self) -> usize {
        self.shared.lock().unwrap().connections
    }
}

fn serve(
    tcp: TcpStream,
    tls: Option<&Arc<ServerConfig>>,
    shared: &Mutex<Shared>,
) -> io::Result<()> {
    let mut stream = match tls {
        Some(tls) => Stream::encrypted(tcp, tls),
        None => Stream::Plain(tcp),
    };
    let line = stream.line()?;
    let mut headers = BTreeMap::new();
    loop {
        let header = stream.line()?;
        let Some((name, value)) = header.split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    stream.read_exact(&mut body)?;
    let answer = {
        let mut shared = shared.lock().unwrap();
        shared.received.push(Received { line, headers, body });
        let always = shared.always.clone();
        shared.next.pop_front().or(always).unwrap_or(Answer::Status(200))
    };
    match answer {
        Answer::Status(status) => {
            write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n")?;
        }
        Answer::Redirect(to) => {
            write!(stream, "HTTP/1.1 307 X\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")?;
        }
        Answer::Silence => {}
        Answer::EndlessBody(status) => {
            write!(stream, "HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            loop {
                write!(stream, "400\r\n{}\r\n", "x".repeat(1024))?;
            }
        }
        Answer::EndlessHeaders => {
            write!(stream, "HTTP/1.1 200 X\r\n")?;
            loop {
                write!(stream, "X-More: {}\r\n", "x".repeat(1000))?;
            }
        }
        Answer::ClosesEarly => {
            write!(stream, "HTTP/1.1 2")?;
            stream.flush()?;
            return Ok(());
        }
    }
    stream.flush()?;
    // Until the client leaves.
    let mut rest = [0];
    while stream.read(&mut rest)? > 0 {}
    Ok(())
}
