//! Faults that take their time, side by side: sessions that break, servers that refuse or dawdle, packets that are lost.

use super::*;

/// C22 and C29: a session over IPv6, then this; it has to come back over IPv4.
fn lost_and_back(name: &str, fault: fn(&Lab)) {
    let lab = Lab::new();
    let ircd = Ircd::start(&lab, Mode::Well, Mode::Well);
    let bouncer = Bouncer::start(&lab, "irc+insecure://[::]", "");
    let first = ircd
        .registered(Duration::from_secs(20))
        .expect("registered at first");
    assert_eq!(family(first.peer), "v6", "{}", bouncer.log());
    let broken = Instant::now();
    fault(&lab);
    let Some(back) = ircd.registered(Duration::from_secs(240)) else {
        panic!("{name}: not back\n{}", bouncer.log());
    };
    let seconds = back.at.duration_since(broken).as_secs_f64();
    assert_eq!(family(back.peer), "v4", "{name}\n{}", bouncer.log());
    assert!(seconds < 190.0, "{name}: {seconds} s\n{}", bouncer.log());
    row(name, "v4", seconds);
}

/// C24: nothing works for a while, then everything.
fn healed() {
    let lab = Lab::new();
    let ircd = Ircd::start(&lab, Mode::Well, Mode::Well);
    lab.router("tcp dport 6697 drop");
    let dial = "timeout = \"3s\"\nreconnect = \"2s\"";
    let bouncer = Bouncer::start(&lab, "irc+insecure://[::]", dial);
    assert!(
        ircd.registered(Duration::from_secs(30)).is_none(),
        "{}",
        bouncer.log()
    );
    let well = Instant::now();
    lab.router("");
    let Some(back) = ircd.registered(Duration::from_secs(120)) else {
        panic!("not back\n{}", bouncer.log());
    };
    // By now the wait between two cycles is 16 s at most, and a cycle under way may have to end first.
    let seconds = back.at.duration_since(well).as_secs_f64();
    assert!(seconds < 2.0 * 20.0 + 1.0, "{seconds} s\n{}", bouncer.log());
    row(
        "C24 both black holes for 30 s, reconnect = \"2s\"; from then on",
        family(back.peer),
        seconds,
    );
}

/// C18: a server that says something, and then takes its time, is waited for.
fn late() {
    let lab = Lab::new();
    let ircd = Ircd::start(&lab, Mode::Late(Duration::from_secs(20)), Mode::Well);
    let started = Instant::now();
    let bouncer = Bouncer::start(&lab, "irc+insecure://[::]", "");
    let Some(event) = ircd.registered(Duration::from_secs(60)) else {
        panic!("not registered\n{}", bouncer.log());
    };
    let seconds = event.at.duration_since(started).as_secs_f64();
    assert_eq!(family(event.peer), "v6", "{seconds} s\n{}", bouncer.log());
    row("C18 server talks, and registers after 20 s", "v6", seconds);
}

/// C19: where packets are lost, every session comes up over one of the families.
fn lossy() {
    const RUNS: usize = 20;
    let mut seconds: Vec<f64> = Vec::new();
    for _ in 0..RUNS {
        let case = Case::new("C19 three packets of ten lost", "any", 30.0, |lab| {
            lab.router("meta nfproto ipv6 numgen random mod 10 < 3 drop");
        });
        seconds.push(case.run());
    }
    seconds.sort_by(f64::total_cmp);
    let p95 = seconds[RUNS * 95 / 100 - 1];
    eprintln!(
        "| C19 three packets of ten lost over IPv6, the slowest but one of {RUNS} | either | {p95:.2} |"
    );
}

/// C17: a server that refuses is not asked again over the other family.
fn refused() {
    let lab = Lab::new();
    let ircd = Ircd::start(&lab, Mode::Error, Mode::Well);
    let bouncer = Bouncer::start(&lab, "irc+insecure://[::]", "reconnect = \"1s\"");
    let watched = Duration::from_secs(40);
    assert!(ircd.registered(watched).is_none(), "{}", bouncer.log());
    assert_eq!(
        (lab.syns("v6"), lab.syns("v4")),
        (1, 0),
        "{}",
        bouncer.log()
    );
    eprintln!("| C17 server says ERROR (a ban) | no second try within 40 s | - |");
}

#[test]
fn long_faults_side_by_side() {
    if why_not().is_some() {
        return;
    }
    thread::scope(|scope| {
        scope.spawn(|| lost_and_back("C22 IPv6 turns into a black hole under a session", drop_v6));
        scope.spawn(|| {
            lost_and_back("C29 the address in use is taken away", |lab| {
                lab.ip("b", &format!("address del {}/64 dev eth0\n", BOUNCER[0]));
            });
        });
        scope.spawn(healed);
        scope.spawn(refused);
        scope.spawn(late);
        scope.spawn(lossy);
    });
}

/// C28
#[test]
fn many_users_of_a_stalled_path_try_it_once() {
    const USERS: usize = 200;
    if why_not().is_some() {
        return;
    }
    let lab = Lab::new();
    let ircd = Ircd::start(&lab, Mode::Well, Mode::Well);
    stall_v6(&lab);
    let started = Instant::now();
    let dial = "pace = { burst = 10, every = \"50ms\" }";
    let bouncer = Bouncer::with_users(&lab, USERS, "irc+insecure://[::]", dial);
    for n in 0..USERS {
        let Some(event) = ircd.registered(Duration::from_secs(60)) else {
            panic!("{n} of {USERS} registered\n{}", bouncer.log());
        };
        assert_eq!(family(event.peer), "v4", "{}", bouncer.log());
    }
    let took = started.elapsed();
    let tries = lab.syns("v6");
    let told = format!("{took:?}, {tries} over IPv6\n{}", bouncer.log());
    // Ten have no turn to wait for.
    assert!(took > Duration::from_millis(50) * 190, "paced: {told}");
    // At the start, and again after every ten minutes.
    assert!((1..=1 + took.as_secs() / 600).contains(&tries), "{told}");
    row(
        "C28 stall, 200 users, 20 a second",
        "v4",
        took.as_secs_f64(),
    );
}
