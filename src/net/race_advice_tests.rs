//! What a race makes of what is known before it begins, in virtual time. Addresses are called as in `race_tests`.

use super::tests::{SETTINGS, Sim, ms};
use super::*;
use crate::config::{Dial, Family, Source, Sources};

const WEAK_V6: Advice = Advice {
    is_weak: [true, false],
    rtt: [None, None],
};

/// A race over one server of which this is known.
fn advised(advice: Advice) -> Sim {
    let mut sim = Sim::usual();
    sim.race.advise(0, advice);
    sim
}

fn source(text: &str) -> Option<Source> {
    Source::parse(text).ok()
}

#[test]
fn a15_a_family_that_stalled_starts_as_a_probe_when_the_other_is_not_ready() {
    let log = advised(WEAK_V6).aaaa(5, "6a").a(10, "4a").until(1000);
    assert_eq!(log, ["10 start 4a", "260 start 6a"]);
    let log = advised(WEAK_V6).aaaa(5, "6a").a(10, "4a").ready(100, "4a");
    assert_eq!(log.until(1000), ["10 start 4a", "100 winner 4a"]);
    let log = advised(Advice::default()).aaaa(5, "6a").a(10, "4a");
    assert_eq!(log.until(200), ["5 start 6a"], "afterwards as before");
}

#[test]
fn a15_a_family_that_stalled_is_used_when_there_is_no_other() {
    let log = advised(WEAK_V6).aaaa(5, "6a").a(30, "").until(1000);
    assert_eq!(log, ["30 start 6a"]);
    let both = Advice {
        is_weak: [true, true],
        ..WEAK_V6
    };
    let log = advised(both).aaaa(5, "6a").a(10, "4a").until(100);
    assert_eq!(log, ["5 start 6a"], "two bad ones are equally good");
}

#[test]
fn a16_a_turn_that_had_to_be_waited_for_goes_to_what_is_best_by_then() {
    let mut sim = Sim::usual().aaaa(0, "6a").a(0, "4a");
    let id = sim.ids["6a"];
    sim.race.advise(0, WEAK_V6);
    sim = sim.at(5, Input::Again(id));
    assert_eq!(
        sim.until(1000),
        ["0 start 6a", "5 start 4a", "255 start 6a"]
    );
}

#[test]
fn a17_a_source_of_one_family_leaves_the_other_untried() {
    let dial = Dial {
        source: Sources {
            v6: source("2001:db8::7"),
            v4: None,
        },
        ..Dial::default()
    };
    let settings = Settings::from(&dial);
    assert_eq!(settings.versions(), [IpVersion::V6]);
    let log = Sim::new(settings, 1)
        .aaaa(10, "6a")
        .failed(20, "6a", FaultKind::Refused);
    assert_eq!(log.until(1000), ["10 start 6a", "20 exhausted 6a Refused"]);
    let dial = Dial {
        source: Sources {
            v6: None,
            v4: source("192.0.2.7"),
        },
        family: Family::PreferIpv6,
        ..Dial::default()
    };
    assert_eq!(Settings::from(&dial).versions(), [IpVersion::V4]);
}

#[test]
fn a18_addresses_that_are_worth_less_wait_for_the_other_family() {
    let log = advised(WEAK_V6).aaaa(10, "6a").a(200, "4a").until(1000);
    assert_eq!(log, ["60 start 6a", "310 start 4a"]);
    let log = advised(WEAK_V6).aaaa(10, "6a").a(30, "4a").until(1000);
    assert_eq!(log, ["30 start 4a", "280 start 6a"]);
}

#[test]
fn a20_a_host_known_to_be_far_is_given_more_time() {
    for (rtt, delay) in [
        (0, 250),
        (10, 250),
        (100, 250),
        (400, 850),
        (975, 2000),
        (60_000, 2000),
    ] {
        let advice = Advice {
            rtt: [Some(ms(rtt)), None],
            ..Advice::default()
        };
        let log = advised(advice).aaaa(0, "6a").a(0, "4a").until(5000);
        assert_eq!(
            log[..2],
            ["0 start 6a".to_owned(), format!("{delay} start 4a")]
        );
    }
    // It is the distance of the one that was started that counts.
    let advice = Advice {
        rtt: [None, Some(ms(400))],
        ..Advice::default()
    };
    let log = advised(advice).aaaa(0, "6a 6b").a(0, "4a").until(5000);
    assert_eq!(log, ["0 start 6a", "250 start 4a", "1100 start 6b"]);
}

#[test]
fn a20_no_configuration_makes_the_delay_shorter_than_100_ms_or_longer_than_two_seconds() {
    for (configured, used) in [
        (1, 100),
        (100, 100),
        (1500, 1500),
        (2000, 2000),
        (90_000, 2000),
    ] {
        let dial = Dial {
            attempt_delay: ms(configured),
            ..Dial::default()
        };
        let settings = Settings::from(&dial);
        assert_eq!(settings.attempt_delay, ms(used));
        assert!(settings.delay(Some(ms(0))) >= ms(100));
        assert_eq!(settings.delay(Some(ms(60_000))), ms(2000));
    }
}

#[test]
fn through_a_proxy_the_silence_of_one_server_says_nothing_of_another() {
    let settings = Settings {
        is_proxied: true,
        ..SETTINGS
    };
    let sim = Sim::new(settings, 2)
        .aaaa(0, "6a")
        .a(0, "")
        .ready(20, "6a")
        .rejected(1000);
    let log = sim
        .answer_of(1, 1001, IpVersion::V6, "6a")
        .answer_of(1, 1001, IpVersion::V4, "")
        .until(2000);
    assert_eq!(log, ["0 start 6a", "20 winner 6a", "1001 start 6a"]);
}

#[test]
fn what_comes_next_can_be_told() {
    let sim = Sim::new(SETTINGS, 2).aaaa(0, "6a 6b").a(0, "4a").ran_to(1);
    let upcoming = sim.race.upcoming();
    assert_eq!(upcoming.at, Some(ms(250)));
    let labels: Vec<_> = upcoming
        .addresses
        .iter()
        .map(|(_, address)| address.to_string())
        .collect();
    assert_eq!(labels, ["192.0.2.10:6697", "[2001:db8::b]:6697"]);
    assert_eq!(upcoming.servers, 1..2);
    assert_eq!(sim.ready(20, "6a").race.upcoming(), Upcoming::default());
}
