//! The numbers a race runs by, and what is known of a server before it is dialled. The race itself is `race`'s, what is
//! remembered from one to the next is `health`'s.

use std::time::Duration;

use super::peer::IpVersion;
use crate::config::{Dial, Family};

/// The numbers the race runs by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Which family first, or alone.
    pub family: Family,
    /// RFC 8305 section 5: from one start to the next.
    pub attempt_delay: Duration,
    /// RFC 8305 section 3: how long the preferred family's answer is waited for when the other one is there.
    pub resolution_delay: Duration,
    /// One address, TCP and TLS.
    pub attempt_timeout: Duration,
    /// Least and most that a completed TCP connection moves the next start: TLS may need it.
    pub tls_grace: (Duration, Duration),
    /// Attempts under way at once.
    pub max_parallel: usize,
    /// Least time between two starts, also after a failure.
    pub spacing: Duration,
    /// The whole cycle.
    pub cycle: Duration,
    /// Whether all servers are reached through the addresses of one proxy.
    pub is_proxied: bool,
}

/// The least and the most that may lie between two attempts by configuration or history.
const DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What is known of a server before it is dialled, by family in the order of `IpVersion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Advice {
    /// Better tried after the other family.
    pub is_weak: [bool; 2],
    /// How long TCP usually takes.
    pub rtt: [Option<Duration>; 2],
}

impl From<&Dial> for Settings {
    fn from(dial: &Dial) -> Self {
        Self {
            // What contradicts itself is refused when an address is to be bound.
            family: dial.source.leave(dial.family).unwrap_or(dial.family),
            attempt_delay: dial.attempt_delay.clamp(DELAYS.0, DELAYS.1),
            resolution_delay: dial.resolution_delay,
            attempt_timeout: dial.timeout,
            tls_grace: (Duration::from_millis(500), Duration::from_secs(2)),
            max_parallel: 6,
            spacing: Duration::from_millis(10),
            cycle: Duration::from_secs(90),
            is_proxied: false,
        }
    }
}

impl Settings {
    /// The families to look up, the preferred one first.
    pub(super) fn versions(self) -> &'static [IpVersion] {
        match self.family {
            Family::PreferIpv6 => &[IpVersion::V6, IpVersion::V4],
            Family::PreferIpv4 => &[IpVersion::V4, IpVersion::V6],
            Family::Ipv6 => &[IpVersion::V6],
            Family::Ipv4 => &[IpVersion::V4],
        }
    }

    /// How long TLS may take before the next address is tried beside it, by how long TCP took.
    pub(super) fn grace(&self, rtt: Duration) -> Duration {
        (rtt * 4 + Duration::from_millis(250)).clamp(self.tls_grace.0, self.tls_grace.1)
    }

    /// From the start of an attempt to the next one: when its SYN would be repeated, if that is known.
    pub(super) fn delay(&self, rtt: Option<Duration>) -> Duration {
        let (least, most) = (self.attempt_delay, self.attempt_delay.max(DELAYS.1));
        rtt.map_or(self.attempt_delay, |rtt| {
            (rtt * 2 + Duration::from_millis(50)).clamp(least, most)
        })
    }
}
