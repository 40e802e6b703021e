//! Where connections come from: the address of each family that the configuration gives a user, or the system's choice.
//! Fail closed: a family without an address of its own is not used once one is named, and no failure leads to another
//! address. Binding is `attempt`'s.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::fault::{Fault, FaultKind};
use super::peer::{IpVersion, is_loopback};
use crate::config::{Dial, Source, SourceKind, Sources};

/// The block of SHA-256, for HMAC.
const BLOCK: usize = 64;

/// The secret behind the addresses of users out of a prefix: without it nobody can tell whose address is whose.
#[derive(Clone)]
pub struct SourceKey(Arc<[u8; 32]>);

impl SourceKey {
    /// Reads the key from the data folder; makes it when it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("source.key");
        match fs::File::open(&path) {
            Ok(mut file) => {
                let mut key = [0; 32];
                file.read_exact(&mut key)?;
                Ok(Self::new(key))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(&path),
            Err(error) => Err(error),
        }
    }

    /// A key of these bytes.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Arc::new(key))
    }

    /// Writes it beside its place and moves it there, so that it is whole or not there.
    fn make(path: &Path) -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        let beside = path.with_extension("key.new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        Ok(Self::new(key))
    }

    /// HMAC-SHA-256 (RFC 2104).
    fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let pad = |with: u8| {
            let mut block = [with; BLOCK];
            block
                .iter_mut()
                .zip(*self.0)
                .for_each(|(byte, key)| *byte ^= key);
            block
        };
        let mut inner = Sha256::new().chain_update(pad(0x36));
        for part in parts {
            inner.update(part);
        }
        let outer = Sha256::new()
            .chain_update(pad(0x5c))
            .chain_update(inner.finalize());
        outer.finalize().into()
    }

    /// The address of a user out of a prefix: always the same, and nobody else's as far as there is room.
    fn address(&self, prefix: IpAddr, length: u8, user: &str) -> IpAddr {
        let mut round = 0;
        loop {
            let octets = match prefix {
                IpAddr::V6(ip) => ip.octets().to_vec(),
                IpAddr::V4(ip) => ip.octets().to_vec(),
            };
            let mac = self.mac(&[&octets, &[length, round], user.as_bytes()]);
            let bits = mac
                .iter()
                .take(16)
                .fold(0, |bits, byte| bits << 8 | u128::from(*byte));
            match host(prefix, length, bits) {
                Some(address) => return address,
                None => round = round.wrapping_add(1),
            }
        }
    }
}

/// The host of a prefix that these bits lead to; not one that stands for a router or for all hosts.
fn host(prefix: IpAddr, length: u8, bits: u128) -> Option<IpAddr> {
    match prefix {
        IpAddr::V6(prefix) => {
            let mask = u128::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            let host = bits & mask;
            // RFC 4291 section 2.6.1 and RFC 2526: the lowest and the highest 128 are anycast addresses.
            let is_free = host != 0 && host < mask - 128;
            is_free.then(|| Ipv6Addr::from(u128::from(prefix) | host).into())
        }
        IpAddr::V4(prefix) => {
            let mask = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            // Without the lowest, the network, and the highest, its broadcast address.
            let host = 1 + bits % u128::from(mask.max(2) - 1);
            Some(Ipv4Addr::from(u32::from(prefix) | host as u32).into())
        }
    }
}

/// What a socket is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Whatever the system takes.
    Any,
    /// This address and no other.
    Only(IpAddr),
    /// The family is not used, for this reason.
    Never(&'static str),
}

/// Where the connections of one network come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origins {
    v6: Bind,
    v4: Bind,
    /// Which of the host's own addresses the system takes.
    pub kind: SourceKind,
    /// Whether an address is bound that no interface has.
    pub freebind: bool,
}

impl Origins {
    /// What the configuration gives a user.
    pub fn of(dial: &Dial, user: &str, key: Option<&SourceKey>) -> Self {
        Self {
            v6: bind(dial.source, IpVersion::V6, user, key),
            v4: bind(dial.source, IpVersion::V4, user, key),
            kind: dial.source_kind,
            freebind: dial.freebind,
        }
    }

    /// What a socket of this family is bound to.
    pub fn bind(&self, version: IpVersion) -> &Bind {
        match version {
            IpVersion::V6 => &self.v6,
            IpVersion::V4 => &self.v4,
        }
    }

    /// The address that a destination is reached from; `None`: there is no way.
    pub fn toward(&self, addr: SocketAddr, routes: &dyn Routes) -> Option<IpAddr> {
        match self.bind(IpVersion::of(addr.ip())) {
            Bind::Any => routes.source(addr),
            Bind::Only(ip) => Some(*ip),
            Bind::Never(_) => None,
        }
    }

