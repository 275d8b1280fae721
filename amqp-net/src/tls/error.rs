//! What can be wrong with a TLS configuration.

use std::io;

use super::TlsVersion;

/// A TLS configuration that cannot work. What goes wrong with a server is a [`rustls::Error`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file or given octets are not what they should be.
    #[error("{place}: {problem}")]
    Material {
        /// The file's name, or "certificate or key in memory".
        place: String,
        /// What is wrong with it.
        problem: MaterialProblem,
    },
    /// The client certificate and its private key do not work: they do not belong together, or one is of a kind that rustls
    /// does not know.
    #[error("client certificate {certificate}: {error}")]
    ClientCertificate {
        /// Where the certificate is from.
        certificate: String,
        /// What rustls says.
        error: rustls::Error,
    },
    /// There is a private key and no certificate that it could belong to.
    #[error("private key {key}: there is no client certificate for it")]
    KeyWithoutCertificate {
        /// Where the key is from.
        key: String,
    },
    /// The system has no root certificates, or none that can be read.
    #[error(
        "the system has no root certificates; name the authority to trust{}",
        reason(message)
    )]
    NoSystemRoots {
        /// What was said where they were looked for; may be empty.
        message: String,
    },
    /// Nobody is trusted, so that no server could be verified.
    #[error("no authority is trusted, so that no server could be verified")]
    NoRoots,
    /// The oldest version is newer than the newest one.
    #[error("min_version {min} is above max_version {max}")]
    Versions {
        /// The oldest version to speak.
        min: TlsVersion,
        /// The newest version to speak.
        max: TlsVersion,
    },
    /// No cipher suite has this name.
    #[error("cipher suite {name:?} is not available; there are {}", available.join(", "))]
    UnknownCipherSuite {
        /// The name.
        name: String,
        /// The names of those that are available.
        available: Vec<String>,
    },
    /// None of the cipher suites belongs to a version that may be spoken.
    #[error("cipher_suites: none of them belongs to a version of TLS that may be spoken")]
    NoCipherSuite,
    /// Neither an IP address nor a DNS name.
    #[error("server name {name:?} is neither an IP address nor a DNS name")]
    ServerName {
        /// The name of the host, or the one set in its place.
        name: String,
    },
    /// This was set together with a configuration of rustls, which has its own.
    #[error("{option}: cannot be set together with a configuration of rustls; set it there")]
    NotForRustls {
        /// What was set.
        option: &'static str,
    },
    /// rustls takes something else amiss.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// What is wrong with a certificate or a private key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MaterialProblem {
    /// The file cannot be read.
    #[error("cannot be read: {message}")]
    Read {
        /// What kind of error it is.
        kind: io::ErrorKind,
        /// The system's words.
        message: String,
    },
    /// Nothing in it is a certificate.
    #[error("has no certificate, neither as PEM nor as DER")]
    NoCertificate,
    /// Nothing in it is a private key.
    #[error("has no private key, neither as PEM nor as DER (PKCS#8, PKCS#1 or SEC1)")]
    NoPrivateKey,
    /// The private key is encrypted. Encrypted keys cannot be read, with or without their password.
    #[error("has an encrypted private key, which cannot be read; decrypt it with `openssl pkey`")]
    EncryptedPrivateKey,
    /// It is broken PEM.
    #[error("is broken PEM: {0}")]
    Pem(String),
    /// A certificate to trust cannot be understood.
    #[error("certificate number {number} cannot be trusted: {error}")]
    Certificate {
        /// Which one in the file, counted from 1.
        number: usize,
        /// What rustls says.
        error: rustls::Error,
    },
}

fn reason(message: &str) -> String {
    if message.is_empty() {
        return String::new();
    }
    format!(" ({message})")
}
