//! Files and octets: what is read from them, and what is said about those that are no good.

use std::fs;
use std::path::{Path, PathBuf};

use amqp_net::{MaterialProblem, TlsConfig, TlsError, TlsMaterial};
use amqp_proto::TlsParameters;

use crate::authority::{Authority, Identity};
use crate::handshake::{Server, trusting};

const HOST: &str = "broker.example";

fn key_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/keys")
        .join(name)
}

fn key_text(name: &str) -> String {
    fs::read_to_string(key_file(name)).unwrap()
}

/// The octets inside a PEM file.
fn der(pem: &str) -> Vec<u8> {
    use amqp_net::rustls::pki_types::PrivateKeyDer;
    use amqp_net::rustls::pki_types::pem::PemObject;
    PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .secret_der()
        .to_vec()
}

/// Files for one test, gone when it is over.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What is wrong with a material, and where it is.
#[track_caller]
fn problem(config: &TlsConfig, place: &str) -> MaterialProblem {
    match config.build() {
        Err(TlsError::Material {
            place: named,
            problem,
        }) => {
            assert_eq!(named, place);
            problem
        }
        other => panic!("{other:?}"),
    }
}

/// An authority, a server that demands its certificates, and a client without one.
fn demanding() -> (Authority, Server, TlsConfig) {
    let authority = Authority::new("A");
    let server = Server::demanding(&authority.identity(&[HOST]), &authority);
    let client = trusting(&authority);
    (authority, server, client)
}

#[test]
fn a_private_key_may_have_any_of_the_three_forms() {
    let (authority, server, client) = demanding();
    for (form, same_key) in [
        ("rsa_pkcs8.pem", "rsa_pkcs8.pem"),
        ("rsa_pkcs1.pem", "rsa_pkcs8.pem"),
        ("ec_pkcs8.pem", "ec_pkcs8.pem"),
        ("ec_sec1.pem", "ec_pkcs8.pem"),
    ] {
        let identity = authority.identity_with_key(&["ann"], &key_text(same_key));
        let chain = TlsMaterial::memory(identity.pem);
        for key in [
            TlsMaterial::file(key_file(form)),
            TlsMaterial::memory(key_text(form)),
            TlsMaterial::memory(der(&key_text(form))),
        ] {
            let config = client.clone().client_certificate(chain.clone(), key);
            assert_eq!(
                server.meets(&config, HOST).unwrap().client_certificates,
                1,
                "{form}"
            );
        }
    }
}

#[test]
fn a_chain_may_be_der() {
    let (authority, server, client) = demanding();
    let identity = authority.identity(&["ann"]);
    let config = client.client_certificate(
        TlsMaterial::memory(identity.chain[0].to_vec()),
        TlsMaterial::memory(identity.key),
    );
    assert_eq!(server.meets(&config, HOST).unwrap().client_certificates, 1);
}

#[test]
fn encrypted_keys_say_so() {
    for name in ["encrypted_pkcs8.pem", "encrypted_pkcs1.pem", "encrypted_sec1.pem"] {
        let path = key_file(name);
        let key = TlsMaterial::file(&path);
        let config = with_client(&Authority::new("A"), key);
        assert_eq!(
            problem(&config, path.to_str().unwrap()),
            MaterialProblem::EncryptedPrivateKey
        );
    }
    let in_der = key_text("encrypted_pkcs8.pem").replace("ENCRYPTED ", "");
    let config = with_client(&Authority::new("A"), TlsMaterial::memory(der(&in_der)));
    assert_eq!(
        problem(&config, "certificate or key in memory"),
        MaterialProblem::EncryptedPrivateKey
    );
    let text = TlsError::Material {
        place: "client.key".into(),
        problem: MaterialProblem::EncryptedPrivateKey,
    };
    assert_eq!(
        text.to_string(),
        "client.key: has an encrypted private key, which cannot be read; decrypt it with `openssl pkey`"
    );
}

/// A client with a good certificate and this key.
fn with_client(authority: &Authority, key: TlsMaterial) -> TlsConfig {
    trusting(authority).client_certificate(TlsMaterial::memory(authority.identity(&["ann"]).pem), key)
}

#[test]
fn parameters_name_files() {
    let (authority, server, _) = demanding();
    let folder = Folder::new("parameters_name_files");
    let Identity { pem, key, .. } = authority.identity(&["ann"]);
    let parameters = TlsParameters::default().ca_certificate(folder.file("ca.pem", authority.pem()));
    let separate = parameters
        .clone()
        .client_certificate(folder.file("client.pem", &pem), folder.file("client.key", &key));
    let mut together = parameters.clone();
    together.client_certificate = Some(folder.file("both.pem", pem + &key));
    for parameters in [separate, together] {
        let session = server
            .meets(&TlsConfig::from_parameters(&parameters), HOST)
            .unwrap();
        assert_eq!(session.client_certificates, 1);
    }

    // Depth arrives.
    let chained = authority.intermediate("between");
    let chained = Server::new(&chained.identity(&[HOST]).with(&chained));
    assert!(
        chained
            .meets(&TlsConfig::from_parameters(&parameters), HOST)
            .is_ok()
    );
    let shallow = TlsConfig::from_parameters(&parameters.clone().depth(0));
    assert!(chained.meets(&shallow, HOST).is_err());

    let mut keyless = parameters;
    keyless.private_key = Some("client.key".into());
    assert_eq!(
        TlsConfig::from_parameters(&keyless)
            .build()
            .unwrap_err()
            .to_string(),
        "private key client.key: there is no client certificate for it"
    );
}

