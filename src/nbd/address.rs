//! Where an export is: `nbd://host:port/export`, `nbd+unix:///export?socket=/path`, and with TLS
//! `nbds://` and `nbds+unix://`. Source: `doc/uri.md` of the NBD project.

use super::numbers::{DEFAULT_PORT, STRING_BYTES_MAX};
use std::ffi::OsString;
use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Longest path of a socket that Linux takes, without the byte that ends it.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why a text is no address of an export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of an NBD export: {why}")]
pub struct AddressError {
    /// What was given.
    pub text: String,
    /// What is wrong with it, and what to write instead.
    pub why: String,
}

/// What a server listens on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// A name, or an IP address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A unix socket.
    Unix {
        /// Its absolute path.
        path: PathBuf,
    },
}

impl Transport {
    /// Whether it stays on this host: a unix socket, `localhost` or a loopback address.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            Self::Tcp { host, .. } => match host.parse::<IpAddr>() {
                Ok(address) => address.is_loopback(),
                Err(_) => host.eq_ignore_ascii_case("localhost"),
            },
        }
    }
}

/// An export: where its server listens, and its name there.
///
/// Invariant: without TLS only where the transport is local.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    transport: Transport,
    is_tls: bool,
    export: String,
}

impl Address {
    /// The export `name` (empty: the server's default) of a server on this host, on a unix socket.
    ///
    /// # Errors
    /// When the path is relative or too long, or the name is too long or has a zero byte.
    pub fn unix(socket: &Path, name: &str) -> Result<Self, AddressError> {
        let transport = Transport::Unix { path: socket.to_owned() };
        Self::new(transport, false, name)
    }

    /// The export `name` (empty: the server's default) of a server.
    ///
    /// # Errors
    /// When it is on another host without TLS, or the name or a path is no good.
    pub fn new(transport: Transport, is_tls: bool, name: &str) -> Result<Self, AddressError> {
        let text = format!("{name} at {transport:?}");
        Self::checked(transport, is_tls, name.to_owned()).map_err(|why| AddressError { text, why })
    }

    /// How the server is reached.
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Whether the connection is encrypted, and the server proves who it is.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// Name of the export; empty: the server's default.
    pub fn export(&self) -> &str {
        &self.export
    }

    fn checked(transport: Transport, is_tls: bool, export: String) -> Result<Self, String> {
        if export.len() > STRING_BYTES_MAX || export.contains('\0') {
            return Err(format!(
                "the name of an export has at most {STRING_BYTES_MAX} bytes, none of them zero"
            ));
        }
        match &transport {
            Transport::Unix { path } => check_socket(path)?,
            Transport::Tcp { host, port } if !is_tls && !transport.is_local() => {
                return Err(format!(
                    "{host} is another host, and without TLS anyone on the way can read and change \
                     the disk; let the server offer TLS and write nbds://{host}:{port}/…, or reach \
                     it by a tunnel that ends on this host",
                ));
            }
            Transport::Tcp { .. } => {}
        }
        Ok(Self { transport, is_tls, export })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or_else(|| usage("it has no scheme"))?;
        if rest.contains('#') {
            return Err("a fragment (#…) means nothing here; write # in a name as %23".into());
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let export = text_of(path, "the export's name")?;
        let (is_tls, is_unix) = match scheme {
            "nbd" => (false, false),
            "nbds" => (true, false),
            "nbd+unix" => (false, true),
            "nbds+unix" => (true, true),
            _ => return Err(usage(&format!("its scheme {scheme:?} is unknown"))),
        };
        let socket = socket_of(query)?;
        let transport = match (is_unix, socket) {
            (true, Some(path)) if authority.is_empty() => Transport::Unix { path },
            (true, Some(_)) => {
                return Err(format!(
                    "a unix socket has no host: write {scheme}:///… with 3 slashes"
                ));
            }
            (true, None) => return Err("it names no socket: add ?socket=/path".into()),
            (false, Some(_)) => {
                return Err(format!("a socket belongs to the scheme {scheme}+unix"));
            }
            (false, None) => tcp_of(authority)?,
        };
        Self::checked(transport, is_tls, export)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text).map_err(|why| AddressError { text: text.to_owned(), why })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.is_tls { "s" } else { "" };
        let export = encoded(self.export.as_bytes());
        match &self.transport {
            Transport::Unix { path } => {
                let socket = encoded(path.as_os_str().as_bytes());
                write!(f, "nbd{tls}+unix:///{export}?socket={socket}")
            }
            Transport::Tcp { host, port } => {
                let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
                match *port {
                    DEFAULT_PORT => write!(f, "nbd{tls}://{host}/{export}"),
                    port => write!(f, "nbd{tls}://{host}:{port}/{export}"),
                }
            }
        }
    }
}

fn usage(why: &str) -> String {
    format!(
        "{why}; write nbd+unix:///EXPORT?socket=/PATH or nbds://HOST:PORT/EXPORT (nbd:// only for \
         this host)"
    )
}

fn check_socket(path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().as_bytes();
    if !path.is_absolute() || bytes.contains(&0) {
        Err(format!("the socket's path {} is not absolute; write it from / on", path.display()))
    } else if bytes.len() > SOCKET_PATH_BYTES_MAX {
        Err(format!(
            "the socket's path has {} bytes, Linux takes {SOCKET_PATH_BYTES_MAX}; give a \
            shorter one",
            bytes.len()
        ))
    } else {
        Ok(())
    }
}

