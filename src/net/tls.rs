//! TLS on both sides: the configuration of our listeners, which can be swapped while running, those towards networks, and
//! the handshakes. rustls shows only here, in `trust` (who is believed) and in `pem` (files). The provider is always named,
//! so that a second one in the dependency tree cannot make a choice at run time.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ProtocolVersion, RootCertStore, ServerConfig,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::Stream;
use super::pem::{self, PemError};
use super::race::{Fault, FaultKind};
use super::trust::{ClientJudge, Fingerprint, ServerJudge, refused};
use crate::config::{Tls, Trust, Verify};

/// A client's TLS connection to us.
pub type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;
/// Our TLS connection to a server.
pub type ClientStream = tokio_rustls::client::TlsStream<TcpStream>;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the system's roots are used before they are read again.
const ROOTS_AGE: Duration = Duration::from_secs(24 * 3600);
/// The application protocol of IRC; clients that ask for none are welcome, those that ask for another are not.
const ALPN: &[u8] = b"irc";
/// That of web clients.
const ALPN_WEB: &[u8] = b"http/1.1";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file is missing or wrong.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A private key cannot be used, or is of another certificate.
    #[error("{} and {} cannot be used together: {reason}", certificate.display(), key.display())]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system has no trusted roots.
    #[error(
        "this system has no trusted certificates ({reason}): install its package of CA certificates, or name a file in `ca`"
    )]
    NoRoots {
        /// What was found.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate for {name}: {reason}")]
    Make {
        /// The host's name in it.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A made certificate or key could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Takes clients' handshakes. Clones share one configuration, which can be swapped.
#[derive(Clone)]
pub struct Acceptor {
    current: Arc<RwLock<Identity>>,
}

#[derive(Clone)]
struct Identity {
    config: Arc<ServerConfig>,
    /// For web clients. It asks for no certificate: a browser would show it for any page that asks it to connect.
    web: Arc<ServerConfig>,
    fingerprint: Fingerprint,
}

impl Acceptor {
    /// Reads certificate and key; makes them first when they are ours to make and not there yet.
    pub fn open(tls: &Tls, server_name: &str) -> Result<Self, TlsError> {
        if tls.made && !tls.certificate.exists() {
            let fingerprint = make_certificate(&tls.certificate, &tls.key, server_name)?;
            tracing::info!(path = %tls.certificate.display(), %fingerprint, "certificate made");
        }
        Ok(Self {
            current: Arc::new(RwLock::new(Identity::load(tls)?)),
        })
    }

    /// Reads the files again; new handshakes use them. On an error all stays as it was.
    pub fn reload(&self, tls: &Tls) -> Result<(), TlsError> {
        let identity = Identity::load(tls)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = identity;
        Ok(())
    }

    /// What clients see us as.
    pub fn fingerprint(&self) -> Fingerprint {
        self.identity().fingerprint
    }

    /// Does the handshake, within 10 s. Streams that are not plain TCP come back as they are.
    /// `web`: of a web client.
    pub async fn accept(&self, stream: Stream, web: bool) -> io::Result<Stream> {
        let Stream::Tcp(tcp) = stream else {
            return Ok(stream);
        };
        let identity = self.identity();
        let config = if web { identity.web } else { identity.config };
        let handshake = TlsAcceptor::from(config).accept(tcp);
        match timeout(HANDSHAKE, handshake).await {
            Ok(done) => Ok(Stream::TlsServer(Box::new(done?))),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "no TLS handshake within 10 s",
            )),
        }
    }

    fn identity(&self) -> Identity {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Acceptor({})", self.fingerprint())
    }
}

impl Identity {
    fn load(tls: &Tls) -> Result<Self, TlsError> {
        let chain = pem::certificates(&tls.certificate)?;
        let key = pem::private_key(&tls.key)?;
        let fingerprint = Fingerprint::of(&chain[0]);
        let provider = provider();
        let judge = ClientJudge {
            algorithms: provider.signature_verification_algorithms,
        };
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring knows TLS 1.2 and 1.3");
        let wrong = |error: rustls::Error| TlsError::Pair {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            reason: pair_words(&error),
        };
        let mut web = builder
            .clone()
            .with_no_client_auth()
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(wrong)?;
        web.alpn_protocols = vec![ALPN_WEB.to_vec()];
        let mut config = builder
            .with_client_cert_verifier(Arc::new(judge))
            .with_single_cert(chain, key)
            .map_err(wrong)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            config: Arc::new(config),
            web: Arc::new(web),
            fingerprint,
        })
    }
}

/// The system's trusted certificates, read once a day on a blocking thread; clones share them.
#[derive(Clone, Default)]
pub struct Roots {
    read: Arc<Mutex<Option<RootsAt>>>,
}

/// When the roots were read, and they.
type RootsAt = (Instant, Arc<RootCertStore>);

impl Roots {
    async fn system(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let known = self
            .read
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((at, roots)) = known
            && at.elapsed() < ROOTS_AGE
        {
            return Ok(roots);
        }
        let roots = tokio::task::spawn_blocking(read_system_roots)
            .await
            .map_err(|error| TlsError::NoRoots {
                reason: error.to_string(),
            })??;
        let roots = Arc::new(roots);
        let fresh = Some((Instant::now(), Arc::clone(&roots)));
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(roots)
    }
}

