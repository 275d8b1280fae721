//! How to speak TLS with a broker, as a value.

mod error;
mod material;
mod verifier;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use amqp_proto::{PeerVerification, ServerName, TlsParameters};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedCipherSuite, SupportedProtocolVersion};

pub use error::{MaterialProblem, TlsError};
pub use material::TlsMaterial;
use verifier::{AnyServer, LimitedDepth};

/// How to speak TLS with a broker: whom to trust, who we are, which versions and suites.
///
/// The default trusts the system's roots (or those in the file or folder that the environment variables `SSL_CERT_FILE` and
/// `SSL_CERT_DIR` name), checks the server's certificate for the host's name, sends that name (server name
/// indication), offers TLS 1.2 and 1.3 with every suite that rustls has for them, and has no client certificate. There is no
/// ALPN, since AMQP has no name for it; sessions are resumed as rustls does it. Older versions of TLS do not exist in rustls.
///
/// Nothing is read or checked before [`build`](Self::build).
///
/// ```
/// use amqp_net::{TlsConfig, TlsError, TlsMaterial, TlsVersion};
///
/// let config = TlsConfig::new()
///     .trust_only(TlsMaterial::file("ca.pem"))
///     .client_certificate(TlsMaterial::file("client.pem"), TlsMaterial::file("client.key"))
///     .min_version(TlsVersion::Tls13);
/// let error = config.build().unwrap_err();
/// assert!(error.to_string().starts_with("ca.pem: cannot be read: "));
/// ```
#[derive(Clone, Debug, Default)]
pub struct TlsConfig {
    /// The user's own; nothing else counts then but the server's name.
    ready: Option<Arc<ClientConfig>>,
    no_system_roots: bool,
    roots: Vec<TlsMaterial>,
    certificate: Option<TlsMaterial>,
    private_key: Option<TlsMaterial>,
    min_version: Option<TlsVersion>,
    max_version: Option<TlsVersion>,
    cipher_suites: Option<Vec<String>>,
    verification: PeerVerification,
    server_name: ServerName,
    depth: Option<u32>,
}

impl TlsConfig {
    /// The suites that Amazon MQ's documentation names for TLS 1.2, then those of TLS 1.3.
    const AMAZON_MQ: [&str; 5] = [
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ];

    /// The default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For Amazon MQ: with TLS 1.2 only `ECDHE_RSA` with AES-GCM, which pika's users write as `ECDHE+AESGCM:!ECDSA`; with TLS
    /// 1.3, where the broker has it, all of its suites. Add [`max_version`](Self::max_version) for TLS 1.2 exactly.
    #[must_use]
    pub fn amazon_mq() -> Self {
        Self::new().cipher_suites(Self::AMAZON_MQ)
    }

    /// What a URI's query or a program says as data. The files are read by [`build`](Self::build).
    ///
    /// [`ca_certificate`](TlsParameters#structfield.ca_certificate) replaces the system's roots. Without
    /// [`private_key`](TlsParameters#structfield.private_key), the key is looked for in the certificate's file.
    /// [`key_password`](TlsParameters#structfield.key_password) is of no use, as encrypted keys cannot be read.
    #[must_use]
    pub fn from_parameters(parameters: &TlsParameters) -> Self {
        let file = |path: &Option<String>| path.as_deref().map(TlsMaterial::file);
        let certificate = file(&parameters.client_certificate);
        Self {
            no_system_roots: parameters.ca_certificate.is_some(),
            roots: file(&parameters.ca_certificate).into_iter().collect(),
            private_key: file(&parameters.private_key).or_else(|| certificate.clone()),
            certificate,
            verification: parameters.verification,
            server_name: parameters.server_name.clone(),
            depth: parameters.depth,
            ..Self::default()
        }
    }

    /// A configuration that was made with rustls itself, for what is not possible here. Only
    /// [`server_name`](Self::server_name) can be set besides it.
    #[must_use]
    pub fn from_rustls(config: Arc<ClientConfig>) -> Self {
        Self {
            ready: Some(config),
            ..Self::default()
        }
    }

    /// Trusts these authorities and no others: the system's roots and those named before are forgotten.
    #[must_use]
    pub fn trust_only(self, roots: TlsMaterial) -> Self {
        self.trust_none().also_trust(roots)
    }

