//! Memory of an idle daemon: KiB for each user with a network of 5 channels with 200 members, and for each idle client,
//! in clear text and with TLS. It is what is in RAM and the daemon's alone; the environment (MALLOC_ARENA_MAX) is passed
//! on. `cargo bench --bench memory`.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::panic)]

mod support;

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use support::{Client, Daemon, Gauge, Ircd, channels, head, user};

/// KiB with so many users whose networks are connected.
async fn users(count: usize) -> f64 {
    let mut ircd = Ircd::start(5, 200).await;
    let users = (0..count).map(|n| user(&format!("user{n}"), Some(ircd.addr()), &channels(5)));
    let pace = "[dial]\npace = { burst = 1000, every = \"1ms\" }\n";
    let daemon = Daemon::start(&format!(
        "{}{pace}{}",
        head("irc"),
        users.collect::<String>()
    ));
    let mut links = Vec::new();
    for _ in 0..count {
        links.push(ircd.link().await);
    }
    daemon.quiet();
    daemon.memory()
}

/// KiB with so many idle clients.
async fn clients(count: usize, tls: bool) -> f64 {
    let mut ircd = Ircd::start(5, 20).await;
    let scheme = if tls { "ircs" } else { "irc" };
    let config = format!(
        "{}{}",
        head(scheme),
        user("apw", Some(ircd.addr()), &channels(5))
    );
    let daemon = Daemon::start(&config);
    let _link = ircd.link().await;
    let gauge = Gauge::default();
    let mut attached = Vec::new();
    for n in 0..count {
        let login = format!("apw/net@c{n}");
        let stream = TcpStream::connect(daemon.addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        attached.push(if tls {
            let stream = connector()
                .connect(ServerName::from(daemon.addr().ip()), stream)
                .await
                .unwrap();
            Client::attach_on(stream, &login, "", &gauge).await
        } else {
            Client::attach_on(stream, &login, "", &gauge).await
        });
    }
    daemon.quiet();
    daemon.memory()
}

fn connector() -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    Arc::new(config).into()
}

/// The daemon's certificate is its own.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn main() {
    let (few, more) = if support::in_earnest() {
        (10, 200)
    } else {
        (1, 2)
    };
    let (least, most) = (
        support::block_on(users(few)),
        support::block_on(users(few + more)),
    );
    println!(
        "memory, idle user: {:.1} KiB ({few} users: {:.1} MiB, {}: {:.1} MiB)",
        (most - least) / more as f64,
        least / 1024.0,
        few + more,
        most / 1024.0
    );
    let (few, more) = if support::in_earnest() {
        (5, 100)
    } else {
        (1, 2)
    };
    for tls in [false, true] {
        let (least, most) = (
            support::block_on(clients(few, tls)),
            support::block_on(clients(few + more, tls)),
        );
        let what = if tls { "TLS" } else { "clear text" };
        println!(
            "memory, idle client, {what}: {:.1} KiB",
            (most - least) / more as f64
        );
    }
}
