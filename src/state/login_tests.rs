//! Logins as real clients send them, captured from the wire, and as nobody should.

use super::*;

const USER: &str = "alice";

/// What a client that says these lines in one flight is told. Alice's password is `secret`.
fn flight(lines: &[&str]) -> Vec<String> {
    flight_of(Login::new("carom.test"), lines)
}

fn flight_of(mut login: Login, lines: &[&str]) -> Vec<String> {
    let mut all = Vec::new();
    for line in lines {
        all.extend(told(&mut login, line));
        // What a client says behind its login is the network's.
        if all.last().is_some_and(|last| last == "done") {
            break;
        }
    }
    all
}

fn told(login: &mut Login, line: &str) -> Vec<String> {
    let line = Line::parse(line.as_bytes()).expect("a line");
    let mut steps: std::collections::VecDeque<_> = login.receive(&line).into();
    let mut told = Vec::new();
    while let Some(step) = steps.pop_front() {
        match step {
            Step::Say(line) => told.push(String::from_utf8(line.to_vec()).expect("text")),
            Step::Done => told.push("done".to_owned()),
            Step::Bind(netid) if netid == "1" => told.push("bound: 1".to_owned()),
            Step::Bind(netid) => steps.push_front(login.unbound(&netid)),
            Step::Close(why) => told.push(format!("close: {why}")),
            Step::Certificate(named) => {
                // It is alice's.
                let asked = named.name.as_ref().is_none_or(|name| name.user == USER);
                let name = named.of_user(USER).filter(|_| asked);
                told.push(name.as_ref().map_or_else(
                    || "shown: nobody's".to_owned(),
                    |name| {
                        let network = name.network.as_deref().unwrap_or("-");
                        format!("shown: {}/{network}@{}", name.user, name.client)
                    },
                ));
                steps.extend(login.checked(name.map(|name| name.user)));
            }
            Step::Check(claims) => {
                let right = claims.iter().find(|c| {
                    c.name.user == USER && c.password.reveal() == "secret" && !c.needs_network
                });
                told.push(right.map_or_else(
                    || "checked: nobody".to_owned(),
                    |claim| {
                        let network = claim.name.network.as_deref().unwrap_or("-");
                        format!(
                            "checked: {}/{network}@{}",
                            claim.name.user, claim.name.client
                        )
                    },
                ));
                steps.extend(login.checked(right.map(|claim| claim.name.user.clone())));
            }
        }
    }
    told
}

/// The lines without what is said about capabilities.
fn outcome(lines: &[&str]) -> Vec<String> {
    let told = flight(lines).into_iter();
    told.filter(|line| !line.contains(" CAP ")).collect()
}

fn payload(text: &str) -> String {
    format!("AUTHENTICATE {}", STANDARD.encode(text))
}

const LOGGED_IN: [&str; 2] = [
    ":carom.test 900 zed zed!alice@carom.test alice :You are now logged in as alice",
    ":carom.test 903 zed :SASL authentication successful",
];

#[test]
fn rule_2_weechat_with_a_server_password() {
    let told = flight(&[
        "PASS secret",
        "CAP LS 302",
        "NICK zed",
        "USER alice/net@wee 0 * :alice/net@wee",
        "CAP REQ :away-notify batch server-time",
        "CAP END",
    ]);
    assert!(told[0].starts_with(":carom.test CAP * LS * :"), "{told:?}");
    assert!(told[1].starts_with(":carom.test CAP * LS :"), "{told:?}");
    assert_eq!(
        told[2],
        ":carom.test CAP zed ACK :away-notify batch server-time"
    );
    assert_eq!(told[3..], ["checked: alice/net@wee", "done"]);
}

#[test]
fn weechat_with_sasl() {
    let told = outcome(&[
        "CAP LS 302",
        "NICK zed",
        "USER root 0 * :root",
        "CAP REQ :batch sasl",
        "AUTHENTICATE PLAIN",
        &payload("alice/net@wee\0alice/net@wee\0secret"),
        "CAP END",
    ]);
    let checked = ["AUTHENTICATE +", "checked: alice/net@wee"];
    assert_eq!(told, [&checked[..], &LOGGED_IN, &["done"]].concat());
}

