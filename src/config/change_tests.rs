//! Who may change what, and what is refused with which words.

use super::*;
use crate::config::{Purpose, Secret, Surroundings, load_in};

/// One declared user with a network and a channel.
const FILE: &str = r##"
[limits]
networks_per_user = 3
channels_per_network = 2

[[user]]
name = "apw"
password = "356a192b7913b04c54574d18c28d46e6395428ab"

[[user.network]]
name = "oftc"
servers = ["ircs://irc.oftc.net"]

[[user.network.channel]]
name = "#bip"

[[user]]
name = "nopass"
"##;

fn declared() -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("carom.toml");
    std::fs::write(&path, FILE).unwrap();
    let surroundings = Surroundings {
        state: Some("/state".into()),
        ..Surroundings::default()
    };
    let (mut config, _) = load_in(&path, Purpose::Run, &surroundings).unwrap();
    config.path = "/etc/carom.toml".into();
    config
}

/// A configuration and what was made beside it.
struct World {
    declared: Config,
    made: Made,
}

impl World {
    fn new() -> Self {
        Self {
            declared: declared(),
            made: Made::default(),
        }
    }

    fn effective(&self) -> Config {
        let (config, problems) = self.made.merge(&self.declared);
        assert_eq!(problems, Vec::<String>::new());
        config
    }

    fn ask(&self, by: &Authority, change: &Change) -> Result<Step, Refusal> {
        let present = Present {
            declared: &self.declared,
            effective: &self.effective(),
            now: Timestamp::from_millis(1_000),
        };
        let hash = change.password().map(|_| "$hash".to_owned());
        self.made.after(&present, by, change, hash)
    }

    fn make(&mut self, by: &Authority, change: &Change) -> Step {
        let step = self
            .ask(by, change)
            .unwrap_or_else(|r| panic!("{change:?}: {r}"));
        self.made = step.made.clone();
        step
    }

    fn refused(&self, by: &Authority, change: &Change) -> String {
        match self.ask(by, change) {
            Ok(_) => panic!("{change:?} is not refused"),
            Err(refusal) => refusal.to_string(),
        }
    }

    fn user(&self, name: &str) -> User {
        let users = self.effective().users;
        users.into_iter().find(|user| user.name == name).unwrap()
    }
}

fn admin() -> Authority {
    Authority::control()
}

fn as_user(name: &str) -> Authority {
    Authority {
        user: Some(name.into()),
        admin: false,
    }
}

fn create_user(name: &str) -> Change {
    Change::CreateUser {
        name: name.into(),
        password: Some(Secret::new("secret".into())),
        options: Options::new(),
    }
}

fn network(user: &str, name: &str, url: &str) -> Change {
    Change::CreateNetwork {
        user: user.into(),
        name: name.into(),
        options: Options::new().set("servers", vec![url]),
    }
}

fn update(user: &str, name: &str, options: Options) -> Change {
    let (user, name) = (user.into(), name.into());
    Change::UpdateNetwork {
        user,
        name,
        options,
    }
}

fn channel(network: &str, name: &str, options: Options) -> Change {
    Change::CreateChannel {
        user: "apw".into(),
        network: network.into(),
        name: name.into(),
        options,
    }
}

const URL: &str = "ircs://irc.test";

#[test]
fn what_the_file_declares_is_refused_with_file_and_key() {
    let world = World::new();
    let (user, name) = ("apw".to_owned(), "oftc".to_owned());
    let pin = Pin::Certificate([7; 32]);
    let nick = || Options::new().set("nick", "x");
    let network = name.clone();
    let new = Secret::new("new".into());
    for (change, key) in [
        (
            Change::UpdateUser {
                name: user.clone(),
                options: nick(),
            },
            "user.nick",
        ),
        (
            Change::DeleteUser {
                name: user.clone(),
                purge: true,
            },
            "user.name",
        ),
        (
            Change::SetPassword {
                user: user.clone(),
                old: None,
                new,
            },
            "user.password",
        ),
        (
            Change::AddCertificate {
                user: user.clone(),
                pin,
            },
            "user.certificates",
        ),
        (update("apw", "oftc", nick()), "user.network.nick"),
        (
            update("apw", "oftc", Options::new().unset("sasl")),
            "user.network.sasl",
        ),
        (
            Change::DeleteNetwork {
                user: user.clone(),
                name,
            },
            "user.network.name",
        ),
        (
            channel("oftc", "#BIP", Options::new().set("key", "k")),
            "user.network.channel.key",
        ),
        (
            Change::DeleteChannel {
                user,
                network,
                name: "#bip".into(),
            },
            "user.network.channel.name",
        ),
    ] {
        let words = world.refused(&admin(), &change);
        assert!(
            words.contains(&format!("is declared in /etc/carom.toml ({key}):")),
            "{words}"
        );
    }
}

