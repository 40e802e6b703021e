//! Whom we believe: fingerprints, the judge of servers' certificates, the judge of clients' (who takes any: `auth` decides
//! by fingerprint), and what is said when a certificate is refused. Configurations and handshakes are `tls`'s.

use std::fmt;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use sha2::{Digest, Sha256};

use crate::config::{Pin, Verify};
use crate::wire::Timestamp;

/// SHA-256 of a certificate and of its public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// Of the whole certificate (DER).
    pub certificate: [u8; 32],
    /// Of its subject public key info; `None` when the certificate cannot be taken apart.
    pub key: Option<[u8; 32]>,
}

impl Fingerprint {
    /// Of a certificate in DER.
    pub fn of(der: &[u8]) -> Self {
        let key = x509_parser::parse_x509_certificate(der)
            .ok()
            .map(|(_, parsed)| Sha256::digest(parsed.tbs_certificate.subject_pki.raw).into());
        Self {
            certificate: Sha256::digest(der).into(),
            key,
        }
    }

    /// Whether it is what a pin names.
    pub fn matches(&self, pin: &Pin) -> bool {
        match pin {
            Pin::Certificate(hash) => self.certificate == *hash,
            Pin::Key(hash) => self.key.as_ref() == Some(hash),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.certificate
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The judge of one network's servers.
#[derive(Debug)]
pub(super) struct ServerJudge {
    pub(super) verify: Verify,
    /// Chain and name; absent when they are not checked.
    pub(super) chain: Option<Arc<WebPkiServerVerifier>>,
    /// Certificates trusted as they are.
    pub(super) exact: Vec<CertificateDer<'static>>,
    pub(super) pins: Vec<Pin>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerJudge {
    fn check_pins(&self, print: Fingerprint) -> Result<(), Error> {
        if self.pins.iter().any(|pin| print.matches(pin)) {
            return Ok(());
        }
        Err(refuse(
            format!("certificate is not the pinned one: it is {print}"),
            Some(print),
        ))
    }
}

impl ServerCertVerifier for ServerJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let print = Fingerprint::of(end_entity);
        let is_exact = self.exact.iter().any(|known| known == end_entity);
        match (&self.chain, self.verify) {
            (_, Verify::None) => {}
            (_, Verify::Pin) => self.check_pins(print)?,
            (Some(chain), Verify::Ca) if !is_exact => {
                chain
                    .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                    .map_err(|error| explained(error, print))?;
            }
            (None, Verify::Ca) if !is_exact => {
                return Err(explained(CertificateError::UnknownIssuer.into(), print));
            }
            (_, Verify::Ca) => {}
        }
        if self.verify == Verify::Ca && !self.pins.is_empty() {
            self.check_pins(print)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
            .map_err(|error| unproven(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
            .map_err(|error| unproven(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Asks clients for a certificate, does without, and takes any whose key they hold.
#[derive(Debug)]
pub(super) struct ClientJudge {
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for ClientJudge {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A refusal in our words, carried through rustls.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Refusal {
    text: String,
    certificate: Option<Fingerprint>,
}

fn refuse(text: String, certificate: Option<Fingerprint>) -> Error {
    CertificateError::Other(OtherError(Arc::new(Refusal { text, certificate }))).into()
}

/// The certificate that one of our refusals is about; `None` where to take it would not help.
pub(super) fn refused(error: &OtherError) -> Option<Fingerprint> {
    error.0.downcast_ref::<Refusal>()?.certificate
}

/// The same error with words for people; what is not about a certificate stays as it is.
fn explained(error: Error, print: Fingerprint) -> Error {
    match error {
        Error::InvalidCertificate(problem) => {
            // What cannot be read does not get better by a pin.
            let certificate = Some(print).filter(|_| !is_version_1(&problem));
            refuse(words(&problem, print), certificate)
        }
        other => other,
    }
}

/// The server did not prove that the certificate is its own.
fn unproven(error: Error, certificate: &CertificateDer<'_>) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::BadSignature) => refuse(
            "the server does not hold the key of its certificate".to_owned(),
            None,
        ),
        other => explained(other, Fingerprint::of(certificate)),
    }
}

fn words(problem: &CertificateError, print: Fingerprint) -> String {
    match problem {
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("certificate expired on {}", date(*not_after))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate is not valid before {}", date(*not_before))
        }
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let names: Vec<_> = presented.iter().map(|name| plain_name(name)).collect();
            let names = if names.is_empty() {
                "no name".to_owned()
            } else {
                names.join(", ")
            };
            format!(
                "certificate is for {names}, not for {} ({print})",
                expected.to_str()
            )
        }
        // A self-signed certificate with the name of a known authority fails by its signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            unknown_authority(print)
        }
        CertificateError::Revoked => "certificate has been revoked".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            format!("certificate is not meant for servers ({print})")
        }
        CertificateError::Other(other) => match other.to_string().as_str() {
            // A self-signed certificate that calls itself an authority, as `openssl req -x509` makes them.
            text if text.contains("CaUsedAsEndEntity") => unknown_authority(print),
            _ if is_version_1(problem) => {
                "certificate is of X.509 version 1, which is not supported".to_owned()
            }
            text => format!("certificate refused: {text} ({print})"),
        },
        other => format!("certificate refused: {other} ({print})"),
    }
}

fn is_version_1(problem: &CertificateError) -> bool {
    matches!(problem, CertificateError::Other(other) if other.to_string().contains("UnsupportedCertVersion"))
}

fn unknown_authority(print: Fingerprint) -> String {
    format!(
        "certificate is of an unknown authority: {print}; if that is the right one, pin it (verify = \"pin\")"
    )
}

/// `DnsName("irc.example.org")` as webpki lists names, without its wrapping.
fn plain_name(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

fn date(time: UnixTime) -> String {
    let millis = i64::try_from(time.as_secs())
        .unwrap_or(i64::MAX)
        .saturating_mul(1000);
    let mut text = Vec::new();
    Timestamp::from_millis(millis).write(&mut text);
    String::from_utf8_lossy(text.get(..10).unwrap_or(&text)).into_owned()
}