    /// The address to bind for a destination, if any; or why it must not be dialled.
    pub(super) fn check(&self, addr: SocketAddr) -> Result<Option<IpAddr>, Fault> {
        match self.bind(IpVersion::of(addr.ip())) {
            Bind::Any => Ok(None),
            Bind::Only(ip) if is_loopback(*ip) && !is_loopback(addr.ip()) => Err(Fault::new(
                FaultKind::Source,
                format!(
                    "the source address {ip} is loopback, and nothing else can be reached from it"
                ),
            )),
            Bind::Only(ip) => Ok(Some(*ip)),
            Bind::Never(why) => Err(Fault::new(FaultKind::Source, *why)),
        }
    }
}

fn bind(sources: Sources, version: IpVersion, user: &str, key: Option<&SourceKey>) -> Bind {
    let source = match version {
        IpVersion::V6 => sources.v6,
        IpVersion::V4 => sources.v4,
    };
    match (source, key) {
        (None, _) if sources.is_empty() => Bind::Any,
        (None, _) => Bind::Never("source names no address of this family"),
        (Some(Source::Address(ip)), _) => Bind::Only(ip),
        (Some(Source::Prefix(ip, length)), Some(key)) => Bind::Only(key.address(ip, length, user)),
        (Some(Source::Prefix(..)), None) => {
            Bind::Never("there is no key for addresses out of a prefix")
        }
    }
}

/// What the host knows of the way to an address.
pub trait Routes: Send + Sync {
    /// The address that the system would come from; `None`: there is no way.
    fn source(&self, to: SocketAddr) -> Option<IpAddr>;
}

/// The routes of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostRoutes;

impl Routes for HostRoutes {
    /// A UDP socket is connected, which sends nothing.
    fn source(&self, mut to: SocketAddr) -> Option<IpAddr> {
        if to.port() == 0 {
            to.set_port(9);
        }
        let any: IpAddr = match to {
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).ok()?;
        socket.connect(to).ok()?;
        Some(socket.local_addr().ok()?.ip())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    fn key() -> SourceKey {
        SourceKey::new([7; 32])
    }

    fn dial(sources: &[&str]) -> Dial {
        let mut dial = Dial::default();
        for text in sources {
            let source = Source::parse(text).unwrap();
            match source {
                Source::Address(IpAddr::V6(_)) | Source::Prefix(IpAddr::V6(_), _) => {
                    dial.source.v6 = Some(source);
                }
                _ => dial.source.v4 = Some(source),
            }
        }
        dial
    }

    fn from(sources: &[&str], user: &str, to: &str) -> Result<Option<IpAddr>, FaultKind> {
        let to = SocketAddr::new(to.parse().unwrap(), 6697);
        let origins = Origins::of(&dial(sources), user, Some(&key()));
        origins.check(to).map_err(|fault| fault.kind)
    }

    #[test]
    fn the_mac_is_that_of_the_rfc() {
        // RFC 4231 section 4.3 with the key filled up with zeroes, which HMAC does too.
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(b"Jefe");
        let mac = SourceKey::new(bytes).mac(&[b"what do ya want ", b"for nothing?"]);
        assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);
        assert_eq!(mac[28..], [0x64, 0xec, 0x38, 0x43]);
    }

    #[test]
    fn an_address_is_for_its_family_and_the_other_is_not_used() {
        let ip = |text: &str| Ok(Some(text.parse().unwrap()));
        let both = ["2001:db8::7", "192.0.2.7"];
        assert_eq!(from(&both, "apw", "2001:db8::1"), ip("2001:db8::7"));
        assert_eq!(from(&both, "apw", "192.0.2.1"), ip("192.0.2.7"));
        assert_eq!(from(&both, "apw", "::ffff:192.0.2.1"), ip("192.0.2.7"));
        assert_eq!(from(&both[..1], "apw", "192.0.2.1"), Err(FaultKind::Source));
        assert_eq!(
            from(&both[1..], "apw", "2001:db8::1"),
            Err(FaultKind::Source)
        );
        assert_eq!(from(&[], "apw", "192.0.2.1"), Ok(None));
        assert_eq!(from(&["::1"], "apw", "2001:db8::1"), Err(FaultKind::Source));
        assert_eq!(from(&["::1"], "apw", "::1"), ip("::1"));
    }