#[test]
fn the_password_of_a_declared_user_is_the_databases_where_the_file_gives_none() {
    let mut world = World::new();
    let change = Change::SetPassword {
        user: "nopass".into(),
        old: None,
        new: Secret::new("new".into()),
    };
    let step = world.make(&as_user("nopass"), &change);
    let hash = "$hash".to_owned();
    assert!(
        step.edits
            == [Edit::Password {
                user: "nopass".into(),
                hash
            }]
    );
}

#[test]
fn everybody_changes_his_own_and_administrators_everything() {
    let mut world = World::new();
    world.make(&admin(), &create_user("bob"));
    world.make(&as_user("bob"), &network("bob", "one", URL));
    for change in [
        create_user("eve"),
        Change::DeleteUser {
            name: "bob".into(),
            purge: false,
        },
        Change::RestoreUser { name: "bob".into() },
        network("apw", "two", URL),
        update("apw", "oftc", Options::new()),
        Change::UpdateUser {
            name: "bob".into(),
            options: Options::new().set("admin", true),
        },
        Change::UpdateUser {
            name: "bob".into(),
            options: Options::new().set("nick", "b").set("max_networks", 1_000),
        },
    ] {
        let words = world.refused(&as_user("bob"), &change);
        assert!(
            words.contains("only administrators may"),
            "{change:?}: {words}"
        );
    }
    let options = Options::new().set("nick", "bobby").set("history.lines", 7);
    let name = "bob".into();
    world.make(&as_user("bob"), &Change::UpdateUser { name, options });
    let bob = world.user("bob");
    assert_eq!((&*bob.nick, bob.history.lines), ("bobby", 7));
    // Networks inherit, unless they say otherwise.
    assert_eq!(
        (&*bob.networks[0].nick, bob.networks[0].history.lines),
        ("bobby", 7)
    );
}

#[test]
fn others_than_administrators_name_no_files_and_no_sockets_of_the_host() {
    let mut world = World::new();
    world.make(&admin(), &create_user("bob"));
    world.make(&admin(), &network("bob", "one", "unix:/run/ircd.sock"));
    let file = |key: &str| {
        let mut table = Table::new();
        table.insert("file".into(), "/etc/shadow".into());
        Options::new().set(key, table)
    };
    for options in [
        file("password"),
        Options::new().set("password.file", "/etc/shadow"),
        Options::new().set(
            "on_connect",
            vec![toml::Value::Table(
                [("file".into(), "/x".into())].into_iter().collect(),
            )],
        ),
        Options::new().set("client_certificate", "/etc/key.pem"),
        Options::new().set("tls.ca", "/etc/shadow"),
        Options::new().set("servers", vec!["UNIX:/run/other.sock"]),
    ] {
        let change = update("bob", "one", options);
        let words = world.refused(&as_user("bob"), &change);
        assert!(words.contains("only administrators may"), "{words}");
    }
}

#[test]
fn whoever_says_where_a_network_leads_answers_for_it() {
    let mut world = World::new();
    world.make(&admin(), &create_user("bob"));
    let trusted = |world: &World| world.user("bob").networks[0].trusted;
    world.make(&admin(), &network("bob", "one", "irc://[::1]"));
    assert!(trusted(&world));
    let nick = Options::new().set("nick", "b");
    world.make(&as_user("bob"), &update("bob", "one", nick));
    assert!(trusted(&world), "he did not touch where it leads");
    let servers = Options::new().set("servers", vec!["irc://[::1]:7000"]);
    world.make(&as_user("bob"), &update("bob", "one", servers));
    assert!(!trusted(&world));
    let nick = Options::new().set("nick", "c");
    world.make(&admin(), &update("bob", "one", nick));
    assert!(!trusted(&world), "the administrator did not look at it");
    let name = "bob".into();
    let options = Options::new().set("admin", true);
    world.make(&admin(), &Change::UpdateUser { name, options });
    assert!(trusted(&world), "an administrator may");
    // What is declared is the file's word.
    assert!(world.user("apw").networks[0].trusted);
}