#[test]
fn rule_4_irssi_joins_before_it_registers() {
    let told = outcome(&[
        "CAP LS 302",
        "JOIN :",
        "CAP REQ :batch server-time",
        "CAP END",
        "PASS secret",
        "NICK zed",
        "USER alice/net@irssi alice/net@irssi 1 :Alice",
    ]);
    let not_yet = ":carom.test 451 * JOIN :You have not registered";
    assert_eq!(told, [not_yet, "checked: alice/net@irssi", "done"]);
}

#[test]
fn catgirl_asks_before_it_lists() {
    let told = flight(&[
        "CAP REQ :sasl",
        "CAP LS",
        "NICK :zed",
        "USER zed 0 * :zed",
        "AUTHENTICATE PLAIN",
        "CAP REQ :server-time message-tags",
        &payload("\0alice/net@cat\0secret"),
        "CAP END",
    ]);
    assert_eq!(told[0], ":carom.test CAP * ACK :sasl");
    assert!(told[1].contains(" sasl server-time setname ") && !told[1].contains("draft/multiline"));
    assert!(!told[1].contains('='), "{}", told[1]);
    assert_eq!(told[3], ":carom.test CAP zed ACK :server-time message-tags");
    assert_eq!(
        told[4..],
        [&["checked: alice/net@cat"][..], &LOGGED_IN, &["done"]].concat()
    );
    let pass = [
        "PASS :secret",
        "CAP LS",
        "NICK :zed",
        "USER alice/net@cat 0 * :zed",
        "CAP END",
    ];
    assert_eq!(outcome(&pass), ["checked: alice/net@cat", "done"]);
}

#[test]
fn senpai_and_goguma_pipeline_everything() {
    let mut lines = vec!["CAP LS 302"];
    lines.extend([
        "CAP REQ batch",
        "CAP REQ server-time",
        "CAP REQ setname",
        "CAP REQ nonsense",
    ]);
    let login = payload("\0alice/net@senpai\0secret");
    lines.extend([
        "NICK zed",
        "USER alice/net@senpai 0 * zed",
        "AUTHENTICATE PLAIN",
        &login,
    ]);
    lines.extend([
        "METADATA * SUB soju.im/pinned",
        "BOUNCER BIND 1",
        "AWAY *",
        "CAP END",
    ]);
    let told = flight(&lines);
    assert_eq!(
        told.iter().filter(|line| line.contains(" ACK :")).count(),
        3
    );
    assert!(told.contains(&":carom.test CAP * NAK :nonsense".to_owned()));
    assert_eq!(told.iter().filter(|line| line.contains(" 451 ")).count(), 2);
    assert!(told.contains(&"bound: 1".to_owned()));
    assert!(!told.iter().any(|line| line.contains("FAIL")));
    assert_eq!(told.last().map(String::as_str), Some("done"));
}

#[test]
fn any_order_will_do() {
    let lines = [
        "PASS secret",
        "NICK zed",
        "USER alice/net@x 0 * :z",
        "CAP LS 302",
        "CAP END",
    ];
    let mut orders = vec![Vec::new()];
    for line in lines {
        // Every place for each further line.
        let longer = orders.iter().flat_map(|order: &Vec<&str>| {
            (0..=order.len()).map(move |n| {
                let mut order = order.clone();
                order.insert(n, line);
                order
            })
        });
        orders = longer.collect();
    }
    assert_eq!(orders.len(), 120);
    let place = |order: &[&str], line| order.iter().position(|l| *l == line);
    orders.retain(|order| place(order, "CAP LS 302") < place(order, "CAP END"));
    for order in orders {
        let told = outcome(&order);
        // A client that is complete but for its password is told how to give it.
        let said: Vec<_> = told
            .iter()
            .filter(|line| !line.starts_with(":carom.test"))
            .collect();
        assert_eq!(said, ["checked: alice/net@x", "done"], "{order:?}");
    }
}

#[test]
fn rule_3_a_password_may_come_late() {
    let mut login = Login::new("carom.test");
    assert_eq!(told(&mut login, "NICK zed"), [""; 0]);
    let hint = told(&mut login, "USER alice 0 * :Alice");
    assert_eq!(hint[0], ":carom.test 464 zed :Password required");
    assert!(hint[1].contains("/quote PASS"), "{hint:?}");
    assert_eq!(
        told(&mut login, "PING x"),
        [":carom.test PONG carom.test :x"]
    );
    assert_eq!(
        told(&mut login, "PASS alice/net@c:secret"),
        ["checked: alice/net@c", "done"]
    );
}

