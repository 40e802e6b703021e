//! The race in virtual time. Addresses are called by family and letter: `6a` is `2001:db8::a`, `4b` is `192.0.2.11`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::Family;

use super::*;

pub(super) const SETTINGS: Settings = Settings {
    family: Family::PreferIpv6,
    attempt_delay: Duration::from_millis(250),
    resolution_delay: Duration::from_millis(50),
    attempt_timeout: Duration::from_secs(15),
    tls_grace: (Duration::from_millis(500), Duration::from_secs(2)),
    max_parallel: 6,
    spacing: Duration::from_millis(10),
    cycle: Duration::from_secs(90),
    is_proxied: false,
};

pub(super) fn ms(millis: u64) -> At {
    Duration::from_millis(millis)
}

pub(super) fn address(label: &str) -> (IpVersion, Address) {
    let (family, letter) = label.split_at(1);
    let number = u16::from_str_radix(letter, 16).unwrap();
    let (version, ip) = match family {
        "6" => (
            IpVersion::V6,
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number).into(),
        ),
        _ => (
            IpVersion::V4,
            Ipv4Addr::new(192, 0, 2, u8::try_from(number).unwrap()).into(),
        ),
    };
    (version, Address::Ip(SocketAddr::new(ip, 6697)))
}

fn label(address: &Address) -> String {
    match address {
        Address::Ip(SocketAddr::V6(v6)) => format!("6{:x}", v6.ip().segments()[7]),
        Address::Ip(SocketAddr::V4(v4)) => format!("4{:x}", v4.ip().octets()[3]),
        Address::Unix(path) => path.display().to_string(),
    }
}

/// Plays a race: timers go off by themselves, and what the race orders is written down with its time.
pub(super) struct Sim {
    pub(super) race: Race,
    timer: Option<At>,
    /// The attempts under way.
    pub(super) ids: BTreeMap<String, AttemptId>,
    log: Vec<String>,
}

impl Sim {
    pub(super) fn new(settings: Settings, servers: usize) -> Self {
        let mut sim = Self {
            race: Race::new(settings, servers),
            timer: None,
            ids: BTreeMap::new(),
            log: Vec::new(),
        };
        sim.feed(ms(0), Input::Begin);
        sim.log.clear();
        sim
    }

    /// A race over one server with the usual settings.
    pub(super) fn usual() -> Self {
        Self::new(SETTINGS, 1)
    }

    fn feed(&mut self, now: At, input: Input) {
        for output in self.race.step(now, input) {
            let said = match output {
                Output::Resolve { server, version } => format!("resolve {server} {version}"),
                Output::Start { id, address, .. } => {
                    let label = label(&address);
                    self.ids.insert(label.clone(), id);
                    format!("start {label}")
                }
                Output::Cancel(id, why) => format!("cancel {} {why:?}", self.name(id)),
                Output::Winner(id) => format!("winner {}", self.name(id)),
                Output::Exhausted(fault) => {
                    self.timer = None;
                    format!("exhausted {}", fault.text)
                }
                Output::ArmTimer(at) => {
                    assert!(
                        at > now || self.race.settings.cycle <= now,
                        "a timer in the past spins"
                    );
                    self.timer = Some(at);
                    continue;
                }
            };
            if said.starts_with("winner") {
                self.timer = None;
            }
            self.log.push(format!("{} {said}", now.as_millis()));
        }
    }

    fn name(&self, id: AttemptId) -> String {
        self.ids
            .iter()
            .find(|(_, known)| **known == id)
            .unwrap()
            .0
            .clone()
    }

    /// Lets time pass up to but not including `until`.
    fn run(&mut self, until: At) {
        while let Some(at) = self.timer.filter(|at| *at < until) {
            self.timer = None;
            self.feed(at, Input::Timer);
        }
    }

    pub(super) fn at(mut self, millis: u64, input: Input) -> Self {
        self.run(ms(millis));
        self.feed(ms(millis), input);
        self
    }

    /// Addresses of one family arrive; none at all is a negative answer.
    pub(super) fn answer(self, millis: u64, version: IpVersion, labels: &str) -> Self {
        self.answer_of(0, millis, version, labels)
    }