#[test]
fn values_are_held_to_the_rules_of_the_file() {
    let mut world = World::new();
    world.make(&admin(), &network("apw", "one", URL));
    let set = |key: &str, value: toml::Value| update("apw", "one", Options::new().set(key, value));
    for (change, said) in [
        (
            network("apw", "a b", URL),
            "user.network.name: \"a b\" has ' ' in it",
        ),
        (
            network("apw", "two", "irc.test"),
            "does not say how to connect (write ircs://irc.test)",
        ),
        (
            update("apw", "one", Options::new().unset("servers")),
            "user.network.servers: is missing",
        ),
        (
            set("nikc", "x".into()),
            "user.network.nikc: unknown key (did you mean nick?)",
        ),
        (
            set("nick", "1x".into()),
            "user.network.nick: \"1x\" begins with '1'",
        ),
        (
            set("nick", 5.into()),
            "user.network.nick: wants a text, not a number",
        ),
        (
            set("family", "ipv5".into()),
            "user.network.family: \"ipv5\" is not known",
        ),
        (
            set("sasl.account", "x".into()),
            "plain wants an account and a password",
        ),
        (
            set("password", "<hidden>".into()),
            "user.network.password: the secret is hidden here",
        ),
        (set("realname", "a\r\nb".into()), "has control characters"),
        (create_user("Bob"), "user.name: \"Bob\" has 'B' in it"),
        (
            create_user("123"),
            "user.nick: is missing, and the user's name does not do",
        ),
        (
            channel("one", "nosign", Options::new()),
            "is a nick, not a channel",
        ),
    ] {
        let words = world.refused(&admin(), &change);
        assert!(words.contains(said), "{change:?}: {words}");
        assert!(
            !words.contains("carom.toml"),
            "no file is to blame: {words}"
        );
    }
}

#[test]
fn names_are_known_new_and_not_too_many() {
    let mut world = World::new();
    world.make(&admin(), &network("apw", "one", URL));
    world.make(&admin(), &channel("one", "#a", Options::new()));
    world.make(&admin(), &channel("one", "#b", Options::new()));
    let none = Options::new;
    for (change, said) in [
        (
            network("apw", "OFTC", URL),
            "there is a network \"oftc\" already",
        ),
        (
            network("apw", "One", URL),
            "there is a network \"one\" already",
        ),
        (network("eve", "one", URL), "there is no user \"eve\""),
        (update("apw", "two", none()), "there is no network \"two\""),
        (
            update("apw", "one", Options::new().set("name", "Oftc")),
            "there is a network \"oftc\" already",
        ),
        (channel("two", "#a", none()), "there is no network \"two\""),
        (
            channel("one", "#A", none()),
            "there is a channel \"#A\" already",
        ),
        (channel("one", "#c", none()), "limits.channels_per_network"),
        (create_user("apw"), "there is a user \"apw\" already"),
        (
            Change::RestoreUser { name: "eve".into() },
            "there is no user \"eve\"",
        ),
    ] {
        let words = world.refused(&admin(), &change);
        assert!(words.contains(said), "{change:?}: {words}");
    }
    world.make(&admin(), &network("apw", "three", URL));
    let words = world.refused(&admin(), &network("apw", "four", URL));
    assert_eq!(words, "user \"apw\" has 3 networks, and that is the most");
    let options = Options::new().set("max_networks", 1);
    let (name, password) = ("bob".into(), None);
    world.make(
        &admin(),
        &Change::CreateUser {
            name,
            password,
            options,
        },
    );
    world.make(&as_user("bob"), &network("bob", "one", URL));
    let words = world.refused(&as_user("bob"), &network("bob", "two", URL));
    assert_eq!(words, "user \"bob\" has 1 networks, and that is the most");
}

