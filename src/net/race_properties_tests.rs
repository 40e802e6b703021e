//! Whatever happens, in whatever order: one winner, never too many attempts, and every race ends.

use proptest::prelude::*;

use super::tests::{SETTINGS, address, ms};
use super::*;
use crate::config::{Dial, Family, Source, Sources};
use crate::net::source::{Bind, Origins};

/// What may happen to the attempt that has waited longest, or to the names.
#[derive(Debug, Clone)]
enum Fate {
    Answer(usize, IpVersion, Vec<u8>),
    Up,
    Ready,
    Fail(FaultKind),
    Reject,
    /// The attempt that began last has had to wait for its turn.
    Again,
    /// Something became known of a server.
    Advise(usize, Advice),
    Pass(u64),
}

fn fate() -> impl Strategy<Value = Fate> {
    let version = prop_oneof![Just(IpVersion::V6), Just(IpVersion::V4)];
    prop_oneof![
        3 => (0..3_usize, version, prop::collection::vec(1..9_u8, 0..4))
            .prop_map(|(server, version, hosts)| Fate::Answer(server, version, hosts)),
        1 => Just(Fate::Up),
        1 => Just(Fate::Ready),
        2 => Just(Fate::Fail(FaultKind::Refused)),
        1 => Just(Fate::Reject),
        1 => Just(Fate::Again),
        1 => (0..3_usize, any::<[bool; 2]>(), 0..5000_u64).prop_map(|(server, is_weak, rtt)| {
            Fate::Advise(server, Advice { is_weak, rtt: [Some(ms(rtt)), None] })
        }),
        4 => (1..20_000_u64).prop_map(Fate::Pass),
    ]
}

/// Watches everything a race orders and holds it to its promises.
struct Referee {
    origins: Origins,
    active: Vec<(AttemptId, Address)>,
    rejected: Vec<Address>,
    winner: Option<(AttemptId, Address)>,
    last_start: Option<At>,
    timer: Option<At>,
    over: bool,
}

impl Referee {
    fn new(origins: Origins) -> Self {
        Self {
            origins,
            active: Vec::new(),
            rejected: Vec::new(),
            winner: None,
            last_start: None,
            timer: None,
            over: false,
        }
    }

    fn watch(&mut self, now: At, outputs: Vec<Output>) -> Result<(), TestCaseError> {
        for output in outputs {
            prop_assert!(!self.over, "nothing follows the end: {output:?}");
            match output {
                Output::Start { id, address, .. } => {
                    prop_assert!(self.winner.is_none(), "no start after a winner");
                    let version = address.version().unwrap();
                    match self.origins.bind(version) {
                        Bind::Any => {}
                        Bind::Only(ip) => prop_assert_eq!(IpVersion::of(*ip), version),
                        Bind::Never(_) => prop_assert!(false, "no source for {address}"),
                    }
                    prop_assert!(
                        !self.rejected.contains(&address),
                        "a silent address is left alone"
                    );
                    prop_assert!(
                        self.last_start
                            .is_none_or(|at| now >= at + SETTINGS.spacing)
                    );
                    self.last_start = Some(now);
                    self.active.push((id, address));
                    prop_assert!(self.active.len() <= SETTINGS.max_parallel);
                }
                Output::Cancel(id, _) => {
                    let before = self.active.len();
                    self.active.retain(|(known, _)| *known != id);
                    prop_assert_eq!(self.active.len() + 1, before, "only what runs is cancelled");
                }
                Output::Winner(id) => {
                    prop_assert!(self.winner.is_none(), "one winner");
                    let at = self.active.iter().position(|(known, _)| *known == id);
                    self.winner = Some(self.active.remove(at.unwrap()));
                    prop_assert!(self.active.is_empty(), "the others are closed before");
                }
                Output::Exhausted(_) => {
                    prop_assert!(self.active.is_empty());
                    self.over = true;
                }
                Output::ArmTimer(at) => {
                    prop_assert!(at > now, "a timer in the past spins");
                    self.timer = Some(at);
                }
                Output::Resolve { .. } => {}
            }
        }
        Ok(())
    }

    /// The attempt that has waited longest has ended without a word of the race.
    fn take_oldest(&mut self) -> Option<AttemptId> {
        (!self.active.is_empty()).then(|| self.active.remove(0).0)
    }
}

fn input(fate: Fate, referee: &mut Referee) -> Option<Input> {
    Some(match fate {
        Fate::Answer(server, version, hosts) => {
            let family = if version == IpVersion::V6 { 6 } else { 4 };
            let list = hosts
                .iter()
                .map(|host| address(&format!("{family}{host}")).1)
                .collect();
            Input::Answer {
                server,
                version,
                result: Ok(list),
            }
        }
        Fate::Up => Input::TcpUp(referee.active.first()?.0),
        Fate::Ready => Input::Ready(referee.active.first()?.0),
        Fate::Fail(kind) => Input::Failed(referee.take_oldest()?, Fault::new(kind, "")),
        Fate::Reject => {
            referee.rejected.push(referee.winner.take()?.1);
            Input::Rejected(Fault::new(FaultKind::Silent, ""))
        }
        Fate::Again => {
            // As if it had never begun.
            referee.last_start = None;
            Input::Again(referee.active.pop()?.0)
        }
        Fate::Pass(_) | Fate::Advise(..) => return None,
    })
}

/// Settings as the configuration makes them, and the sources that go with them.
fn settings() -> impl Strategy<Value = (Settings, Origins)> {
    let families = [
        Family::PreferIpv6,
        Family::PreferIpv4,
        Family::Ipv6,
        Family::Ipv4,
    ];
    let source = |text: &str| Source::parse(text).ok();
    let (v6, v4) = (source("2001:db8::7"), source("192.0.2.7"));
    let sources = vec![(None, None), (v6, None), (None, v4), (v6, v4)];
    let chosen = (
        prop::sample::select(families.to_vec()),
        prop::sample::select(sources),
    );
    chosen.prop_map(|(family, (v6, v4))| {
        let source = Sources { v6, v4 };
        // Others are refused before.
        let family = source.leave(family).unwrap_or(Family::PreferIpv6);
        let dial = Dial {
            family,
            source,
            ..Dial::default()
        };
        (Settings::from(&dial), Origins::of(&dial, "apw", None))
    })
}

proptest! {
    #[test]
    fn whatever_happens_the_race_keeps_its_promises(
        (settings, origins) in settings(),
        fates in prop::collection::vec(fate(), 0..60),
    ) {
        let mut race = Race::new(settings, 3);
        let mut referee = Referee::new(origins);
        let mut now = ms(0);
        referee.watch(now, race.step(now, Input::Begin))?;
        // At the end all attempts have timed out, or somebody has won.
        for fate in fates.into_iter().chain([Fate::Pass(200_000)]) {
            if let Fate::Pass(millis) = fate {
                let until = now + ms(millis);
                while let Some(at) = referee.timer.filter(|at| *at <= until && referee.winner.is_none()) {
                    referee.timer = None;
                    now = now.max(at);
                    referee.watch(now, race.step(now, Input::Timer))?;
                }
                now = until;
            } else if let Fate::Advise(server, advice) = fate {
                race.advise(server, advice);
            } else if let Some(input) = input(fate, &mut referee) {
                referee.watch(now, race.step(now, input))?;
            }
        }
        prop_assert!(referee.over || referee.winner.is_some(), "every race ends");
    }
}
