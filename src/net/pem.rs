//! PEM files: the one place that uses `rustls-pemfile`, which is archived (RUSTSEC-2025-0134, no vulnerability known). Its
//! successor is `rustls-pki-types`; moving there changes the loop in `items` and nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;
use zeroize::Zeroizing;

/// What is wrong with a PEM file.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not PEM, or damaged.
    #[error("{} is not a proper PEM file: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: io::Error,
    },
    /// There is no certificate in it.
    #[error("{} holds no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// There is no private key in it.
    #[error("{} holds no private key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key needs a pass phrase.
    #[error(
        "{} holds an encrypted private key, which is not supported: remove its pass phrase, for \
         example with `openssl pkey -in FILE -out FILE`", path.display()
    )]
    Encrypted {
        /// The file.
        path: PathBuf,
    },
    /// Everybody on this machine could use the key.
    #[error("{} holds a private key that others can read: `chmod 600` it", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
    },
}

/// All certificates of a file, in order; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let list: Vec<_> = items(path, &read(path)?)?
        .into_iter()
        .filter_map(|item| match item {
            Item::X509Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    if list.is_empty() {
        return Err(PemError::NoCertificate {
            path: path.to_owned(),
        });
    }
    Ok(list)
}

/// The first private key of a file that nobody else may read.
pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    let text = read(path)?;
    check_mode(path)?;
    let found = items(path, &text);
    let key = found
        .as_ref()
        .ok()
        .into_iter()
        .flatten()
        .find_map(|item| match item {
            Item::Pkcs1Key(key) => Some(key.clone_key().into()),
            Item::Pkcs8Key(key) => Some(key.clone_key().into()),
            Item::Sec1Key(key) => Some(key.clone_key().into()),
            _ => None,
        });
    match key {
        // OpenSSL's old form says it in a header of an otherwise ordinary key.
        _ if contains(&text, b"ENCRYPTED") => Err(PemError::Encrypted {
            path: path.to_owned(),
        }),
        Some(key) => Ok(key),
        None => {
            found?;
            Err(PemError::NoKey {
                path: path.to_owned(),
            })
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let text = fs::read(path).map_err(|source| PemError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(Zeroizing::new(text))
}

fn items(path: &Path, text: &[u8]) -> Result<Vec<Item>, PemError> {
    rustls_pemfile::read_all(&mut &*text)
        .collect::<io::Result<_>>()
        .map_err(|source| PemError::Damaged {
            path: path.to_owned(),
            source,
        })
}

fn check_mode(path: &Path) -> Result<(), PemError> {
    let status = fs::metadata(path);
    let mode = status.map_err(|source| PemError::Read {
        path: path.to_owned(),
        source,
    })?;
    let mode = mode.permissions().mode();
    if mode & 0o006 != 0 {
        return Err(PemError::Exposed {
            path: path.to_owned(),
        });
    }
    if mode & 0o040 != 0 {
        tracing::warn!(path = %path.display(), "the group of this private key can read it");
    }
    Ok(())
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    memchr::memmem::find(text, word).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).unwrap();
        file
    }

    /// What is said about a key file, without its path.
    fn said(text: &str, mode: u32) -> String {
        let file = file(text, mode);
        let error = private_key(file.path()).unwrap_err().to_string();
        error.replace(&file.path().display().to_string(), "FILE")
    }

    #[test]
    fn a_key_is_read_in_every_common_form_behind_a_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default()
            .self_signed(&key)
            .unwrap();
        let both = file(&(certificate.pem() + &key.serialize_pem()), 0o600);
        assert_eq!(
            certificates(both.path()).unwrap(),
            [certificate.der().clone()]
        );
        assert_eq!(
            private_key(both.path()).unwrap().secret_der(),
            key.serialized_der()
        );
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_and_one_of_the_group_is_not() {
        let pem = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(
            said(&pem, 0o644),
            "FILE holds a private key that others can read: `chmod 600` it"
        );
        assert!(private_key(file(&pem, 0o640).path()).is_ok());
    }

    #[test]
    fn encrypted_keys_are_told_from_missing_ones() {
        let new =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n\
                   AAAA\n-----END RSA PRIVATE KEY-----\n";
        for text in [new, old] {
            assert!(
                said(text, 0o600).starts_with("FILE holds an encrypted private key"),
                "{text}"
            );
        }
        assert_eq!(said("nothing\n", 0o600), "FILE holds no private key");
    }

    #[test]
    fn errors_name_the_file() {
        let error = certificates(Path::new("/nonexistent/a.pem"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("cannot read /nonexistent/a.pem: "),
            "{error}"
        );
        let damaged = file(
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            0o600,
        );
        let error = certificates(damaged.path()).unwrap_err().to_string();
        assert!(error.contains("is not a proper PEM file"), "{error}");
        let empty = file("", 0o600);
        assert!(
            certificates(empty.path())
                .unwrap_err()
                .to_string()
                .ends_with("holds no certificate")
        );
    }
}
