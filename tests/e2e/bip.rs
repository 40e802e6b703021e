//! bip's own verbs, all of them, as a user of bip says them on a network that was made.

use super::changes_support::Administrator;
use super::registered;
use super::support::daemon::{PASSWORD, config};
use super::support::{Client, Daemon, MockIrcd, Script};

async fn bip(client: &mut Client, words: &str) -> String {
    client.send(&format!("BIP {words}")).await;
    let lines = client.sync().await;
    let notices = lines.iter().filter(|line| line.contains(":*carom!"));
    let texts = notices.filter_map(|line| line.splitn(3, ':').nth(2));
    texts.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn each_verb_of_bip_does_what_it_did_there() {
    let ircd = MockIrcd::start(Script::default()).await;
    let daemon =
        Daemon::start(&config("").replacen("[[user]]\n", "[[user]]\nadmin = true\n", 1)).await;
    let admin = Administrator::of(&daemon);
    let url = ircd.url();
    admin
        .does(&["network", "create", "-name", "net", "-addr", &url])
        .await;
    let mut link = registered(&ircd).await;
    let mut client = daemon.login(&format!("apw/net:{PASSWORD}")).await;
    client.send("JOIN #a").await;
    client.expect("366").await;
    link.privmsg("bob", "#a", "hello").await;
    client.expect(":bob!").await;
    for (words, expected) in [
        ("HELP", "bip WORDS"),
        ("LIST networks", "net: connected to irc://"),
        ("LIST connections", "net: connected to irc://"),
        ("LIST users", "apw: administrator"),
        ("LIST all_links", "net: connected to irc://"),
        ("LIST all_connections", "net: connected to irc://"),
        ("INFO USER apw", "1 network, 1 connected"),
        (
            "BLRESET #a",
            "nothing that was said until now is replayed any more",
        ),
        (
            "BLRESET",
            "nothing that was said until now is replayed any more",
        ),
        ("FOLLOW_NICK false", "network net: changed"),
        ("IGNORE_FIRST_NICK true", "it is always so"),
        ("ON_CONNECT_SEND MODE apw +B", "network net: changed"),
        ("AWAY_NICK apw_away", "network net: changed"),
        ("TRUST", "net: no certificate is refused"),
        (
            "ADD_CONN other irc+insecure://[::1]:1",
            "network other: made",
        ),
        ("DEL_CONN other", "network other: deleted"),
        ("RELOAD", "read again and applied"),
        ("NONSENSE", "there is no \"NONSENSE\""),
    ] {
        let told = bip(&mut client, words).await;
        assert!(told.contains(expected), "{words}: {told}");
    }
    assert_eq!(bip(&mut client, "BLRESET -q").await, "", "-q is quiet");
    client.send("BIP BACKLOG 1").await;
    let told = client.sync().await.join("\n");
    assert!(
        told.contains("PRIVMSG #a :") && told.contains("hello"),
        "{told}"
    );
    let dump = admin.dump().await;
    for line in [
        "follow_nick = false",
        "away_nick = \"apw_away\"",
        "on_connect = [\"<hidden>\"]",
    ] {
        assert!(dump.contains(line), "{line} in {dump}");
    }
    let told = bip(&mut client, "JUMP").await;
    assert!(told.contains("net: going to irc://"), "{told}");
    link.expect("QUIT").await;
    registered(&ircd).await.expect("MODE apw +B").await;
    assert!(bip(&mut client, "AWAY_NICK").await.contains("changed"));
    assert!(!admin.dump().await.contains("apw_away"));
}
