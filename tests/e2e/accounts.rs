//! Accounts that clients make on a network are kept, and logged in to from then on.

use super::changes_support::Administrator;
use super::registered;
use super::support::daemon::{PASSWORD, config, network};
use super::support::script::Account;
use super::support::{Client, Daemon, Link, MockIrcd, Script};

async fn server() -> MockIrcd {
    let script = Script {
        caps: Some(vec!["sasl", "draft/account-registration"]),
        ..Script::default()
    };
    MockIrcd::start(script).await
}

/// Lets a client ask for an account, which the server makes.
async fn make(client: &mut Client, link: &mut Link) -> String {
    client.send("REGISTER apw * :hunter2").await;
    link.expect("REGISTER apw * :hunter2").await;
    link.send(":irc.test REGISTER SUCCESS apw :Account made")
        .await;
    link.send(":irc.test 900 apw apw!u@host.test apw :You are now logged in")
        .await;
    client.expect("REGISTER SUCCESS").await;
    let is_ours = |line: &str| {
        line.starts_with(":*carom!") && line.contains("log in") || line.contains("logs in")
    };
    let told = client.expect_where("what becomes of it", is_ours).await;
    assert!(!told.contains("hunter2"), "{told}");
    told
}

#[tokio::test]
async fn an_account_that_was_made_is_logged_in_to_from_then_on() {
    let ircd = server().await;
    let mut daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let url = ircd.url();
    let create = ["network", "create", "-name", "net", "-addr", &url];
    admin.does(&create).await;
    let mut link = registered(&ircd).await;
    let mut client = daemon.login(&format!("apw/net:{PASSWORD}")).await;
    // One that was refused is none, whatever is verified later.
    client.send("REGISTER apw * :taken").await;
    link.expect("REGISTER apw * :taken").await;
    link.send(":irc.test FAIL REGISTER ACCOUNT_EXISTS apw :Taken")
        .await;
    client.expect("FAIL REGISTER").await;
    link.send(":irc.test VERIFY SUCCESS apw :Verified").await;
    client.expect("VERIFY SUCCESS").await;
    let told = admin.does(&["sasl", "status"]).await;
    assert!(told.lines[0].contains("SASL is not set"), "{told:?}");
    let told = make(&mut client, &mut link).await;
    assert!(
        told.contains("net: carom logs in as apw from now on"),
        "{told}"
    );
    let told = admin.does(&["sasl", "status"]).await;
    assert!(told.lines[0].contains("SASL plain as apw"), "{told:?}");
    let shown = admin
        .does(&["server", "dump", "-secrets"])
        .await
        .lines
        .join("\n");
    assert!(shown.contains("hunter2"), "{shown}");
    // We are logged in already, so the link stays.
    client.send("PRIVMSG bob :still here").await;
    link.expect("PRIVMSG bob :still here").await;
    assert!(link.heard().iter().all(|line| !line.starts_with("QUIT")));
    ircd.change(|script| script.account = Some(Account::Plain("apw", "hunter2")));
    daemon.kill().await;
    daemon.restart().await;
    let link = registered(&ircd).await;
    assert_eq!(link.session().account.as_deref(), Some("apw"));
}

#[tokio::test]
async fn what_the_file_declares_the_user_puts_there() {
    let ircd = server().await;
    let mut daemon = Daemon::start(&config(&network("net", &ircd.url()))).await;
    let mut link = registered(&ircd).await;
    let mut client = daemon.login(&format!("apw/net:{PASSWORD}")).await;
    let told = make(&mut client, &mut link).await;
    let line =
        "carom.toml: sasl = { mechanism = \"plain\", account = \"apw\", password = \"...\" }";
    assert!(told.contains(line), "{told}");
    daemon.stop().await;
    // Nowhere in the database, and not in the log.
    for file in std::fs::read_dir(daemon.path("")).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap_or_default();
        assert!(!bytes.windows(7).any(|part| part == b"hunter2"));
    }
}