fn socket_of(query: &str) -> Result<Option<PathBuf>, String> {
    let mut socket = None;
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        if key != "socket" {
            return Err(format!("{key:?} is no known parameter; `socket` is the only one"));
        }
        let path = PathBuf::from(OsString::from_vec(decoded(value)?));
        if socket.replace(path).is_some() {
            return Err("it names two sockets".into());
        }
    }
    Ok(socket)
}

fn tcp_of(authority: &str) -> Result<Transport, String> {
    if authority.contains('@') {
        return Err("a user name (…@) means nothing here: certificates say who is who".into());
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("its [ is not closed by ]")?;
            if !matches!(host.parse(), Ok(IpAddr::V6(_))) {
                return Err(format!("[{host}] is no IPv6 address"));
            }
            (host.to_owned(), port)
        }
        None => {
            let at = authority.find(':').unwrap_or(authority.len());
            (text_of(&authority[..at], "the host")?, &authority[at..])
        }
    };
    if host.is_empty() {
        return Err(usage("it names no host"));
    }
    let is_good = |c: char| c.is_alphanumeric() || "-._:".contains(c);
    if !host.chars().all(is_good) {
        return Err(format!("{host:?} is no name of a host"));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => DEFAULT_PORT,
        Some("") => DEFAULT_PORT,
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => port,
            _ => {
                return Err(format!(
                    "{digits:?} is no port: 1 to 65535; write an IPv6 address in \
                []"
                ));
            }
        },
        None => return Err(format!("{port:?} behind the address is no port")),
    };
    Ok(Transport::Tcp { host, port })
}

fn text_of(part: &str, what: &str) -> Result<String, String> {
    String::from_utf8(decoded(part)?).map_err(|_| format!("{what} is not UTF-8"))
}

fn decoded(part: &str) -> Result<Vec<u8>, String> {
    let mut bytes = part.bytes();
    let mut decoded = Vec::with_capacity(part.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => decoded.push((high * 16 + low) as u8),
            _ => return Err("a % without two hexadecimal digits; write % as %25".into()),
        }
    }
    Ok(decoded)
}

fn encoded(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Address {
        text.parse().unwrap_or_else(|error: AddressError| panic!("{error}"))
    }

    #[test]
    fn addresses_are_read_and_written_alike() {
        for (text, shown) in [
            ("nbd://localhost", "nbd://localhost/"),
            ("nbd://127.0.0.1:10809/disk", "nbd://127.0.0.1/disk"),
            ("nbd://[::1]:1234//disk", "nbd://[::1]:1234//disk"),
            ("nbds://example.com/hello%20world", "nbds://example.com/hello%20world"),
            ("nbds://example.com:/a", "nbds://example.com/a"),
            ("nbd+unix:///?socket=/run/a", "nbd+unix:///?socket=/run/a"),
            ("nbds+unix:///%C3%A9?socket=%2Fa%3fb", "nbds+unix:///%C3%A9?socket=/a%3Fb"),
        ] {
            let address = parsed(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(parsed(shown), address);
        }
        let address = parsed("nbds+unix:///%C3%A9?socket=%2Fa%3fb");
        assert_eq!(address.export(), "é");
        assert_eq!(address.transport(), &Transport::Unix { path: "/a?b".into() });
        assert!(address.is_tls());
        assert_eq!(
            Address::unix(Path::new("/a b"), "c?"),
            Ok(parsed("nbd+unix:///c%3f?socket=/a b"))
        );
    }

    #[test]
    fn other_hosts_need_tls() {
        for text in [
            "nbd://example.com/a",
            "nbd://10.0.0.1",
            "nbd://[2001:db8::1]/",
            "nbd://localhost.example.com",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.why.contains("nbds://"), "{error}");
        }
        for text in ["nbd://127.1.2.3", "nbd://LOCALHOST/a", "nbds://example.com"] {
            parsed(text);
        }
    }

    #[test]
    fn what_is_no_address_is_told_why() {
        for (text, why) in [
            ("/dev/nbd0", "no scheme"),
            ("http://localhost", "scheme \"http\""),
            ("nbd:///disk", "no host"),
            ("nbd://localhost:0/", "no port"),
            ("nbd://localhost:99999/", "no port"),
            ("nbd://localhost:+1/", "no port"),
            ("nbd://::1/", "no host"),
            ("nbd://[::1/", "not closed"),
            ("nbd://[localhost]/", "no IPv6"),
            ("nbd://[::1]1/", "behind"),
            ("nbd://a@localhost/", "certificates"),
            ("nbd://loc%20alhost/", "name of a host"),
            ("nbd://localhost/a#b", "%23"),
            ("nbd://localhost/%zz", "hexadecimal"),
            ("nbd://localhost/%a", "hexadecimal"),
            ("nbd://localhost/%ff", "UTF-8"),
            ("nbd://localhost/%00", "zero"),
            ("nbd://localhost/?socket=/a", "nbd+unix"),
            ("nbd+unix:///a", "?socket="),
            ("nbd+unix:///a?socket=", "absolute"),
            ("nbd+unix:///a?socket=b", "absolute"),
            ("nbd+unix:///a?socket=/a%00", "absolute"),
            ("nbd+unix:///a?socket=/a&socket=/b", "two"),
            ("nbd+unix:///a?socket=/a&tls-verify-peer=0", "tls-verify-peer"),
            ("nbd+unix://host/a?socket=/a", "3 slashes"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.why.contains(why), "{text}: {error}");
        }
        let long = format!("nbd+unix:///?socket=/{}", "a".repeat(107));
        assert!(long.parse::<Address>().unwrap_err().why.contains("108 bytes"));
    }
}