#[test]
fn rule_5_a_wrong_password_ends_the_connection_and_says_no_more() {
    let wrong = |pass, user| {
        let user = format!("USER {user} 0 * :x");
        outcome(&[&format!("PASS {pass}"), "NICK zed", &user])
    };
    assert_eq!(wrong("guess", "alice"), wrong("guess", "nobody"));
    assert_eq!(
        wrong("guess", "alice")[1..],
        [
            ":carom.test 464 zed :Password incorrect",
            "close: Password incorrect",
        ]
    );
}

#[test]
fn sasl_may_be_tried_thrice() {
    let wrong = payload("\0alice\0guess");
    let again = ["AUTHENTICATE PLAIN", &wrong];
    let mut lines = vec!["CAP LS 302", "NICK zed", "USER zed 0 * :z", "CAP REQ sasl"];
    lines.extend(again);
    lines.extend([
        "AUTHENTICATE EXTERNAL",
        "AUTHENTICATE PLAIN",
        "AUTHENTICATE *",
    ]);
    lines.extend(again);
    let told = outcome(&lines);
    let failed = ":carom.test 904 zed :SASL authentication failed";
    assert_eq!(told.iter().filter(|line| *line == failed).count(), 3);
    assert!(told.contains(&":carom.test 906 zed :SASL authentication aborted".to_owned()));
    assert!(told.contains(&":carom.test 908 zed PLAIN :are available SASL mechanisms".to_owned()));
    assert_eq!(
        told.last().map(String::as_str),
        Some("close: Too many failed logins")
    );
    let right = payload("\0alice\0secret");
    let second = [&lines[..6], &["AUTHENTICATE PLAIN", &right, "CAP END"]].concat();
    assert_eq!(outcome(&second).last().map(String::as_str), Some("done"));
}

#[test]
fn a_long_payload_comes_in_pieces() {
    let secret = "x".repeat(300);
    let text = STANDARD.encode(format!("\0alice\0{secret}"));
    let (first, second) = text.split_at(400);
    let mut login = Login::new("carom.test");
    told(&mut login, "AUTHENTICATE PLAIN");
    assert_eq!(told(&mut login, &format!("AUTHENTICATE {first}")), [""; 0]);
    let told = told(&mut login, &format!("AUTHENTICATE {second}"));
    assert_eq!(told[0], "checked: nobody");
}

#[test]
fn nobody_talks_for_ever_before_login() {
    let told = flight(&["FOO"; 70]);
    assert_eq!(told[64], "close: Too many lines before login");
    assert_eq!(
        flight(&["GET / HTTP/1.1"]),
        ["close: This is an IRC server"]
    );
    assert_eq!(flight(&["QUIT :x"]), ["close: Goodbye"]);
}

#[test]
fn a_connection_is_bound_to_a_network_after_its_login() {
    let mut login = Login::new("carom.test");
    for line in [
        "CAP LS 302",
        "NICK alice",
        "USER alice 0 * :Alice",
        "CAP REQ :sasl",
    ] {
        told(&mut login, line);
    }
    let refused = told(&mut login, "BOUNCER BIND 1");
    assert_eq!(
        refused,
        [":carom.test FAIL BOUNCER ACCOUNT_REQUIRED BIND :Log in before you bind to a network"]
    );
    told(&mut login, "AUTHENTICATE PLAIN");
    told(
        &mut login,
        &format!(
            "AUTHENTICATE {}",
            STANDARD.encode(format!("\0{USER}\0secret"))
        ),
    );
    let refused = told(&mut login, "BOUNCER BIND 9");
    assert_eq!(
        refused,
        [":carom.test FAIL BOUNCER INVALID_NETID BIND 9 :You have no such network"]
    );
    assert_eq!(told(&mut login, "BOUNCER BIND 1"), ["bound: 1"]);
    assert_eq!(told(&mut login, "CAP END"), ["done"]);
}

