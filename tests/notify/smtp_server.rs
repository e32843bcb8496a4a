//! An SMTP server (RFC 5321) with STARTTLS, TLS from the first byte, and logins, that does what it
//! is told to.

use crate::stream::Stream;
use rustls::ServerConfig;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How the server takes a connection.
#[derive(Debug, Clone, Default)]
pub struct Manner {
    /// TLS from the first byte.
    pub tls: bool,
    /// STARTTLS is offered.
    pub start_tls: bool,
    /// What follows the answer to STARTTLS in the same packet, unencrypted.
    pub injected: &'static str,
    /// Who may log in, as `AUTH PLAIN` has it.
    pub login: Option<&'static str>,
    /// A greeting without an end, without a line's end.
    pub endless: bool,
    /// Nothing is said at all.
    pub silent: bool,
}

/// A mail that was taken.
#[derive(Debug, Clone, Default)]
pub struct Mail {
    pub encrypted: bool,
    pub login: Option<String>,
    pub from: String,
    pub to: Vec<String>,
    pub text: String,
}

#[derive(Default)]
struct Shared {
    mails: Vec<Mail>,
    /// Answers to mails instead of taking them.
    refusals: VecDeque<&'static str>,
    /// All that clients said unencrypted.
    overheard: String,
    connections: usize,
}

pub struct SmtpServer {
    pub port: u16,
    shared: Arc<Mutex<Shared>>,
}

impl SmtpServer {
    pub fn start(tls: Option<Arc<ServerConfig>>, manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let known = Arc::clone(&shared);
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let (shared, manner, tls) = (Arc::clone(&known), manner.clone(), tls.clone());
                shared.lock().unwrap().connections += 1;
                let tcp = tcp.unwrap();
                // A client that leaves is no fault of the server's.
                std::thread::spawn(move || drop(converse(tcp, tls, &manner, &shared)));
            }
        });
        Self { port, shared }
    }

    pub fn refuse_next(&self, answers: impl IntoIterator<Item = &'static str>) {
        self.shared.lock().unwrap().refusals.extend(answers);
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.shared.lock().unwrap().mails.clone()
    }

    pub fn overheard(&self) -> String {
        self.shared.lock().unwrap().overheard.clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.lock().unwrap().connections
    }
}

fn say(stream: &mut Stream, line: &str) -> io::Result<()> {
    stream.write_all(format!("{line}\r\n").as_bytes())?;
    stream.flush()
}

fn greet(stream: &mut Stream, manner: &Manner) -> io::Result<()> {
    if manner.silent {
        return stream.line().map(drop);
    }
    if manner.endless {
        loop {
            stream.write_all(&[b'2'; 4096])?;
        }
    }
    say(stream, "220 mail.example.org ESMTP")
}

fn converse(
    tcp: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    manner: &Manner,
    shared: &Mutex<Shared>,
) -> io::Result<()> {
    let mut stream = match &tls {
        Some(tls) if manner.tls => Stream::encrypted(tcp, tls),
        _ => Stream::Plain(tcp),
    };
    greet(&mut stream, manner)?;
    let mut mail = Mail::default();
    loop {
        let line = stream.line()?;
        if !stream.is_encrypted() {
            shared.lock().unwrap().overheard += &format!("{line}\n");
        }
        let word = line.split([' ', ':']).next().unwrap_or("").to_uppercase();
        match word.as_str() {
            "EHLO" => {
                say(&mut stream, "250-mail.example.org")?;
                if manner.start_tls && !stream.is_encrypted() {
                    say(&mut stream, "250-STARTTLS")?;
                }
                if manner.login.is_some() {
                    say(&mut stream, "250-AUTH PLAIN LOGIN")?;
                }
                say(&mut stream, "250 8BITMIME")?;
            }
            "STARTTLS" => {
                let Stream::Plain(mut tcp) = stream else { return Ok(()) };
                tcp.write_all(format!("220 go on\r\n{}", manner.injected).as_bytes())?;
                stream = Stream::encrypted(tcp, tls.as_ref().unwrap());
            }
            "AUTH" => {
                let given = line.strip_prefix("AUTH PLAIN ").unwrap_or("");
                if manner.login == Some(given) {
                    mail.login = Some(given.to_owned());
                    say(&mut stream, "235 welcome")?;
                } else {
                    say(&mut stream, &format!("535 you are not {given}"))?;
                }
            }
            "MAIL" => {
                mail.from = line;
                say(&mut stream, "250 fine")?;
            }
            "RCPT" if line.contains("nobody") => say(&mut stream, "550 no such user")?,
            "RCPT" => {
                mail.to.push(line);
                say(&mut stream, "250 fine")?;
            }
            "DATA" => {
                say(&mut stream, "354 go on")?;
                mail.text = content(&mut stream)?;
                mail.encrypted = stream.is_encrypted();
                let refusal = shared.lock().unwrap().refusals.pop_front();
                if refusal.is_none() {
                    shared.lock().unwrap().mails.push(mail.clone());
                }
                say(&mut stream, refusal.unwrap_or("250 taken"))?;
            }
            "QUIT" => {
                say(&mut stream, "221 bye")?;
                return Ok(());
            }
            _ => say(&mut stream, "500 what?")?,
        }
    }
}

fn content(stream: &mut Stream) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let line = stream.line()?;
        match line.strip_prefix('.') {
            Some("") => return Ok(text),
            Some(rest) => text += &format!("{rest}\n"),
            None => text += &format!("{line}\n"),
        }
    }
}
