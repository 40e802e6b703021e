//! From a server's name to addresses in the order they are worth trying: look-up, source addresses, RFC 6724, and IPv4
//! through a translator where this host has IPv6 alone. When each is tried is `race`'s.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::time::Instant;

use super::fault::{Address, Fault, FaultKind};
use super::health::Follow;
use super::nat64::Translator;
use super::order::{self, Destination};
use super::peer::IpVersion;
use super::resolve::{self, Resolve, ResolveError};
use super::source::{Bind, Origins, Routes};

/// One family of one server.
pub(super) struct Lookup {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) routes: Arc<dyn Routes>,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) version: IpVersion,
    pub(super) origins: Origins,
    /// Where IPv6 may be used for IPv4 hosts.
    pub(super) translator: Option<Translator>,
    /// Somebody else is finding out which family works.
    pub(super) follow: Option<Follow>,
}

/// What came of it.
pub(super) struct Found {
    /// The addresses, the best first.
    pub(super) result: Result<Vec<Address>, Fault>,
    /// Whether even the best is worth less than one of the other family.
    pub(super) is_weak: bool,
    /// How long the name servers took.
    pub(super) millis: u64,
}

impl Lookup {
    pub(super) async fn run(mut self) -> Found {
        let follow = self.follow.take();
        let news = async {
            if let Some(follow) = follow {
                follow.wait().await;
            }
        };
        tokio::join!(self.find(), news).0
    }

    async fn find(&self) -> Found {
        let since = Instant::now();
        let answer = resolve::addresses(&*self.resolver, &self.host, self.version).await;
        let millis = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let list = match answer {
            Ok(list) => self.translated(resolve::shuffled(list)).await,
            Err(error) => {
                return Found {
                    result: Err(fault(&error)),
                    is_weak: false,
                    millis,
                };
            }
        };
        let mut list: Vec<_> = list
            .into_iter()
            .map(|addr| self.destination(addr))
            .collect();
        order::sort(&mut list);
        Found {
            // Who names an address to come from has decided what is good enough.
            is_weak: *self.origins.bind(self.version) == Bind::Any
                && list.first().is_some_and(order::is_weak),
            result: Ok(list.into_iter().map(|to| Address::Ip(to.addr)).collect()),
            millis,
        }
    }

    fn destination(&self, mut addr: SocketAddr) -> Destination {
        addr.set_port(self.port);
        Destination {
            addr,
            source: self.origins.toward(addr, &*self.routes),
        }
    }

    /// IPv4 addresses as the translator's, when no way leads to any of them and there is a translator.
    async fn translated(&self, list: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let Some(translator) = &self.translator else {
            return list;
        };
        let is_ours =
            self.version == IpVersion::V4 && *self.origins.bind(IpVersion::V4) == Bind::Any;
        if !is_ours || list.iter().any(|addr| self.routes.source(*addr).is_some()) {
            return list;
        }
        let Some(prefix) = translator.prefix(&*self.resolver).await else {
            return list;
        };
        let embed = |addr: SocketAddr| match addr.ip() {
            IpAddr::V4(v4) => prefix
                .embed(v4)
                .map_or(addr, |v6| SocketAddr::new(v6.into(), 0)),
            IpAddr::V6(_) => addr,
        };
        list.into_iter().map(embed).collect()
    }
}

