//! Handshakes over loopback between the two sides of this module, with certificates made on the spot.

use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, date_time_ymd};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::UnixTime;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config::Pin;

/// A folder with certificates and keys.
struct Papers {
    folder: TempDir,
}

impl Papers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Certificate and key of a server, self-signed unless an authority is given.
    fn server(&self, params: &CertificateParams, by: Option<&CertifiedIssuer<'_, KeyPair>>) -> Tls {
        let key = KeyPair::generate().unwrap();
        let certificate = match by {
            Some(issuer) => params.signed_by(&key, issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Tls {
            certificate: self.write("server.pem", &certificate.pem()),
            key: self.write("server.key", &key.serialize_pem()),
            made: false,
        }
    }

    /// An authority, and how to trust it.
    fn authority(&self) -> (CertifiedIssuer<'static, KeyPair>, Trust) {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "an authority");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = Some(self.write("ca.pem", &issuer.pem()));
        (
            issuer,
            Trust {
                ca,
                ..Trust::default()
            },
        )
    }
}

fn named(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

/// Both ends of a handshake, made with `irc.test`.
async fn shake(
    tls: &Tls,
    trust: &Trust,
    own: Option<&Path>,
) -> (io::Result<Stream>, Result<Stream, Fault>) {
    let acceptor = Acceptor::open(tls, "irc.test").unwrap();
    let connector = Connector::open(trust, own, &Roots::default())
        .await
        .unwrap();
    shake_with(&acceptor, &connector).await
}

async fn shake_with(
    acceptor: &Acceptor,
    connector: &Connector,
) -> (io::Result<Stream>, Result<Stream, Fault>) {
    let (server, client) = tcp_pair().await;
    tokio::join!(acceptor.accept(Stream::Tcp(server), false), async {
        let tls = connector.connect("irc.test", client).await?;
        Ok(Stream::TlsClient(Box::new(tls)))
    })
}

async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    (listener.accept().await.unwrap().0, client)
}

/// Why our side refuses a server.
async fn refusal(tls: &Tls, trust: &Trust) -> Fault {
    shake(tls, trust, None).await.1.unwrap_err()
}

fn print_of(tls: &Tls) -> Fingerprint {
    Fingerprint::of(&pem::certificates(&tls.certificate).unwrap()[0])
}

#[tokio::test]
async fn a_certificate_of_a_known_authority_is_accepted_and_bytes_pass() {
    let papers = Papers::new();
    let (authority, trust) = papers.authority();
    let tls = papers.server(&named("irc.test"), Some(&authority));
    let (server, client) = shake(&tls, &trust, None).await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    assert_eq!(client.tls_version(), Some("TLS 1.3"));
    assert_eq!(client.peer_fingerprint(), Some(print_of(&tls)));
    assert_eq!(server.peer_fingerprint(), None);
    server.write_all(b"PING :1\r\n").await.unwrap();
    server.flush().await.unwrap();
    let mut got = [0; 9];
    client.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"PING :1\r\n");
}

#[tokio::test]
async fn a_refused_certificate_says_why() {
    let papers = Papers::new();
    let (authority, trust) = papers.authority();

    let tls = papers.server(&named("irc.example.net"), Some(&authority));
    let fault = refusal(&tls, &trust).await;
    let text = format!(
        "certificate is for irc.example.net, not for irc.test ({})",
        print_of(&tls)
    );
    let print = Some(print_of(&tls));
    assert_eq!(fault, Fault::new(FaultKind::Certificate, text).of(print));

    let mut old = named("irc.test");
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 2, 3));
    let tls = papers.server(&old, Some(&authority));
    assert_eq!(
        refusal(&tls, &trust).await.text,
        "certificate expired on 2021-02-03"
    );

    let mut early = named("irc.test");
    early.not_before = date_time_ymd(3000, 1, 2);
    let tls = papers.server(&early, Some(&authority));
    assert_eq!(
        refusal(&tls, &trust).await.text,
        "certificate is not valid before 3000-01-02"
    );
}

#[tokio::test]
async fn an_unknown_authority_shows_the_fingerprint() {
    let papers = Papers::new();
    let (_, trust) = papers.authority();
    let mut own_authority = named("irc.test");
    own_authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    for params in [named("irc.test"), own_authority] {
        let tls = papers.server(&params, None);
        let fault = refusal(&tls, &trust).await;
        assert_eq!(fault.kind, FaultKind::Certificate);
        let begin = format!(
            "certificate is of an unknown authority: {};",
            print_of(&tls)
        );
        assert!(fault.text.starts_with(&begin), "{}", fault.text);
    }
}