    #[test]
    fn each_user_has_one_address_out_of_a_prefix() {
        let of = |prefix: &str, user: &str| from(&[prefix], user, "2001:db8::1").unwrap().unwrap();
        let prefix = "2001:db8:bb::/64";
        assert_eq!(of(prefix, "apw"), of(prefix, "apw"));
        let users: Vec<String> = (0..1000).map(|n| format!("user{n}")).collect();
        let all: BTreeSet<IpAddr> = users.iter().map(|user| of(prefix, user)).collect();
        assert_eq!(all.len(), users.len());
        let other_key = Origins::of(&dial(&[prefix]), "apw", Some(&SourceKey::new([8; 32])));
        assert_ne!(
            other_key.bind(IpVersion::V6),
            &Bind::Only(of(prefix, "apw"))
        );
        let none = Origins::of(&dial(&[prefix]), "apw", None);
        assert!(matches!(none.bind(IpVersion::V6), Bind::Never(_)));
    }

    #[test]
    fn the_ends_of_a_prefix_are_nobodys() {
        let prefix = "192.0.2.8".parse().unwrap();
        let hosts: BTreeSet<_> = (0..100).filter_map(|bits| host(prefix, 30, bits)).collect();
        let expected = ["192.0.2.9", "192.0.2.10"].map(|ip| ip.parse().unwrap());
        assert_eq!(hosts, BTreeSet::from(expected));
        let prefix = "2001:db8::".parse().unwrap();
        assert_eq!(host(prefix, 64, 1 << 64), None);
        assert_eq!(host(prefix, 64, u128::MAX), None);
        assert_eq!(host(prefix, 64, 7), Some("2001:db8::7".parse().unwrap()));
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let made = SourceKey::open(folder.path()).unwrap();
        let path = folder.path().join("source.key");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(SourceKey::open(folder.path()).unwrap().0, made.0);
        fs::write(&path, "short").unwrap();
        assert!(
            SourceKey::open(folder.path()).is_err(),
            "never a new one in its place"
        );
    }

    #[test]
    fn the_host_knows_the_way_to_itself() {
        let to = "127.0.0.1:6697".parse().unwrap();
        assert_eq!(HostRoutes.source(to), Some("127.0.0.1".parse().unwrap()));
    }

    fn source() -> impl Strategy<Value = Option<Source>> {
        let v6 = (any::<u128>(), 16..=80_u8).prop_map(|(bits, length)| {
            Source::Prefix(
                Ipv6Addr::from(bits & u128::MAX << (128 - length)).into(),
                length,
            )
        });
        prop_oneof![
            Just(None),
            any::<u128>().prop_map(|bits| Some(Source::Address(Ipv6Addr::from(bits).into()))),
            v6.prop_map(Some),
        ]
    }

    fn source_v4() -> impl Strategy<Value = Option<Source>> {
        let prefix = (any::<u32>(), 8..=30_u8).prop_map(|(bits, length)| {
            Source::Prefix(
                Ipv4Addr::from(bits & u32::MAX << (32 - length)).into(),
                length,
            )
        });
        prop_oneof![
            Just(None),
            any::<u32>().prop_map(|bits| Some(Source::Address(Ipv4Addr::from(bits).into()))),
            prefix.prop_map(Some),
        ]
    }

    proptest! {
        #[test]
        fn never_a_source_of_the_wrong_kind(v6 in source(), v4 in source_v4(), user in "[a-z]{1,8}", to: u128, low: u32, is_v6: bool) {
            let sources = Sources { v6, v4 };
            let dial = Dial { source: sources, ..Dial::default() };
            let origins = Origins::of(&dial, &user, Some(&key()));
            let to: IpAddr = if is_v6 { Ipv6Addr::from(to).into() } else { Ipv4Addr::from(low).into() };
            let named = if to.to_canonical().is_ipv6() { v6 } else { v4 };
            match (origins.check(SocketAddr::new(to, 6697)), named) {
                (Ok(None), _) => prop_assert!(sources.is_empty()),
                (Ok(Some(from)), Some(Source::Address(ip))) => prop_assert_eq!(from, ip),
                (Ok(Some(IpAddr::V6(from))), Some(Source::Prefix(IpAddr::V6(prefix), length))) => {
                    prop_assert_eq!(u128::from(from) & u128::MAX << (128 - length), u128::from(prefix));
                }
                (Ok(Some(IpAddr::V4(from))), Some(Source::Prefix(IpAddr::V4(prefix), length))) => {
                    prop_assert_eq!(u32::from(from) & u32::MAX << (32 - length), u32::from(prefix));
                }
                (Ok(from), _) => prop_assert!(false, "{from:?} out of nowhere"),
                (Err(fault), _) => prop_assert_eq!(fault.kind, FaultKind::Source),
            }
        }
    }
}