#[test]
fn files_are_read_again_by_each_build() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let server = Server::new(&ours.identity(&[HOST]));
    let folder = Folder::new("files_are_read_again_by_each_build");
    let path = folder.file("ca.pem", other.pem());
    let config = TlsConfig::new().trust_only(TlsMaterial::file(&path));
    assert!(server.meets(&config, HOST).is_err());
    folder.file("ca.pem", ours.pem());
    server.meets(&config, HOST).unwrap();
}

#[test]
fn files_that_are_missing_are_named() {
    let authority = Authority::new("A");
    let folder = Folder::new("files_that_are_missing_are_named");
    let good = folder.file("good.pem", authority.pem() + &key_text("ec_pkcs8.pem"));
    let missing = folder.0.join("missing.pem");
    let missing = missing.to_str().unwrap();
    let [absent, present] = [missing, &good].map(TlsMaterial::file);
    for config in [
        TlsConfig::new().trust_only(absent.clone()),
        trusting(&authority).client_certificate(absent.clone(), present.clone()),
        trusting(&authority).client_certificate(present, absent),
    ] {
        assert!(matches!(
            problem(&config, missing),
            MaterialProblem::Read {
                kind: std::io::ErrorKind::NotFound,
                ..
            }
        ));
        let text = config.build().unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("{missing}: cannot be read: No such file")),
            "{text}"
        );
    }
}

#[test]
fn garbage_is_told_from_what_is_only_missing() {
    let certificate = Authority::new("A").pem();
    let (begin, _) = certificate.split_at(60);
    let not_base64 = certificate.replace("MII", "M?I");
    let pem = |text: &str| MaterialProblem::Pem(text.into());
    for (content, expected) in [
        ("", MaterialProblem::NoCertificate),
        ("no certificate here\n", MaterialProblem::NoCertificate),
        (&key_text("ec_pkcs8.pem"), MaterialProblem::NoCertificate),
        (begin, pem("a section has no end")),
        (
            "-----BEGIN CERTIFICATE\nAA==\n",
            pem("the start of a section is malformed"),
        ),
        (&not_base64, pem("base64 decode error: InvalidCharacter(63)")),
    ] {
        let roots = TlsMaterial::memory(content);
        let config = TlsConfig::new().trust_only(roots.clone());
        assert_eq!(
            problem(&config, "certificate or key in memory"),
            expected,
            "{content}"
        );
        let config = trusting(&Authority::new("A"))
            .client_certificate(roots, TlsMaterial::file(key_file("ec_pkcs8.pem")));
        assert_eq!(
            problem(&config, "certificate or key in memory"),
            expected,
            "{content}"
        );
    }
}

#[test]
fn a_bad_certificate_in_a_bundle_is_counted_out() {
    let good = Authority::new("A").pem();
    let bad = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let config = TlsConfig::new().trust_only(TlsMaterial::memory(good + bad));
    assert!(matches!(
        problem(&config, "certificate or key in memory"),
        MaterialProblem::Certificate { number: 2, .. }
    ));
}

#[test]
fn what_is_no_key_or_another_ones_is_refused() {
    let authority = Authority::new("A");
    let other_key = TlsMaterial::file(key_file("ec_pkcs8.pem"));
    assert!(matches!(
        with_client(&authority, other_key).build(),
        Err(TlsError::ClientCertificate { .. })
    ));
    for octets in [
        authority.pem().into_bytes(),
        authority.der().to_vec(),
        Vec::new(),
        b"\x30".to_vec(),
        b"key".to_vec(),
    ] {
        let config = with_client(&authority, TlsMaterial::memory(octets));
        assert_eq!(
            problem(&config, "certificate or key in memory"),
            MaterialProblem::NoPrivateKey
        );
    }
}

#[test]
fn keys_are_not_printed() {
    let key = key_text("ec_pkcs8.pem");
    let config = with_client(&Authority::new("A"), TlsMaterial::memory(key.as_str()));
    let shown = format!("{config:?}");
    assert!(shown.contains("***") && !shown.contains("MIGH"), "{shown}");
    let octets = format!("{:?}", key.as_bytes());
    assert!(!shown.contains(&octets[..40]));
}