    pub(super) fn answer_of(
        self,
        server: usize,
        millis: u64,
        version: IpVersion,
        labels: &str,
    ) -> Self {
        let list: Vec<_> = labels
            .split_whitespace()
            .map(|label| address(label).1)
            .collect();
        let result = match list.is_empty() {
            true => Err(Fault::new(
                FaultKind::NoAddress,
                format!("no {version} address"),
            )),
            false => Ok(list),
        };
        self.at(
            millis,
            Input::Answer {
                server,
                version,
                result,
            },
        )
    }

    pub(super) fn aaaa(self, millis: u64, labels: &str) -> Self {
        self.answer(millis, IpVersion::V6, labels)
    }

    pub(super) fn a(self, millis: u64, labels: &str) -> Self {
        self.answer(millis, IpVersion::V4, labels)
    }

    pub(super) fn up(self, millis: u64, label: &str) -> Self {
        let sim = self.ran_to(millis);
        let id = sim.ids[label];
        sim.at(millis, Input::TcpUp(id))
    }

    pub(super) fn ready(self, millis: u64, label: &str) -> Self {
        let sim = self.ran_to(millis);
        let id = sim.ids[label];
        sim.at(millis, Input::Ready(id))
    }

    pub(super) fn failed(self, millis: u64, label: &str, kind: FaultKind) -> Self {
        let sim = self.ran_to(millis);
        let id = sim.ids[label];
        sim.at(
            millis,
            Input::Failed(id, Fault::new(kind, format!("{label} {kind:?}"))),
        )
    }

    pub(super) fn rejected(self, millis: u64) -> Self {
        self.at(
            millis,
            Input::Rejected(Fault::new(FaultKind::Silent, "said nothing")),
        )
    }

    pub(super) fn ran_to(mut self, millis: u64) -> Self {
        self.run(ms(millis));
        self
    }

    /// What was ordered until then, but for look-ups.
    pub(super) fn until(self, millis: u64) -> Vec<String> {
        let mut sim = self.ran_to(millis + 1);
        sim.log.retain(|line| !line.contains("resolve"));
        sim.log
    }
}

#[test]
fn a1_ipv6_starts_at_once_and_ipv4_after_the_attempt_delay() {
    let log = Sim::usual().aaaa(10, "6a").a(12, "4a").until(1000);
    assert_eq!(log, ["10 start 6a", "260 start 4a"]);
}

#[test]
fn a2_an_ipv6_answer_within_the_resolution_delay_goes_first() {
    let log = Sim::usual().a(10, "4a").aaaa(40, "6a").until(1000);
    assert_eq!(log, ["40 start 6a", "290 start 4a"]);
}

#[test]
fn a3_ipv4_waits_no_longer_than_the_resolution_delay() {
    let log = Sim::usual().a(10, "4a 4b").aaaa(200, "6a").until(1000);
    assert_eq!(log, ["60 start 4a", "310 start 6a", "560 start 4b"]);
}

#[test]
fn a4_a_negative_ipv6_answer_ends_the_waiting() {
    assert_eq!(
        Sim::usual().a(10, "4a").aaaa(20, "").until(1000),
        ["20 start 4a"]
    );
}

#[test]
fn a5_ipv6_never_waits_for_ipv4() {
    assert_eq!(Sim::usual().aaaa(10, "6a").until(1000), ["10 start 6a"]);
}

#[test]
fn a6_two_negative_answers_end_it_at_once_with_the_better_error() {
    let failed = Err(Fault::new(FaultKind::Lookup, "server failure"));
    let answer = Input::Answer {
        server: 0,
        version: IpVersion::V4,
        result: failed,
    };
    let log = Sim::usual().aaaa(10, "").at(12, answer).until(1000);
    assert_eq!(log, ["12 exhausted server failure"]);
}

#[test]
fn a7_a_refusal_starts_the_next_without_the_delay() {
    let log = Sim::usual()
        .aaaa(0, "6a")
        .a(0, "4a")
        .failed(5, "6a", FaultKind::Refused)
        .until(1000);
    assert_eq!(
        log,
        ["0 start 6a", "10 start 4a"],
        "10 ms lie between two starts"
    );
}

