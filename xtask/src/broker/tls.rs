//! Certificates for the private node and its clients.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The common name of the client certificate: RabbitMQ's EXTERNAL mechanism takes it for the user's name.
pub(super) const CLIENT_USER: &str = "certuser";

/// Where the certificates and keys are, all in PEM.
#[derive(Debug)]
pub(super) struct TlsFiles {
    pub(super) authority: PathBuf,
    pub(super) server: Identity,
    pub(super) client: Identity,
}

/// A certificate and its private key.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}

impl TlsFiles {
    /// The files' names in this folder.
    pub(super) fn in_folder(folder: &Path) -> Self {
        let identity = |name: &str| Identity {
            certificate: folder.join(format!("{name}.pem")),
            key: folder.join(format!("{name}.key")),
        };
        Self {
            authority: folder.join("ca.pem"),
            server: identity("server"),
            client: identity("client"),
        }
    }

    /// Makes an authority, whose key nobody keeps, and with it certificates for the server and a client.
    pub(super) fn create(&self) -> Result<()> {
        let mut authority = named("Test CA of xtask", &[])?;
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        fs::write(&self.authority, authority.pem())?;

        let mut server = named("localhost", &["localhost", "127.0.0.1", "::1"])?;
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.server.create(server, &authority)?;

        let mut client = named(CLIENT_USER, &[CLIENT_USER])?;
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.client.create(client, &authority)
    }
}

impl Identity {
    fn create(&self, mut params: CertificateParams, authority: &CertifiedIssuer<'_, KeyPair>) -> Result<()> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        fs::write(&self.certificate, params.signed_by(&key, authority)?.pem())?;
        Ok(fs::write(&self.key, key.serialize_pem())?)
    }
}

fn named(common_name: &str, alternatives: &[&str]) -> Result<CertificateParams> {
    let alternatives: Vec<_> = alternatives.iter().copied().map(String::from).collect();
    let mut params = CertificateParams::new(alternatives)?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok(params)
}