fn read_system_roots() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found
            .errors
            .first()
            .map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(TlsError::NoRoots { reason });
    }
    Ok(roots)
}

/// Makes handshakes with the servers of one network.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ClientConfig>,
}

impl Connector {
    /// Reads what `trust` names and, when there is one, the client certificate with its key (one PEM file).
    pub async fn open(
        trust: &Trust,
        client_certificate: Option<&Path>,
        roots: &Roots,
    ) -> Result<Self, TlsError> {
        let system = match (trust.verify, &trust.ca) {
            (Verify::Ca, None) => Some(roots.system().await?),
            _ => None,
        };
        let (trust, own) = (trust.clone(), client_certificate.map(Path::to_owned));
        let config = tokio::task::spawn_blocking(move || client_config(&trust, own, system))
            .await
            .map_err(|error| TlsError::NoRoots {
                reason: error.to_string(),
            })??;
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Does the handshake with `host`, whose certificate is judged. No time limit of its own.
    pub(super) async fn connect(&self, host: &str, tcp: TcpStream) -> Result<ClientStream, Fault> {
        let name = ServerName::try_from(host.trim_end_matches('.').to_owned()).map_err(|_| {
            Fault::new(
                FaultKind::Policy,
                format!("{host} cannot be the name in a certificate"),
            )
        })?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        connector
            .connect(name, tcp)
            .await
            .map_err(|error| fault(&error))
    }
}

fn client_config(
    trust: &Trust,
    own: Option<PathBuf>,
    system: Option<Arc<RootCertStore>>,
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let judge = server_judge(trust, system, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge));
    let Some(path) = own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = pem::certificates(&path)?;
    let key = pem::private_key(&path)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| TlsError::Pair {
            certificate: path.clone(),
            key: path,
            reason: pair_words(&error),
        })
}

fn server_judge(
    trust: &Trust,
    system: Option<Arc<RootCertStore>>,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerJudge, TlsError> {
    let (roots, exact) = match (&trust.ca, system) {
        (Some(path), _) if trust.verify == Verify::Ca => {
            let exact = pem::certificates(path)?;
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(exact.iter().cloned());
            (Some(Arc::new(roots)), exact)
        }
        (_, system) => (system, Vec::new()),
    };
    let chain = roots.filter(|roots| !roots.is_empty()).and_then(|roots| {
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .ok()
    });
    Ok(ServerJudge {
        verify: trust.verify,
        chain,
        exact,
        pins: trust.pins.clone(),
        algorithms: provider.signature_verification_algorithms,
    })
}

/// Makes a self-signed certificate for this host, writes key (mode 0600) and certificate, each whole or not at all.
pub fn make_certificate(
    certificate: &Path,
    key: &Path,
    server_name: &str,
) -> Result<Fingerprint, TlsError> {
    let failed = |error: rcgen::Error| TlsError::Make {
        name: server_name.to_owned(),
        reason: error.to_string(),
    };
    let mut names = vec![
        "localhost".to_owned(),
        "::1".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    if !names.iter().any(|name| name == server_name) && !server_name.is_empty() {
        names.insert(0, server_name.to_owned());
    }
    let mut params = rcgen::CertificateParams::new(names).map_err(failed)?;
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, server_name);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let pair = rcgen::KeyPair::generate().map_err(failed)?;
    let made = params.self_signed(&pair).map_err(failed)?;
    // The certificate comes last: where it is, the key is too.
    write_whole(key, pair.serialize_pem().as_bytes(), 0o600)?;
    write_whole(certificate, made.pem().as_bytes(), 0o600)?;
    Ok(Fingerprint::of(made.der()))
}

/// Writes a file beside its place, syncs it and moves it there.
pub(super) fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let write = || {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| TlsError::Write {
        path: path.to_owned(),
        source,
    })
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(super) fn fingerprint_of(chain: Option<&[CertificateDer<'_>]>) -> Option<Fingerprint> {
    chain?.first().map(|leaf| Fingerprint::of(leaf))
}

pub(super) fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::TLSv1_3 => "TLS 1.3",
        ProtocolVersion::TLSv1_2 => "TLS 1.2",
        _ => "TLS",
    }
}

fn pair_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "the key is of another certificate".to_owned(),
        other => other.to_string(),
    }
}

/// A failed handshake with a server, sorted and in words.
fn fault(error: &io::Error) -> Fault {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        let text = match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                "the server closed the connection during the TLS handshake".to_owned()
            }
            _ => format!("TLS handshake: {error}"),
        };
        return Fault::new(FaultKind::Tls, text);
    };
    match inner {
        rustls::Error::InvalidCertificate(CertificateError::Other(refusal)) => {
            Fault::new(FaultKind::Certificate, refusal.to_string()).of(refused(refusal))
        }
        rustls::Error::InvalidCertificate(problem) => Fault::new(
            FaultKind::Certificate,
            format!("certificate refused: {problem}"),
        ),
        rustls::Error::InvalidMessage(_) => {
            Fault::new(FaultKind::Tls, "the server does not speak TLS on this port")
        }
        rustls::Error::PeerIncompatible(_)
        | rustls::Error::AlertReceived(
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure,
        ) => Fault::new(
            FaultKind::Tls,
            format!("no TLS version and cipher in common (TLS 1.2 or newer is needed): {inner}"),
        ),
        other => Fault::new(FaultKind::Tls, format!("TLS handshake: {other}")),
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