#[test]
fn a_deleted_user_comes_back_with_all_he_had() {
    let mut world = World::new();
    world.make(&admin(), &create_user("bob"));
    world.make(&as_user("bob"), &network("bob", "one", URL));
    let before = world.effective();
    let delete = |purge| Change::DeleteUser {
        name: "bob".into(),
        purge,
    };
    let restore = Change::RestoreUser { name: "bob".into() };
    world.make(&admin(), &delete(false));
    assert!(
        world
            .effective()
            .users
            .iter()
            .all(|user| user.name != "bob")
    );
    assert_eq!(
        world.made.deleted().collect::<Vec<_>>(),
        [("bob", Timestamp::from_millis(1_000))]
    );
    for change in [network("bob", "two", URL), delete(false)] {
        assert_eq!(world.refused(&admin(), &change), "there is no user \"bob\"");
    }
    let words = world.refused(&admin(), &create_user("bob"));
    assert!(
        words.contains("restore it, or delete it with -purge"),
        "{words}"
    );
    world.make(&admin(), &restore);
    assert_eq!(world.effective(), before);
    assert_eq!(
        world.refused(&admin(), &restore),
        "there is a user \"bob\" already"
    );
    world.make(&admin(), &delete(false));
    world.make(&admin(), &delete(true));
    assert_eq!(
        world.refused(&admin(), &restore),
        "there is no user \"bob\""
    );
    world.make(&admin(), &create_user("bob"));
    assert_eq!(world.user("bob").networks, []);
}

#[test]
fn a_renamed_network_keeps_its_channels() {
    let mut world = World::new();
    world.make(&admin(), &network("apw", "one", URL));
    world.make(
        &admin(),
        &channel("one", "#a", Options::new().set("key", "k")),
    );
    let options = Options::new().set("name", "uno").set("nick", "other");
    let step = world.make(&admin(), &update("apw", "one", options));
    assert_eq!(step.network.as_deref(), Some("uno"));
    let networks = world.user("apw").networks;
    let network = &networks[1];
    assert_eq!((&*network.name, &*network.nick), ("uno", "other"));
    assert_eq!(network.channels[0].name, "#a");
    // Another spelling is no other name.
    world.make(
        &admin(),
        &update("apw", "uno", Options::new().set("name", "Uno")),
    );
}

#[test]
fn certificates_come_and_go() {
    let mut world = World::new();
    world.make(&admin(), &create_user("bob"));
    let user = || "bob".to_owned();
    let pin = Pin::Key([3; 32]);
    let add = Change::AddCertificate { user: user(), pin };
    let delete = Change::DeleteCertificate { user: user(), pin };
    assert!(
        world
            .refused(&as_user("bob"), &delete)
            .starts_with("there is no certificate")
    );
    world.make(&as_user("bob"), &add);
    assert_eq!(world.user("bob").certificates, [pin]);
    assert!(
        world
            .refused(&as_user("bob"), &add)
            .starts_with("there is a certificate")
    );
    world.make(&as_user("bob"), &delete);
    assert_eq!(world.user("bob").certificates, []);
}

#[test]
fn what_the_file_comes_to_declare_hides_what_was_made() {
    let mut world = World::new();
    world.make(&admin(), &network("apw", "made", URL));
    world.make(&admin(), &create_user("bob"));
    world.make(&admin(), &network("bob", "his", URL));
    let mut declared = world.declared.clone();
    let mut network = declared.users[0].networks[0].clone();
    network.name = "Made".into();
    declared.users[0].networks.push(network);
    declared.users.push(User {
        name: "bob".into(),
        nick: "robert".into(),
        ..User::default()
    });
    let (config, problems) = world.made.merge(&declared);
    assert_eq!(config.users[0].networks.len(), 2);
    assert!(
        problems[0].contains("\"apw/made\", made at run time, is declared now"),
        "{problems:?}"
    );
    let bob = config.users.iter().find(|user| user.name == "bob").unwrap();
    assert_eq!((&*bob.nick, &*bob.networks[0].name), ("robert", "his"));
    // A row that the file's rules do not let through any more is left out, not fatal.
    let mut made = world.made.clone();
    made.networks_of("bob")[0]
        .options
        .insert("nick".into(), "1".into());
    let (config, problems) = made.merge(&world.declared);
    assert!(
        problems[0].contains("is left out: user.network.nick"),
        "{problems:?}"
    );
    assert_eq!(config.users.last().unwrap().networks, []);
}

#[test]
fn secrets_are_not_printed() {
    let password = Some(Secret::new("hunter2".into()));
    let options = Options::new()
        .set("password", "hunter2")
        .set("sasl.password", "hunter2");
    let name = "bob".to_owned();
    let change = Change::CreateUser {
        name,
        password,
        options,
    };
    assert!(!format!("{change:?}").contains("hunter2"), "{change:?}");
    let edit = Edit::Password {
        user: "bob".into(),
        hash: "hunter2".into(),
    };
    assert!(!format!("{edit:?}").contains("hunter2"));
}