#[test]
fn a8_families_alternate_and_a_seventh_attempt_waits() {
    let log = Sim::usual()
        .aaaa(0, "6a 6b 6c 6d 6e")
        .a(0, "4a 4b")
        .until(15_000);
    let expected = [
        "0 start 6a",
        "250 start 4a",
        "500 start 6b",
        "750 start 4b",
        "1000 start 6c",
        "1250 start 6d",
        "15000 cancel 6a TimedOut",
        "15000 start 6e",
    ];
    assert_eq!(log, expected);
}

#[test]
fn a9_a_tls_handshake_gets_its_grace_and_then_ipv4_may_win() {
    let log = Sim::usual()
        .aaaa(0, "6a")
        .a(0, "4a")
        .up(100, "6a")
        .ready(800, "4a")
        .until(2000);
    // Four times 100 ms and 250 ms on top.
    assert_eq!(
        log,
        [
            "0 start 6a",
            "750 start 4a",
            "800 cancel 6a Outrun",
            "800 winner 4a"
        ]
    );
}

#[test]
fn a10_a_late_tcp_answer_moves_the_timer() {
    let log = Sim::usual()
        .aaaa(0, "6a")
        .a(0, "4a")
        .up(240, "6a")
        .until(1449);
    assert_eq!(log, ["0 start 6a"]);
    let log = Sim::usual()
        .aaaa(0, "6a")
        .a(0, "4a")
        .up(240, "6a")
        .until(1450);
    assert_eq!(log, ["0 start 6a", "1450 start 4a"]);
}

#[test]
fn a11_the_first_that_is_ready_wins_and_ends_the_others() {
    let sim = Sim::usual()
        .aaaa(0, "6a")
        .a(0, "4a")
        .up(260, "6a")
        .ready(300, "4a");
    let expected = [
        "0 start 6a",
        "250 start 4a",
        "300 cancel 6a Outrun",
        "300 winner 4a",
    ];
    assert_eq!(sim.until(60_000), expected);
}

#[test]
fn a12_a_certificate_error_is_the_one_that_is_reported() {
    let sim = Sim::usual()
        .aaaa(0, "6a")
        .a(0, "4a")
        .failed(20, "6a", FaultKind::Certificate);
    let log = sim.failed(40, "4a", FaultKind::Refused).until(1000);
    assert_eq!(
        log,
        ["0 start 6a", "20 start 4a", "40 exhausted 6a Certificate"]
    );
}

#[test]
fn a13_a_silent_winner_is_left_for_the_other_family_and_never_tried_again() {
    let sim = Sim::usual()
        .aaaa(0, "6a 6b")
        .a(5, "4a")
        .ready(20, "6a")
        .rejected(10_020);
    let log = sim
        .failed(10_050, "4a", FaultKind::Refused)
        .ready(10_100, "6b")
        .until(20_000);
    let expected = [
        "0 start 6a",
        "20 winner 6a",
        "10020 start 4a",
        "10050 start 6b",
        "10100 winner 6b",
    ];
    assert_eq!(log, expected);
}

#[test]
fn whoever_was_outrun_is_tried_again_when_the_winner_is_silent() {
    let sim = Sim::usual()
        .aaaa(0, "6a")
        .a(0, "4a")
        .up(10, "6a")
        .ready(800, "4a")
        .rejected(10_800);
    let log = sim.ready(10_900, "6a").rejected(20_900).until(20_900);
    let expected = [
        "0 start 6a",
        "510 start 4a",
        "800 cancel 6a Outrun",
        "800 winner 4a",
        "10800 start 6a",
        "10900 winner 6a",
        "20900 exhausted said nothing",
    ];
    assert_eq!(log, expected);
}

#[test]
fn an_address_that_proved_silent_is_not_entered_again_by_a_later_server() {
    let sim = Sim::new(SETTINGS, 2)
        .aaaa(0, "6a")
        .a(0, "")
        .ready(20, "6a")
        .rejected(1000);
    let log = sim
        .answer_of(1, 1001, IpVersion::V6, "6a 6b")
        .answer_of(1, 1001, IpVersion::V4, "")
        .until(2000);
    assert_eq!(log, ["0 start 6a", "20 winner 6a", "1001 start 6b"]);
}

