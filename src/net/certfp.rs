//! Certificates that we show to servers: made here, in one PEM file with their key, and told by the fingerprints that
//! services ask for. Which file is a network's, the configuration says; it is read for a handshake by `tls`.

use std::fmt::Write;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rcgen::KeyPair;
use rsa::RsaPrivateKey;
use rsa::pkcs8::EncodePrivateKey;
use rsa::rand_core::OsRng;
use rustls::pki_types::PrivatePkcs8KeyDer;
use sha2::{Digest, Sha256, Sha512};

use super::pem;
use super::tls::{TlsError, write_whole};
use crate::command::KeyType;

/// Of an RSA key. With fewer it is as strong as 112 bits, with more each handshake takes longer.
const RSA_BITS: usize = 3072;

/// A certificate as services know it, in hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prints {
    /// SHA-256 of the certificate (DER).
    pub sha256: String,
    /// SHA-512 of the same.
    pub sha512: String,
}

impl Prints {
    fn of(der: &[u8]) -> Self {
        Self {
            sha256: hex(&Sha256::digest(der)),
            sha512: hex(&Sha512::digest(der)),
        }
    }

    /// Of the certificate in a file, the first one if there are several.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        Ok(Self::of(&pem::certificates(path)?[0]))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

/// Where the certificates of networks are, in the data folder.
pub fn folder(data: &Path) -> PathBuf {
    data.join("certificates")
}

/// The file of a network. It has the number, which stays when the network is renamed and is never another one's.
pub fn file(folder: &Path, user: &str, network: &str, number: u64) -> PathBuf {
    folder.join(user).join(format!("{network}-{number}.pem"))
}

/// Removes the file of the network with this number, whatever it was called.
pub fn remove(folder: &Path, number: u64) -> io::Result<()> {
    let end = format!("-{number}.pem");
    let users = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        users => users?,
    };
    for user in users {
        let user = user?;
        if !user.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(user.path())? {
            let file = file?;
            if file.file_name().to_string_lossy().ends_with(&end) {
                fs::remove_file(file.path())?;
                // Only the last one leaves an empty folder behind.
                _ = fs::remove_dir(user.path());
            }
        }
    }
    Ok(())
}

/// Makes a self-signed certificate for `name` and writes it with its key (mode 0600), in a folder that is made when it is
/// missing (0700). What was there before is replaced whole or not at all.
pub fn make(path: &Path, name: &str, key_type: KeyType) -> Result<Prints, TlsError> {
    let failed = |reason: String| TlsError::Make {
        name: name.to_owned(),
        reason,
    };
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let pair = key_pair(key_type).map_err(failed)?;
    let made = params
        .self_signed(&pair)
        .map_err(|error| failed(error.to_string()))?;
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| TlsError::Write {
            path: folder.to_owned(),
            source,
        })?;
    }
    let pem = zeroize::Zeroizing::new(made.pem() + &pair.serialize_pem());
    write_whole(path, pem.as_bytes(), 0o600)?;
    Ok(Prints::of(made.der()))
}

/// A new key. ring makes none of RSA, but takes one.
fn key_pair(key_type: KeyType) -> Result<KeyPair, String> {
    let algorithm = match key_type {
        KeyType::Ecdsa => &rcgen::PKCS_ECDSA_P256_SHA256,
        KeyType::Ed25519 => &rcgen::PKCS_ED25519,
        KeyType::Rsa => return rsa_pair(),
    };
    KeyPair::generate_for(algorithm).map_err(|error| error.to_string())
}

fn rsa_pair() -> Result<KeyPair, String> {
    let key = RsaPrivateKey::new(&mut OsRng, RSA_BITS).map_err(|error| error.to_string())?;
    let der = key.to_pkcs8_der().map_err(|error| error.to_string())?;
    let der = PrivatePkcs8KeyDer::from(der.as_bytes());
    let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256);
    pair.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rustls::crypto::ring::sign::any_supported_type;

    use super::*;

    #[test]
    fn what_is_made_is_nobody_elses_and_can_be_read_back() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("certificates/apw/net.pem");
        let mut known = Vec::new();
        for key_type in [KeyType::Ecdsa, KeyType::Ed25519, KeyType::Rsa] {
            let made = make(&path, "apw", key_type).unwrap();
            assert_eq!(Prints::read(&path).unwrap(), made);
            assert_eq!((made.sha256.len(), made.sha512.len()), (64, 128));
            // The key is read as any other: others must not be able to.
            let key = pem::private_key(&path).unwrap();
            assert!(any_supported_type(&key).is_ok(), "{key_type:?}");
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&path), 0o600);
            assert_eq!(mode(path.parent().unwrap()), 0o700);
            assert!(!known.contains(&made), "another one each time");
            known.push(made);
        }
    }

    #[test]
    fn the_file_of_a_network_is_found_whatever_the_network_was_called() {
        let data = tempfile::TempDir::new().unwrap();
        let folder = folder(data.path());
        remove(&folder, 1).unwrap();
        let files = [("apw", "net", 1), ("apw", "net-1", 11), ("bob", "x-11", 2)];
        let files = files.map(|(user, network, number)| file(&folder, user, network, number));
        for file in &files {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        let there = || files.each_ref().map(|file| file.exists());
        remove(&folder, 11).unwrap();
        assert_eq!(there(), [true, false, true]);
        remove(&folder, 2).unwrap();
        assert_eq!(there(), [true, false, false]);
        assert!(!folder.join("bob").exists());
        remove(&folder, 3).unwrap();
        assert!(files[0].exists());
    }
}