#[test]
fn a_certificate_logs_in_whom_it_belongs_to() {
    let told = |username: &str, name: &str| {
        let name = match name {
            "" => "AUTHENTICATE +".to_owned(),
            name => payload(name),
        };
        let user = format!("USER {username} 0 * :z");
        let login = Login::new("carom.test").with_certificate(true);
        let lines = [
            "CAP LS 302",
            "NICK zed",
            &user,
            "CAP REQ :sasl",
            "AUTHENTICATE external",
            &name,
            "CAP END",
        ];
        let told = flight_of(login, &lines);
        // Two lines of CAP LS, and an ACK.
        assert!(told[1].contains(" sasl=PLAIN,EXTERNAL "), "{told:?}");
        assert_eq!(told[3], "AUTHENTICATE +");
        told[4..].to_vec()
    };
    for (username, name, shown) in [
        ("zed", "", "shown: alice/-@"),
        ("alice/net@wee", "", "shown: alice/net@wee"),
        ("zed", "alice", "shown: alice/-@"),
        ("zed", "Alice/net@wee", "shown: alice/net@wee"),
        ("alice@wee", "alice/net", "shown: alice/net@wee"),
    ] {
        let expected = [&[shown][..], &LOGGED_IN, &["done"]].concat();
        assert_eq!(told(username, name), expected, "{username} {name}");
    }
    let failed = ":carom.test 904 zed :SASL authentication failed";
    for (username, name) in [("zed", "bob"), ("alice/one", "alice/two")] {
        assert_eq!(told(username, name)[..2], ["shown: nobody's", failed]);
    }
    // Nobody can be called so: nothing is looked up.
    assert_eq!(told("zed", "/net")[0], failed);
}

#[test]
fn who_shows_no_certificate_is_not_offered_to_log_in_by_it() {
    let told = flight(&["CAP LS 302", "NICK zed", "AUTHENTICATE EXTERNAL"]);
    assert!(told[1].contains(" sasl=PLAIN "), "{told:?}");
    let known = ":carom.test 908 zed PLAIN :are available SASL mechanisms";
    let failed = ":carom.test 904 zed :SASL authentication failed";
    assert_eq!(told[2..], [known, failed]);
}

#[test]
fn what_is_asked_of_metadata_before_login_waits_for_it() {
    let mut login = Login::new("carom.test");
    let lines = [
        "METADATA * SUB early",
        "CAP LS 302",
        "CAP REQ draft/metadata-2",
        "@label=1 METADATA * SUB soju.im/pinned soju.im/muted",
        "JOIN :",
    ];
    let lines = lines.iter().flat_map(|line| told(&mut login, line));
    // Without the capability it is unknown, as everything else is.
    assert_eq!(lines.filter(|line| line.contains(" 451 ")).count(), 2);
    let kept = [&b"@label=1 METADATA * SUB soju.im/pinned soju.im/muted"[..]];
    assert_eq!(login.early, kept);
    for _ in 0..20 {
        told(&mut login, "METADATA * GET x");
    }
    assert_eq!(login.early.len(), MAX_EARLY);
}

#[test]
fn lists_of_capabilities_fit_into_lines() {
    let names = |lines: &[String]| -> Vec<String> {
        let lists = lines.iter().filter_map(|line| line.split_once(" :"));
        let lists = lists.flat_map(|(_, list)| list.split(' ').map(str::to_owned));
        lists.collect()
    };
    let mut login = Login::new("a.server.with.quite.a.long.name.example.org");
    let lists = told(&mut login, "CAP LS 302");
    assert!(lists.len() > 1 && lists.iter().all(|line| line.len() <= 510));
    let (last, before) = lists.split_last().expect("a line");
    assert!(before.iter().all(|line| line.contains(" CAP * LS * :")));
    assert!(last.contains(" CAP * LS :"));
    let all = names(&lists);
    assert!(all.contains(&"sasl=PLAIN".to_owned()), "{all:?}");
    // The lower form is one line without values, and does not take back what was said.
    let lower = told(&mut login, "CAP LS");
    assert!(lower.len() == 1 && !lower[0].contains('=') && lower[0].contains(" CAP * LS :"));
    assert!(lower[0].len() <= 510 && names(&lower).len() < all.len());
    for cap in offered_at_login(302).iter() {
        told(&mut login, &format!("CAP REQ {cap}"));
    }
    let lists = told(&mut login, "CAP LIST");
    assert!(lists.len() > 1 && lists.iter().all(|line| line.len() <= 510));
    assert!(lists[0].contains(" CAP * LIST * :"), "{lists:?}");
    assert!(!lists.concat().contains('='));
    // Who knows no continuation is told what fits.
    for line in ["CAP LS", "CAP LS 301", "CAP LS x"] {
        let lists = flight(&[line]);
        assert!(lists.len() == 1 && lists[0].len() <= 510, "{lists:?}");
        assert!(!lists[0].contains('=') && !lists[0].contains("LS *"));
    }
    assert!(flight(&["CAP LS 307"]).len() > 1 && flight(&["CAP LS 99999999"]).len() > 1);
}