    /// Trusts these authorities besides the system's and those named before.
    #[must_use]
    pub fn also_trust(mut self, roots: TlsMaterial) -> Self {
        self.roots.push(roots);
        self
    }

    /// Trusts nobody: the system's roots and those named before are forgotten. The start of a list of
    /// [`also_trust`](Self::also_trust); on its own there is nothing to verify a server with.
    #[must_use]
    pub fn trust_none(mut self) -> Self {
        self.no_system_roots = true;
        self.roots.clear();
        self
    }

    /// Shows the server this certificate, with the chain that follows it, if it asks for one. The key may be PKCS#8, PKCS#1
    /// or SEC1, and may be in the same file; it must not be encrypted.
    #[must_use]
    pub fn client_certificate(mut self, chain: TlsMaterial, private_key: TlsMaterial) -> Self {
        self.certificate = Some(chain);
        self.private_key = Some(private_key);
        self
    }

    /// Speaks no older version. Default: TLS 1.2.
    #[must_use]
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = Some(version);
        self
    }

    /// Speaks no newer version. Default: TLS 1.3.
    #[must_use]
    pub fn max_version(mut self, version: TlsVersion) -> Self {
        self.max_version = Some(version);
        self
    }

    /// Offers only these suites, the preferred one first, by the names of IANA's registry, such as
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`. A version of TLS that none of them belongs to is not offered.
    #[must_use]
    pub fn cipher_suites<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.cipher_suites = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Whether the server has to prove who it is. Default: it has to.
    ///
    /// **[`PeerVerification::VerifyNone`] makes TLS worthless against whoever can get between**: any certificate is accepted,
    /// of anybody, so that they read the password and everything after it. Only that the server has the key of the
    /// certificate it shows is still checked. For tests; a broker with a certificate of its own making is what
    /// [`trust_only`](Self::trust_only) is for.
    #[must_use]
    pub fn verification(mut self, verification: PeerVerification) -> Self {
        self.verification = verification;
        self
    }

    /// The name that is sent to the server (server name indication) and that its certificate must be for. Default: the
    /// host's.
    #[must_use]
    pub fn server_name(mut self, name: ServerName) -> Self {
        self.server_name = name;
        self
    }

    /// How many intermediate certificates may lie between the server's and a trusted one; rustls takes at most six. What the
    /// server sends beyond that many is not looked at, so the server has to send its chain in order, as TLS 1.2 demands.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = Some(depth);
        self
    }

    /// Reads the files and makes what rustls works with.
    ///
    /// It may read the disk, and the system's roots are hundreds of certificates: build once, not for every connection, also
    /// because rustls keeps in it what it needs to resume sessions. Build again to see files that were renewed.
    ///
    /// # Errors
    /// Why it cannot work, with the name of the file if there is one.
    pub fn build(&self) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(config) = &self.ready {
            return self.build_ready(config);
        }
        let versions = self.versions()?;
        let provider = Arc::new(self.provider(&versions)?);
        let builder =
            ClientConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(&versions)?;
        let builder = match self.verification {
            PeerVerification::VerifyNone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyServer::new(&provider))),
            _ => {
                let verifier = self.verifier(provider)?;
                match self.depth {
                    None => builder.with_webpki_verifier(verifier),
                    Some(depth) => builder
                        .dangerous()
                        .with_custom_certificate_verifier(Arc::new(LimitedDepth::new(verifier, depth))),
                }
            }
        };
        let mut config = match (&self.certificate, &self.private_key) {
            (None, None) => builder.with_no_client_auth(),
            (None, Some(key)) => return Err(TlsError::KeyWithoutCertificate { key: key.to_string() }),
            (Some(certificate), key) => {
                let key = key.as_ref().unwrap_or(certificate).private_key()?;
                let chain = certificate.certificates()?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| TlsError::ClientCertificate {
                        certificate: certificate.to_string(),
                        error,
                    })?
            }
        };
        config.enable_sni = self.server_name != ServerName::Disable;
        Ok(Arc::new(config))
    }

    /// The name that rustls asks the server for and checks its certificate for, if this is the host of the connection. An IP
    /// address has to be among the certificate's IP addresses; the zone of one ("fe80::1%eth0") is cut off, since it means
    /// something on this machine only.
    ///
    /// # Errors
    /// [`TlsError::ServerName`] for what is neither an IP address nor a DNS name. Names in other scripts have to be written as
    /// DNS has them ("xn--…").
    pub fn server_name_for(&self, host: &str) -> Result<pki_types::ServerName<'static>, TlsError> {
        let name = match &self.server_name {
            ServerName::Name(name) => name,
            _ => host,
        };
        let address = name.split_once('%').map_or(name, |(address, _zone)| address);
        match address.parse::<IpAddr>() {
            Ok(address) => Ok(address.into()),
            Err(_) => pki_types::ServerName::try_from(name.to_owned()).map_err(|_| TlsError::ServerName {
                name: name.to_owned(),
            }),
        }
    }

    fn build_ready(&self, config: &Arc<ClientConfig>) -> Result<Arc<ClientConfig>, TlsError> {
        if let Some(option) = self.first_option_set() {
            return Err(TlsError::NotForRustls { option });
        }
        if self.server_name != ServerName::Disable {
            return Ok(Arc::clone(config));
        }
        let mut config = ClientConfig::clone(config);
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    fn first_option_set(&self) -> Option<&'static str> {
        let options = [
            ("trusted roots", self.no_system_roots || !self.roots.is_empty()),
            ("client_certificate", self.certificate.is_some()),
            ("min_version", self.min_version.is_some()),
            ("max_version", self.max_version.is_some()),
            ("cipher_suites", self.cipher_suites.is_some()),
            ("verification", self.verification != PeerVerification::default()),
            ("depth", self.depth.is_some()),
        ];
        options
            .into_iter()
            .find_map(|(name, is_set)| is_set.then_some(name))
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
        let min = self.min_version.unwrap_or(TlsVersion::Tls12);
        let max = self.max_version.unwrap_or(TlsVersion::Tls13);
        let versions: Vec<_> = [TlsVersion::Tls12, TlsVersion::Tls13]
            .into_iter()
            .filter(|version| (min..=max).contains(version))
            .map(TlsVersion::rustls)
            .collect();
        if versions.is_empty() {
            return Err(TlsError::Versions { min, max });
        }
        Ok(versions)
    }

    fn provider(&self, versions: &[&SupportedProtocolVersion]) -> Result<CryptoProvider, TlsError> {
        let mut provider = ring::default_provider();
        let Some(names) = &self.cipher_suites else {
            return Ok(provider);
        };
        let available = provider.cipher_suites;
        provider.cipher_suites = names
            .iter()
            .map(|name| find_suite(&available, name))
            .collect::<Result<_, _>>()?;
        let is_usable = |suite: &SupportedCipherSuite| versions.contains(&suite.version());
        if !provider.cipher_suites.iter().any(is_usable) {
            return Err(TlsError::NoCipherSuite);
        }
        Ok(provider)
    }

    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
        let roots = Arc::new(self.root_store()?);
        WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| TlsError::Rustls(rustls::Error::General(error.to_string())))
    }

    fn root_store(&self) -> Result<RootCertStore, TlsError> {
        let mut store = RootCertStore::empty();
        if !self.no_system_roots {
            let found = rustls_native_certs::load_native_certs();
            // A system's store may hold what is too old for rustls. Whoever needs that one learns it from the handshake.
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
                return Err(TlsError::NoSystemRoots {
                    message: errors.join("; "),
                });
            }
        }
        for root in &self.roots {
            root.add_to(&mut store)?;
        }
        if store.is_empty() {
            return Err(TlsError::NoRoots);
        }
        Ok(store)
    }
}

impl From<&TlsParameters> for TlsConfig {
    fn from(parameters: &TlsParameters) -> Self {
        Self::from_parameters(parameters)
    }
}

fn find_suite(available: &[SupportedCipherSuite], name: &str) -> Result<SupportedCipherSuite, TlsError> {
    available
        .iter()
        .find(|suite| suite_name(suite) == name)
        .copied()
        .ok_or_else(|| TlsError::UnknownCipherSuite {
            name: name.to_owned(),
            available: available.iter().map(suite_name).collect(),
        })
}

/// The name in IANA's registry. rustls writes those of TLS 1.3 with a prefix of its own.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl TlsVersion {
    fn rustls(self) -> &'static SupportedProtocolVersion {
        match self {
            Self::Tls12 => &TLS12,
            Self::Tls13 => &TLS13,
        }
    }
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLS 1.2",
            Self::Tls13 => "TLS 1.3",
        })
    }
}