#[test]
fn the_next_server_comes_when_all_of_the_first_has_failed() {
    let sim = Sim::new(SETTINGS, 2)
        .aaaa(0, "6a")
        .a(0, "4a")
        .failed(20, "6a", FaultKind::Refused);
    let mut sim = sim.failed(40, "4a", FaultKind::Refused);
    assert_eq!(sim.log[2..], ["40 resolve 1 IPv6", "40 resolve 1 IPv4"]);
    sim = sim
        .answer_of(1, 50, IpVersion::V6, "6b")
        .answer_of(1, 50, IpVersion::V4, "");
    let log = sim.failed(60, "6b", FaultKind::NoRoute).until(100);
    assert_eq!(
        log,
        [
            "0 start 6a",
            "20 start 4a",
            "50 start 6b",
            "60 exhausted 6a Refused"
        ]
    );
}

#[test]
fn a_server_that_swallows_everything_gets_its_share_of_the_cycle_alone() {
    let sim = Sim::new(SETTINGS, 3);
    let settings = Settings {
        attempt_timeout: Duration::from_secs(60),
        ..SETTINGS
    };
    let slow = Sim::new(settings, 3).aaaa(0, "6a").a(0, "").ran_to(40_000);
    assert_eq!(
        slow.log[1..],
        ["30000 resolve 1 IPv6", "30000 resolve 1 IPv4"]
    );
    let log = slow
        .answer_of(1, 40_000, IpVersion::V6, "6b")
        .answer_of(1, 40_000, IpVersion::V4, "")
        .ready(40_100, "6b")
        .until(90_000);
    let expected = [
        "0 start 6a",
        "40000 start 6b",
        "40100 cancel 6a Outrun",
        "40100 winner 6b",
    ];
    assert_eq!(log, expected);
    assert!(
        sim.until(29_999).is_empty(),
        "a name server that swallows everything gets it too"
    );
}

#[test]
fn the_cycle_ends_whatever_is_under_way() {
    let settings = Settings {
        attempt_timeout: Duration::MAX,
        ..SETTINGS
    };
    let log = Sim::new(settings, 1).aaaa(0, "6a").a(0, "").until(200_000);
    let expected = [
        "0 start 6a",
        "90000 cancel 6a CycleOver",
        "90000 exhausted no IPv4 address",
    ];
    assert_eq!(log, expected);
}

#[test]
fn an_attempt_that_takes_too_long_says_how_far_it_got() {
    let log = Sim::usual()
        .aaaa(0, "6a")
        .a(0, "")
        .up(10, "6a")
        .until(15_000);
    let text = "15000 exhausted [2001:db8::a]:6697: no TLS answer within 15s (path MTU?)";
    assert_eq!(log, ["0 start 6a", "15000 cancel 6a TimedOut", text]);
}

#[test]
fn preference_for_ipv4_turns_everything_round() {
    let settings = Settings {
        family: Family::PreferIpv4,
        ..SETTINGS
    };
    let log = Sim::new(settings, 1).aaaa(0, "6a").a(40, "4a").until(1000);
    assert_eq!(log, ["40 start 4a", "290 start 6a"]);
    let log = Sim::new(settings, 1).aaaa(0, "6a").until(1000);
    assert_eq!(log, ["50 start 6a"]);
}

#[test]
fn one_family_alone_is_never_asked_for_the_other() {
    for (family, version, name) in [
        (Family::Ipv6, IpVersion::V6, "6a"),
        (Family::Ipv4, IpVersion::V4, "4a"),
    ] {
        let settings = Settings { family, ..SETTINGS };
        let mut race = Race::new(settings, 1);
        let asked = race.step(ms(0), Input::Begin);
        assert_eq!(asked[0], Output::Resolve { server: 0, version });
        assert!(matches!(asked[1..], [Output::ArmTimer(_)]), "{asked:?}");
        let sim = Sim::new(settings, 1).answer(10, version, name);
        let log = sim.failed(20, name, FaultKind::Refused).until(1000);
        assert_eq!(log[1], format!("20 exhausted {name} Refused"));
    }
}

#[test]
fn the_same_address_twice_is_tried_once() {
    let log = Sim::usual().aaaa(0, "6a 6a").a(0, "").until(1000);
    assert_eq!(log, ["0 start 6a"]);
}

#[test]
fn no_server_at_all_ends_at_once() {
    let mut race = Race::new(SETTINGS, 0);
    assert!(matches!(
        race.step(ms(0), Input::Begin)[..],
        [Output::Exhausted(_)]
    ));
}