#[tokio::test]
async fn a_certificate_in_ca_that_is_the_servers_own_is_trusted() {
    let papers = Papers::new();
    // No authority, and of another name.
    let tls = papers.server(&named("else.test"), None);
    let trust = Trust {
        ca: Some(tls.certificate.clone()),
        ..Trust::default()
    };
    assert!(shake(&tls, &trust, None).await.1.is_ok());
}

#[tokio::test]
async fn pins_are_enough_alone_and_come_on_top_of_the_chain() {
    let papers = Papers::new();
    let (authority, by_chain) = papers.authority();
    let tls = papers.server(&named("irc.test"), Some(&authority));
    let print = print_of(&tls);
    let wrong = Pin::Certificate([7; 32]);
    for right in [
        Pin::Certificate(print.certificate),
        Pin::Key(print.key.unwrap()),
    ] {
        let alone = Trust {
            verify: Verify::Pin,
            pins: vec![wrong, right],
            ca: None,
        };
        assert!(shake(&tls, &alone, None).await.1.is_ok(), "{right:?}");
        let on_top = Trust {
            pins: vec![right],
            ..by_chain.clone()
        };
        assert!(shake(&tls, &on_top, None).await.1.is_ok(), "{right:?}");
    }
    let text = format!("certificate is not the pinned one: it is {print}");
    for verify in [Verify::Pin, Verify::Ca] {
        let trust = Trust {
            verify,
            pins: vec![wrong],
            ..by_chain.clone()
        };
        assert_eq!(refusal(&tls, &trust).await.text, text);
    }
    let none = Trust {
        verify: Verify::None,
        ..Trust::default()
    };
    assert!(shake(&tls, &none, None).await.1.is_ok());
}

#[tokio::test]
async fn a_client_certificate_of_any_authority_shows_its_fingerprint() {
    let papers = Papers::new();
    let tls = papers.server(&named("irc.test"), None);
    let key = KeyPair::generate().unwrap();
    let certificate = named("apw").self_signed(&key).unwrap();
    let own = papers.write("own.pem", &(certificate.pem() + &key.serialize_pem()));
    let any = Trust {
        verify: Verify::None,
        ..Trust::default()
    };
    let (server, client) = shake(&tls, &any, Some(&own)).await;
    client.unwrap();
    assert_eq!(
        server.unwrap().peer_fingerprint(),
        Some(Fingerprint::of(certificate.der()))
    );
}

