//! Who is at the other end, and what they may do.

use crate::catalog::{Scope, Token};
use crate::units::Name;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// A process of this host, over the unix socket.
    Socket {
        /// Its user.
        uid: u32,
        /// Whether that is root or the daemon's own user.
        is_trusted: bool,
    },
    /// Over TCP.
    Tcp {
        /// Its address.
        address: SocketAddr,
        /// Whether the daemon listens at a loopback address.
        is_loopback: bool,
    },
}

/// What counts as one address: who has an IPv6 network has 2^64 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum AddressKey {
    Uid(u32),
    Ip(IpAddr),
}

impl Peer {
    pub fn key(&self) -> AddressKey {
        match self {
            Self::Socket { uid, .. } => AddressKey::Uid(*uid),
            Self::Tcp { address, .. } => AddressKey::Ip(match address.ip().to_canonical() {
                IpAddr::V6(ip) => {
                    let network = ip.to_bits() >> 64 << 64;
                    IpAddr::V6(Ipv6Addr::from_bits(network))
                }
                ip => ip,
            }),
        }
    }

    /// As the audit log calls it.
    pub fn text(&self) -> String {
        match self {
            Self::Socket { uid, .. } => format!("socket, uid {uid}"),
            Self::Tcp { address, .. } => address.ip().to_canonical().to_string(),
        }
    }
}

/// Who asks, once that is known.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// As the audit log calls them: `token:NAME` or `uid:N`.
    pub who: String,
    /// From where.
    pub peer: Peer,
    /// Their token; `None`: root or the daemon's own user, who may do everything.
    pub token: Option<Token>,
}

impl Caller {
    pub fn may(&self, scope: Scope) -> bool {
        self.token.as_ref().is_none_or(|token| token.may(scope))
    }

    /// Whether their token is for some machines only.
    pub fn is_restricted(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.grant.machines.is_some())
    }

    /// Whether they may see and change what is of this machine; `None`: of no machine.
    pub fn reaches(&self, machine: Option<&str>) -> bool {
        let Some(machines) = self.token.as_ref().and_then(|it| it.grant.machines.as_ref()) else {
            return true;
        };
        machine.is_some_and(|machine| machines.iter().any(|own| own.as_str() == machine))
    }

    /// As [`Caller::reaches`].
    pub fn sees(&self, machine: Option<&Name>) -> bool {
        self.reaches(machine.map(Name::as_str))
    }
}
