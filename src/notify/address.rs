//! Which addresses may be connected to. The check is made on the addresses that a name resolves to,
//! just before one of them is connected to: a name that means something else a moment later does
//! not help anybody.

use super::DeliveryError;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a connection may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Only to the internet.
    Public,
    /// Anywhere.
    Anywhere,
    /// Only to this host and private networks: what is sent is not encrypted.
    Private,
    /// Only to this host: what is sent is not encrypted.
    ThisHost,
}

impl Reach {
    /// Whether a connection may go to `address`.
    pub fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Public => is_public(address),
            Self::Anywhere => true,
            Self::Private => !is_public(address),
            Self::ThisHost => address.to_canonical().is_loopback(),
        }
    }

    /// The addresses of `host` that may be connected to.
    ///
    /// # Errors
    /// When it has none, or none of them may be.
    pub async fn resolve(self, host: &str, port: u16) -> Result<Vec<SocketAddr>, DeliveryError> {
        let unreachable = |why| DeliveryError::Unreachable { host: host.to_owned(), why };
        let found = tokio::net::lookup_host((host, port))
            .await
            .map_err(|error| unreachable(format!("its name does not resolve: {error}")))?;
        let mut found: Vec<SocketAddr> = found.collect();
        if found.is_empty() {
            return Err(unreachable("its name has no address".to_owned()));
        }
        found.retain(|address| self.allows(address.ip()));
        match (found.is_empty(), self) {
            (false, _) => Ok(found),
            (true, Self::Public) => Err(DeliveryError::Private { host: host.to_owned() }),
            (true, _) => Err(DeliveryError::Unprotected { host: host.to_owned() }),
        }
    }
}

/// Whether an address belongs to the internet, and to nothing else.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Against IANA's registry of special-purpose addresses.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let is_special = matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    );
    !is_special
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Translated to IPv4 (RFC 6052).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        // Carried over IPv4 (6to4).
        [0x2002, high, low, ..] => embedded(high, low),
        // Protocols' own, Teredo among them; and for examples.
        [0x2001, 0..=0x1ff | 0xdb8, ..] => false,
        [0x3fff, 0..=0xfff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_not_of_the_internet_are_known_in_every_disguise() {
        let private = [
            "127.0.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ];
        for text in private {
            let address: IpAddr = text.parse().unwrap();
            assert!(!Reach::Public.allows(address), "{text}");
            assert!(Reach::Private.allows(address), "{text}");
        }
        let public = ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8"];
        for text in public {
            let address: IpAddr = text.parse().unwrap();
            assert!(Reach::Public.allows(address), "{text}");
            assert!(!Reach::Private.allows(address), "{text}");
            assert!(!Reach::ThisHost.allows(address), "{text}");
        }
        assert!(Reach::ThisHost.allows("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!Reach::ThisHost.allows("10.0.0.1".parse().unwrap()));
    }
}
