//! Authorities and what they sign, made for one test.

use amqp_net::TlsMaterial;
use amqp_net::rustls::pki_types::pem::PemObject;
use amqp_net::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

pub(crate) const RSA_KEY: &str = include_str!("../keys/rsa_pkcs8.pem");

/// Whoever signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// One that signs itself.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(authority(name), key).unwrap())
    }

    /// One that this one answers for.
    pub(crate) fn intermediate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(authority(name), key, &self.0).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem().as_bytes()).unwrap()
    }

    pub(crate) fn material(&self) -> TlsMaterial {
        TlsMaterial::memory(self.pem())
    }

    /// A certificate for these names and addresses.
    pub(crate) fn identity(&self, names: &[&str]) -> Identity {
        self.sign(names, KeyPair::generate().unwrap())
    }

    /// One whose key is this one, as PEM.
    pub(crate) fn identity_with_key(&self, names: &[&str], key: &str) -> Identity {
        self.sign(names, KeyPair::from_pem(key).unwrap())
    }

    fn sign(&self, names: &[&str], key: KeyPair) -> Identity {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        Identity {
            pem: certificate.pem(),
            chain: vec![certificate.into()],
            key: key.serialize_pem(),
        }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// A certificate with its key.
pub(crate) struct Identity {
    pub(crate) pem: String,
    pub(crate) key: String,
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl Identity {
    /// Sends this certificate too.
    pub(crate) fn with(mut self, intermediate: &Authority) -> Self {
        self.chain.push(intermediate.der());
        self.pem.push_str(&intermediate.pem());
        self
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }
}