fn fault(error: &ResolveError) -> Fault {
    let kind = match error {
        ResolveError::NoAddress { .. } => FaultKind::NoAddress,
        _ => FaultKind::Lookup,
    };
    Fault::new(kind, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::health::{Health, Role};
    use super::super::resolve::Fixed;
    use super::*;
    use crate::config::Dial;

    /// A host with these addresses and ways to all of their families.
    struct From(&'static [&'static str]);

    impl Routes for From {
        fn source(&self, to: SocketAddr) -> Option<IpAddr> {
            let all = self.0.iter().map(|ip| ip.parse::<IpAddr>().unwrap());
            all.into_iter().find(|ip| ip.is_ipv6() == to.is_ipv6())
        }
    }

    fn lookup(version: IpVersion, here: &'static [&'static str], names: Fixed) -> Lookup {
        Lookup {
            resolver: Arc::new(names),
            routes: Arc::new(From(here)),
            host: "irc.test".to_owned(),
            port: 6697,
            version,
            origins: Origins::of(&Dial::default(), "apw", None),
            translator: Some(Translator::default()),
            follow: None,
        }
    }

    fn names(addresses: &[&str]) -> Fixed {
        let parsed: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Fixed::default().with("irc.test", &parsed)
    }

    fn with_translator(names: Fixed) -> Fixed {
        names.with("ipv4only.arpa", &["64:ff9b::192.0.0.170".parse().unwrap()])
    }

    async fn found(lookup: Lookup) -> (Vec<String>, bool) {
        let found = lookup.run().await;
        let list = found.result.unwrap();
        (
            list.iter().map(ToString::to_string).collect(),
            found.is_weak,
        )
    }

    #[tokio::test]
    async fn a18_local_addresses_of_another_site_are_last_and_weak() {
        let names = names(&["fd00:1::1", "2001:db8::1"]);
        let (list, is_weak) = found(lookup(IpVersion::V6, &["2001:db8::2"], names.clone())).await;
        assert_eq!(list, ["[2001:db8::1]:6697", "[fd00:1::1]:6697"]);
        assert!(!is_weak);
        let (list, _) = found(lookup(IpVersion::V6, &["fd00:1::2"], names)).await;
        assert_eq!(list, ["[fd00:1::1]:6697", "[2001:db8::1]:6697"]);
    }

    #[tokio::test]
    async fn a19_ipv4_goes_through_the_translator_when_there_is_no_other_way() {
        let v4 = || with_translator(names(&["192.0.2.33"]));
        let (list, is_weak) = found(lookup(IpVersion::V4, &["2001:db8::2"], v4())).await;
        assert_eq!(list, ["[64:ff9b::c000:221]:6697"]);
        assert!(!is_weak);
        let here = &["2001:db8::2", "198.51.100.7"];
        let (list, _) = found(lookup(IpVersion::V4, here, v4())).await;
        assert_eq!(list, ["192.0.2.33:6697"], "the other way is better");
        let (list, is_weak) = found(lookup(
            IpVersion::V4,
            &["2001:db8::2"],
            names(&["192.0.2.33"]),
        ))
        .await;
        assert_eq!(
            list,
            ["192.0.2.33:6697"],
            "without a translator nothing is made up"
        );
        assert!(is_weak);
        let (list, _) = found(lookup(
            IpVersion::V4,
            &[],
            with_translator(names(&["127.0.0.1"])),
        ))
        .await;
        assert_eq!(list, ["127.0.0.1:6697"]);
        let wanted = Lookup {
            translator: None,
            ..lookup(IpVersion::V4, &["2001:db8::2"], v4())
        };
        assert_eq!(
            found(wanted).await.0,
            ["192.0.2.33:6697"],
            "IPv4 alone is IPv4"
        );
    }

    #[tokio::test]
    async fn literals_are_translated_too() {
        let literal = Lookup {
            host: "192.0.2.33".to_owned(),
            ..lookup(
                IpVersion::V4,
                &["2001:db8::2"],
                with_translator(Fixed::default()),
            )
        };
        assert_eq!(found(literal).await.0, ["[64:ff9b::c000:221]:6697"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_follows_waits_for_news_beside_the_look_up() {
        let (health, now) = (Health::default(), Instant::now());
        let _lead = health.enter("irc.test", IpVersion::V6, now);
        let Role::Follower(follow) = health.enter("irc.test", IpVersion::V6, now) else {
            panic!("a second one leads")
        };
        let late = Duration::from_millis(700);
        let names = names(&["2001:db8::1"]).late("irc.test", IpVersion::V6, late);
        let lookup = Lookup {
            follow: Some(follow),
            ..lookup(IpVersion::V6, &["2001:db8::2"], names)
        };
        assert_eq!(lookup.run().await.millis, 700);
        assert_eq!(now.elapsed(), Duration::from_secs(1));
    }
}