#[tokio::test]
async fn only_the_application_protocol_of_irc_is_accepted() {
    let papers = Papers::new();
    let tls = papers.server(&named("irc.test"), None);
    let acceptor = Acceptor::open(&tls, "irc.test").unwrap();
    let any = Trust {
        verify: Verify::None,
        ..Trust::default()
    };
    let plain = client_config(&any, None, None).unwrap();
    for (protocol, accepted) in [(&b"irc"[..], true), (b"http/1.1", false), (b"h2", false)] {
        let mut config = plain.clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        let connector = Connector {
            config: Arc::new(config),
        };
        let (server, _) = shake_with(&acceptor, &connector).await;
        assert_eq!(server.is_ok(), accepted, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_reload_changes_what_new_clients_see_and_a_bad_one_changes_nothing() {
    let papers = Papers::new();
    let tls = papers.server(&named("irc.test"), None);
    let acceptor = Acceptor::open(&tls, "irc.test").unwrap();
    let shared = acceptor.clone();
    let first = print_of(&tls);
    assert_eq!(acceptor.fingerprint(), first);

    let good_key = fs::read_to_string(&tls.key).unwrap();
    papers.server(&named("irc.test"), None);
    papers.write("server.key", &good_key);
    let error = acceptor.reload(&tls).unwrap_err().to_string();
    assert!(
        error.ends_with("cannot be used together: the key is of another certificate"),
        "{error}"
    );
    assert_eq!(acceptor.fingerprint(), first);

    papers.server(&named("irc.test"), None);
    acceptor.reload(&tls).unwrap();
    assert_ne!(shared.fingerprint(), first, "clones share it");
    let any = Trust {
        verify: Verify::None,
        ..Trust::default()
    };
    let connector = Connector::open(&any, None, &Roots::default())
        .await
        .unwrap();
    let (_, client) = shake_with(&shared, &connector).await;
    assert_eq!(client.unwrap().peer_fingerprint(), Some(print_of(&tls)));
}

#[tokio::test]
async fn the_first_run_makes_a_certificate_once_and_its_key_is_private() {
    let papers = Papers::new();
    let tls = Tls {
        certificate: papers.path("made.pem"),
        key: papers.path("made.key"),
        made: true,
    };
    let made = Acceptor::open(&tls, "bnc.example.org")
        .unwrap()
        .fingerprint();
    for file in [&tls.key, &tls.certificate] {
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    assert_eq!(
        fs::read_dir(papers.folder.path()).unwrap().count(),
        2,
        "nothing is left over"
    );
    assert_eq!(
        Acceptor::open(&tls, "bnc.example.org")
            .unwrap()
            .fingerprint(),
        made
    );

    // A judge that knows it as an authority checks names and dates.
    let mut roots = RootCertStore::empty();
    let own = pem::certificates(&tls.certificate).unwrap().remove(0);
    roots.add(own.clone()).unwrap();
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
    let judge = judge.build().unwrap();
    for (name, known) in [
        ("bnc.example.org", true),
        ("localhost", true),
        ("::1", true),
        ("127.0.0.1", true),
        ("else.test", false),
    ] {
        let server = ServerName::try_from(name).unwrap();
        let verdict = judge.verify_server_cert(&own, &[], &server, &[], UnixTime::now());
        assert_eq!(verdict.is_ok(), known, "{name}: {verdict:?}");
    }
}

#[tokio::test]
async fn what_is_no_tls_is_called_so() {
    let any = Trust {
        verify: Verify::None,
        ..Trust::default()
    };
    let connector = Connector::open(&any, None, &Roots::default())
        .await
        .unwrap();
    let (mut server, client) = tcp_pair().await;
    server
        .write_all(b":irc.test NOTICE * :*** Looking up your hostname\r\n")
        .await
        .unwrap();
    let fault = connector.connect("irc.test", client).await.unwrap_err();
    assert_eq!(
        fault,
        Fault::new(FaultKind::Tls, "the server does not speak TLS on this port")
    );

    let (server, client) = tcp_pair().await;
    drop(server);
    let fault = connector.connect("irc.test", client).await.unwrap_err();
    assert_eq!(
        fault.text,
        "the server closed the connection during the TLS handshake"
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_shakes_hands_is_left() {
    let papers = Papers::new();
    let tls = papers.server(&named("irc.test"), None);
    let acceptor = Acceptor::open(&tls, "irc.test").unwrap();
    let (server, _client) = tcp_pair().await;
    let error = acceptor
        .accept(Stream::Tcp(server), false)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_missing_file_is_named() {
    let trust = Trust {
        ca: Some("/nonexistent/ca.pem".into()),
        ..Trust::default()
    };
    let Err(error) = Connector::open(&trust, None, &Roots::default()).await else {
        panic!("there is no such file")
    };
    assert!(
        error
            .to_string()
            .starts_with("cannot read /nonexistent/ca.pem"),
        "{error}"
    );
}

/// A certificate of X.509 version 1, which nothing here can make.
const VERSION_1: &str = "-----BEGIN CERTIFICATE-----
MIIBJDCBywIUOiNLCSkWZpyvn3pB2KAKQJuoEwMwCgYIKoZIzj0EAwIwFDESMBAG
A1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMjAwMDM1MFoYDzIxMjYxMDI5MDAwMzUw
WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNC
AARwAgdB9M9lVYc/scjJbJt1qDiHyt14htTgh/R7No9rkxAIdUhU6SqE2EAUz4aq
ayW7kvyssjrlI6Vg+hcXMcz3MAoGCCqGSM49BAMCA0gAMEUCIQCK3LdOZJzbs/T5
vfhAtmGO4Evsy74QpSWYRTVPSpuRAgIgBuK46Z6tYR/adnuCL2FyO78K4JxOJtYk
HzWNiYGuBRw=
-----END CERTIFICATE-----
";

#[test]
fn a_certificate_of_version_1_is_refused_with_its_reason() {
    let papers = Papers::new();
    let (_, trust) = papers.authority();
    let judge = server_judge(&trust, None, &provider()).unwrap();
    let old = pem::certificates(&papers.write("old.pem", VERSION_1))
        .unwrap()
        .remove(0);
    let name = ServerName::try_from("localhost").unwrap();
    let error = judge
        .verify_server_cert(&old, &[], &name, &[], UnixTime::now())
        .unwrap_err();
    let error = fault(&io::Error::other(error));
    let text = "certificate is of X.509 version 1, which is not supported";
    assert_eq!(error, Fault::new(FaultKind::Certificate, text));
}
