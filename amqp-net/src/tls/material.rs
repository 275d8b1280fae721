//! Certificates and keys, from files or from memory, as PEM or DER.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use amqp_proto::Secret;
use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{MaterialProblem, TlsError};

/// How DER begins: with a sequence. PEM begins with text.
const DER_SEQUENCE: u8 = 0x30;

/// The object identifier of PKCS#5, 1.2.840.113549.1.5, in DER: what an encrypted key begins to say how it is encrypted.
const PKCS5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05];

/// Certificates or a private key: in a file or in memory; PEM, with any number of certificates, or DER, with one thing.
///
/// `Display` is the file's name. `Debug` does not show what is in memory, since it may be a key.
#[derive(Clone, Debug)]
pub struct TlsMaterial(Origin);

#[derive(Clone, Debug)]
enum Origin {
    File(PathBuf),
    Memory(Secret),
}

impl TlsMaterial {
    /// This file, which [`TlsConfig::build`](super::TlsConfig::build) reads.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Origin::File(path.into()))
    }

    /// These octets.
    pub fn memory(octets: impl Into<Vec<u8>>) -> Self {
        Self(Origin::Memory(Secret::new(octets)))
    }

    /// Every certificate in it, in their order; at least one.
    pub(super) fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let octets = self.read()?;
        let octets = octets.expose();
        if octets.first() == Some(&DER_SEQUENCE) {
            return Ok(vec![CertificateDer::from(octets.to_vec())]);
        }
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(octets)
            .collect::<Result<_, _>>()
            .map_err(|error| self.problem(broken(&error)))?;
        if certificates.is_empty() {
            return Err(self.problem(MaterialProblem::NoCertificate));
        }
        Ok(certificates)
    }

    /// The first private key in it.
    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let octets = self.read()?;
        let octets = octets.expose();
        if octets.first() == Some(&DER_SEQUENCE) {
            return PrivateKeyDer::try_from(octets)
                .map(|key| key.clone_key())
                .map_err(|_| {
                    self.problem(if octets.windows(PKCS5.len()).any(|part| part == PKCS5) {
                        MaterialProblem::EncryptedPrivateKey
                    } else {
                        MaterialProblem::NoPrivateKey
                    })
                });
        }
        PrivateKeyDer::from_pem_slice(octets).map_err(|error| {
            self.problem(match error {
                _ if is_encrypted(octets) => MaterialProblem::EncryptedPrivateKey,
                pem::Error::NoItemsFound => MaterialProblem::NoPrivateKey,
                error => broken(&error),
            })
        })
    }

    pub(super) fn add_to(&self, store: &mut RootCertStore) -> Result<(), TlsError> {
        for (number, certificate) in (1..).zip(self.certificates()?) {
            store
                .add(certificate)
                .map_err(|error| self.problem(MaterialProblem::Certificate { number, error }))?;
        }
        Ok(())
    }

    fn read(&self) -> Result<Secret, TlsError> {
        match &self.0 {
            Origin::Memory(octets) => Ok(octets.clone()),
            Origin::File(path) => fs::read(path).map(Secret::new).map_err(|error| {
                self.problem(MaterialProblem::Read {
                    kind: error.kind(),
                    message: error.to_string(),
                })
            }),
        }
    }

    fn problem(&self, problem: MaterialProblem) -> TlsError {
        TlsError::Material {
            place: self.to_string(),
            problem,
        }
    }
}

impl fmt::Display for TlsMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origin::File(path) => path.display().fmt(f),
            Origin::Memory(_) => f.write_str("certificate or key in memory"),
        }
    }
}

/// As PKCS#8 or in the older way of OpenSSL.
fn is_encrypted(pem: &[u8]) -> bool {
    let text = String::from_utf8_lossy(pem);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// In words, for the library's own show lines as lists of octets.
fn broken(error: &pem::Error) -> MaterialProblem {
    MaterialProblem::Pem(match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end".into(),
        pem::Error::IllegalSectionStart { .. } => "the start of a section is malformed".into(),
        other => other.to_string(),
    })
}
