//! Text logs beside a store in trouble, and what clients are told of it: of lines that are missing, over restarts, and of a
//! database that cannot be read any more.

use super::*;

/// Where the text logs of `#a` are, below the daemon's folder.
const TEXTS: &str = "texts/#a";

/// A daemon that writes text logs.
async fn with_texts(prepare: impl FnOnce(&Path)) -> Scene {
    let ircd = MockIrcd::start(Script::default()).await;
    let folder = TempDir::new().unwrap();
    prepare(folder.path());
    let log = "\n[log]\nlevel = \"debug\"\nchat_root = \"texts\"\nchat_format = \"%c\"\n";
    write_config(folder.path(), &(settings(&ircd.url()) + log));
    let daemon = Daemon::start_in(folder).await;
    Scene::with(ircd, daemon).await
}

/// Numbers of lines in the text log.
fn texts(text: &str) -> Vec<usize> {
    let said = text
        .lines()
        .filter_map(|line| line.split_once("bob!bob@host.test: "));
    said.map(|(_, said)| said.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn text_logs_have_a_line_when_the_store_has_it() {
    let mut scene = with_texts(|_| ()).await;
    scene.says(10).await;
    let stranger = Connection::open(scene.database()).unwrap();
    stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
    // More than the store keeps in memory: some are lost to it, and not to the texts.
    scene.says(WAITING + 20).await;
    scene.client.sync().await;
    let path = scene.daemon.path(TEXTS);
    let written = texts(&fs::read_to_string(&path).unwrap());
    assert!(
        written.len() <= 10,
        "{} lines are not stored",
        written.len() - 10
    );
    stranger.execute_batch("ROLLBACK").unwrap();
    assert_eq!(scene.told_of_lost().await, 20);
    scene.says(5).await;
    // What waits is written when the daemon stops.
    assert!(scene.daemon.stop().await.success());
    let written = texts(&fs::read_to_string(&path).unwrap());
    assert_eq!(written, (0..scene.said).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_disk_that_hangs_under_the_text_logs_keeps_nobody_waiting() {
    // Whoever opens a pipe to write waits until somebody reads.
    let mut scene = with_texts(|folder| {
        fs::create_dir(folder.join("texts")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(folder.join(TEXTS))
            .status();
        assert!(made.unwrap().success());
    })
    .await;
    // More than may wait for it.
    scene.says(10_000).await;
    scene.client.sync().await;
    scene.daemon.logged("lines are left out of them").await;
    assert_eq!(scene.stored().await.len(), 10_000);
    let path = scene.daemon.path(TEXTS);
    let reading = std::thread::spawn(move || fs::read_to_string(path).unwrap());
    assert!(scene.daemon.stop().await.success());
    let written = texts(&reading.join().unwrap());
    assert!(
        written.is_sorted() && written.len() >= 8000,
        "{}",
        written.len()
    );
}

/// Lines that clients were told are missing, up to now.
async fn told(client: &mut Client) -> Vec<String> {
    client.sync().await;
    let heard = client.heard().into_iter();
    let told = heard.filter(|line| line.contains("missing from the history"));
    told.map(|line| {
        let (_, text) = line.rsplit_once(" :").unwrap();
        text.split(' ').next().unwrap().to_owned()
    })
    .collect()
}

#[tokio::test]
async fn each_client_name_is_told_once_what_is_missing_even_after_a_kill() {
    let mut scene = Scene::new().await;
    for name in ["phone", "tablet"] {
        let mut client = attach(&scene.daemon, name).await;
        client.sync().await;
        client.close().await;
    }
    scene.loses_three_lines_unheard().await;
    scene.daemon.kill().await;
    scene.daemon.restart().await;
    let mut link = joined(&scene._ircd).await;
    for (name, expected) in [
        ("laptop", &["3"][..]),
        ("laptop", &[]),
        ("phone", &["3"]),
        ("new", &[]),
    ] {
        let mut client = attach(&scene.daemon, name).await;
        assert_eq!(told(&mut client).await, expected, "{name}");
        link.privmsg("bob", "#a", name).await;
        client.expect(&format!("PRIVMSG #a :{name}")).await;
        client.close().await;
    }
    // Whom it was told is not forgotten either.
    scene.daemon.stop().await;
    scene.daemon.restart().await;
    link = joined(&scene._ircd).await;
    for (name, expected) in [("phone", &[][..]), ("new", &[]), ("tablet", &["3"])] {
        let mut client = attach(&scene.daemon, name).await;
        assert_eq!(told(&mut client).await, expected, "{name}");
    }
    drop(link);
}

#[tokio::test]
async fn who_attaches_while_nothing_can_be_read_is_let_in_and_loses_nothing() {
    let mut scene = Scene::new().await;
    scene.says(5).await;
    let mut phone = attach(&scene.daemon, "phone").await;
    phone.sync().await;
    phone.close().await;
    scene.daemon.tells(&["client", "status"], "laptop").await;
    scene.says(2000).await;
    let stranger = Connection::open(scene.database()).unwrap();
    stranger
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        .unwrap();
    drop(stranger);
    let whole = fs::read(scene.database()).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(scene.database())
        .unwrap();
    for page in 1..whole.len() as u64 / 4096 {
        file.write_all_at(&[0xa5; 4096], page * 4096).unwrap();
    }
    let mut phone = attach(&scene.daemon, "phone").await;
    let told = phone.expect_where("why nothing is replayed", |line| {
        line.contains("what you missed cannot be read now")
    });
    let told = told.await;
    assert!(told.contains("malformed"), "{told}");
    // What is said from here on he hears, and the others too.
    scene.says(5).await;
    phone
        .expect_where("the last line", |line| line.contains("PRIVMSG #a :2009 "))
        .await;
    assert_eq!(numbers(&phone), (2005..2010).collect::<Vec<_>>());
    scene.daemon.tells(&["client", "status"], "phone").await;
    phone.close().await;
    // Somebody repairs the disk.
    file.write_all_at(&whole, 0).unwrap();
    scene.daemon.tells(&["client", "status"], "laptop").await;
    scene.says(5).await;
    let mut phone = attach(&scene.daemon, "phone").await;
    phone.sync().await;
    assert_eq!(numbers(&phone), (5..2015).collect::<Vec<_>>());
}
