//! Users as an administrator sees them: told something, shut out, limited, and when they were there.

use super::changes_support::Administrator;
use super::support::Daemon;
use super::support::daemon::{PASSWORD, config};

#[tokio::test]
async fn all_clients_of_all_users_are_told_a_notice() {
    let daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let create = ["user", "create", "-username", "bob", "-password", "hunter2"];
    admin.does(&create).await;
    let mut clients = Vec::new();
    for login in [
        &format!("apw:{PASSWORD}"),
        "bob@one:hunter2",
        "bob@two:hunter2",
    ] {
        let mut client = daemon.login(login).await;
        client.sync().await;
        clients.push(client);
    }
    let told = admin.does(&["server", "notice", "it's late"]).await;
    assert_eq!(told.lines, ["told 3 clients"]);
    for client in &mut clients {
        let is_it = |line: &str| line.starts_with(":*carom!") && line.ends_with(":it's late");
        client.expect_where("the notice", is_it).await;
    }
    clients[1].send("CAROM server notice hello").await;
    let said = clients[1].sync().await.join("\n");
    assert!(
        said.contains("only administrators may say \"server notice\""),
        "{said}"
    );
}

#[tokio::test]
async fn a_disabled_user_is_out_until_he_is_enabled_again() {
    let mut daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let create = ["user", "create", "-username", "bob", "-password", "hunter2"];
    admin.does(&create).await;
    let status = ["user", "status", "bob"];
    assert!(admin.does(&status).await.lines[0].contains("(never seen)"));
    let mut client = daemon.login("bob:hunter2").await;
    client.sync().await;
    let told = admin.does(&status).await.lines.remove(0);
    assert!(
        told.contains("1 client") && !told.contains("seen"),
        "{told}"
    );
    admin
        .does(&["user", "update", "bob", "-enabled", "false"])
        .await;
    assert!(
        client
            .expect("ERROR")
            .await
            .contains("This account was closed")
    );
    daemon.kill().await;
    daemon.restart().await;
    let mut client = daemon.connect().await;
    client.register("bob:hunter2").await;
    client.expect("464").await;
    assert_eq!(admin.does(&status).await.lines, ["bob: disabled"]);
    let run = ["user", "run", "bob", "status"];
    let refused = admin.says(&run).await;
    assert_eq!(
        refused.lines,
        ["user \"bob\" is disabled: \"user update bob -enabled true\""]
    );
    admin
        .does(&["user", "update", "bob", "-enabled", "true"])
        .await;
    daemon.login("bob:hunter2").await.close().await;
    daemon.tells(&status, "(last seen ").await;
    admin.does(&["user", "delete", "bob"]).await;
    let refused = admin.says(&run).await;
    assert_eq!(
        refused.lines,
        ["user \"bob\" was deleted: \"user restore bob\""]
    );
}

#[tokio::test]
async fn a_user_has_as_many_networks_as_he_may() {
    let daemon = Daemon::start(&config("")).await;
    let admin = Administrator::of(&daemon);
    let create = [
        "user",
        "create",
        "-username",
        "bob",
        "-password",
        "hunter2",
        "-max-networks",
        "1",
    ];
    admin.does(&create).await;
    let mut client = daemon.login("bob:hunter2").await;
    let create = "CAROM network create -enabled false -addr ircs://nowhere.invalid -name";
    for (name, expected) in [
        ("one", "network one: made"),
        ("two", "has 1 networks, and that is the most"),
    ] {
        client.send(&format!("{create} {name}")).await;
        let told = client.sync().await.join("\n");
        assert!(told.contains(expected), "{told}");
    }
    admin
        .does(&["user", "update", "bob", "-max-networks", "2"])
        .await;
    client.send(&format!("{create} two")).await;
    let told = client.sync().await.join("\n");
    assert!(told.contains("network two: made"), "{told}");
}
