//! What a server's parting words mean, and what people are told of an outage. The link itself is shown by the
//! transcripts, the waits are `backoff`'s.

use super::*;
use crate::config;
use crate::history::Remembered;
use crate::state::Settings;

#[test]
fn the_outage_of_a_lobby_or_a_disabled_network_promises_nothing() {
    let text = |network| {
        let settings = Settings {
            network,
            ..Settings::default()
        };
        let network = Network::new(settings, Remembered::default(), 1);
        network.outage_text(Ticks(0))
    };
    let lobby = config::Network::default();
    assert_eq!(
        text(lobby),
        "you are attached to no network: log in as user/network"
    );
    let disabled = config::Network {
        name: "oftc".into(),
        enabled: false,
        servers: vec![config::ServerAddr::parse("ircs://irc.test").unwrap()],
        ..config::Network::default()
    };
    assert_eq!(text(disabled), "oftc: not connected, it is disabled");
}

#[test]
fn parting_words_are_understood() {
    for (text, expected) in [
        ("Closing Link: (Ping timeout)", Verdict::Ordinary),
        (
            "Your host is trying to (re)connect too fast -- throttled",
            Verdict::Throttled,
        ),
        ("Too many connections from your IP", Verdict::Throttled),
        ("You are banned from this server", Verdict::Banned),
        ("Closing Link: x (K-Lined)", Verdict::Banned),
    ] {
        assert_eq!(verdict(text), expected, "{text}");
    }
}
